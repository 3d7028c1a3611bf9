import { Stripe } from 'stripe';
import { describe, expect, test, vi } from 'vitest';

import { programmeOf } from '../src/programme.ts';
import { openCheckout } from '../src/stripe/checkout.ts';
import { clientOf, DAY, deliver, PASSWORD, postForm, signUp, userRow } from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import {
  deliverWaiting,
  letBankDecide,
  refuseToExpire,
  openSessions,
  passTime,
  pressUpgrade,
  sessionIdOf,
  startWorld,
  subscribe,
} from './support/stand-in.ts';
import type { World } from './support/stand-in.ts';
import { buyer } from './support/stripe-events.ts';

/** Watches the requests that create a checkout session; they reach the stand-in all the same. */
function spyOnCreation(world: World) {
  return vi.spyOn(clientOf(world).checkout.sessions, 'create');
}

/** Stripe creates the next one, but its answer is lost. */
function loseNextAnswer(resource: { create: (...args: never[]) => Promise<unknown> }): void {
  const create = resource.create.bind(resource);
  vi.spyOn(resource, 'create').mockImplementationOnce(async (...args) => {
    await create(...args);
    throw new Stripe.errors.StripeConnectionError({ message: 'lost', type: 'api_error' });
  });
}

describe('a checkout', () => {
  test('creates one customer, names our user, and sells the plan, by card only', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const creating = spyOnCreation(world);
    const url = await pressUpgrade(world, ann, 'annual');
    // Stripe's session does not say this, so look at what it is asked for.
    expect(creating.mock.calls).toMatchObject([[{ allowed_payment_method_types: ['card'] }, {}]]);
    const session = world.sandbox.objects.checkouts.get(sessionIdOf(url));
    expect(session).toMatchObject({
      client_reference_id: ann.id,
      metadata: { userId: ann.id },
      success_url: 'http://tandem.test/settings?checkout=done',
    });
    expect([...world.sandbox.objects.customers.keys()]).toEqual([session?.customer]);
    expect(await world.db.customer.findMany()).toMatchObject([{ id: session?.customer, userId: ann.id }]);
    const { subscription } = world.sandbox.acts.pay(sessionIdOf(url));
    expect(world.sandbox.objects.subscriptions.get(subscription ?? '')).toMatchObject({
      metadata: { userId: ann.id, plan: 'annual' },
      items: { data: [{ price: { id: 'price_a' } }] },
    });
  });

  test('pressing Upgrade again for the same plan opens the same checkout', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const first = await pressUpgrade(world, ann);
    expect(await pressUpgrade(world, ann)).toBe(first);
    expect(openSessions(world)).toHaveLength(1);
  });

  test.each(['customer', 'session'])(
    'opens when Stripe is still working on the %s of the first click of a double click',
    async (what) => {
      const world = await startWorld();
      const ann = await signUp(world, 'ann@example.com');
      const { customers, checkout } = clientOf(world);
      const working = new Stripe.errors.StripeAPIError({
        message: 'busy',
        type: 'api_error',
        statusCode: 409,
        code: 'idempotency_key_in_use',
      } as never);
      vi.spyOn(what === 'customer' ? customers : checkout.sessions, 'create').mockRejectedValueOnce(working);
      expect(await pressUpgrade(world, ann)).toContain('/checkout/');
      expect(openSessions(world)).toHaveLength(1);
    },
  );

  test('choosing another plan closes the first checkout', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const monthly = sessionIdOf(await pressUpgrade(world, ann, 'monthly'));
    const annual = sessionIdOf(await pressUpgrade(world, ann, 'annual'));
    expect(openSessions(world)).toEqual([annual]);
    expect(world.sandbox.objects.checkouts.get(monthly)).toMatchObject({ status: 'expired' });
  });

  test('of another plan also ends a first payment that the bank has yet to approve', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const unfinished = await subscribe(world, ann, { outcome: 'incomplete' });
    const paid = world.sandbox.acts.pay(sessionIdOf(await pressUpgrade(world, ann, 'annual')));
    expect(() => {
      world.sandbox.acts.retryPayment(unfinished);
    }).toThrow();
    const live = [...world.sandbox.objects.subscriptions.values()].filter(
      ({ status }) => status === 'active',
    );
    expect(live.map(({ id }) => id)).toEqual([paid.subscription]);
  });

  test.each(['before', 'after'])(
    'of another plan is not opened when the bank approves the first payment just %s we ask Stripe about it',
    async (when) => {
      const world = await startWorld();
      const ann = await signUp(world, 'ann@example.com');
      const unfinished = await subscribe(world, ann, { outcome: 'incomplete' });
      const approve = () => {
        world.sandbox.acts.retryPayment(unfinished);
      };
      const { subscriptions } = clientOf(world);
      const list = subscriptions.list.bind(subscriptions);
      vi.spyOn(subscriptions, 'list').mockImplementationOnce((params) => {
        if (when === 'before') approve();
        const listed = list(params);
        if (when === 'before') return listed;
        return listed.then((page) => {
          approve();
          return page;
        }) as typeof listed;
      });
      expect(await pressUpgrade(world, ann, 'annual')).toContain('/portal/');
      await deliverWaiting(world);
      expect(world.sandbox.objects.subscriptions.get(unfinished)).toMatchObject({ status: 'active' });
      expect(await userRow(world, ann.id)).toMatchObject({ tier: 'paid' });
      expect(openSessions(world)).toEqual([]);
    },
  );

  test('leaves alone a first payment that was just made in another window', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await subscribe(world, ann, { outcome: 'incomplete' });
    const { subscriptions } = clientOf(world);
    const list = subscriptions.list.bind(subscriptions);
    let unfinished = '';
    const slow = vi.spyOn(subscriptions, 'list').mockImplementationOnce((params) => {
      const inOtherWindow = pressUpgrade(world, ann, 'annual');
      return inOtherWindow.then((url) => {
        unfinished = world.sandbox.acts.pay(sessionIdOf(url), { outcome: 'incomplete' }).subscription ?? '';
        return list(params);
      }) as ReturnType<typeof list>;
    });
    await postForm(world.app, '/api/billing/checkout', { plan: 'annual' }, ann.cookie);
    expect(slow).toHaveBeenCalled();
    world.sandbox.acts.retryPayment(unfinished);
    expect(world.sandbox.objects.subscriptions.get(unfinished)).toMatchObject({ status: 'active' });
  });

  test('with a trial is replaced once another account of the same person has had the trial', async () => {
    const world = await startWorld({ STRIPE_TRIAL_DAYS: '7' });
    const ann = await signUp(world, 'ann@example.com');
    const withTrial = await pressUpgrade(world, ann);
    await subscribe(world, await signUp(world, 'ann+other@example.com'));
    await deliverWaiting(world);
    const without = sessionIdOf(await pressUpgrade(world, ann));
    expect(openSessions(world)).toEqual([without]);
    expect(without).not.toBe(sessionIdOf(withTrial));
    const { subscription } = world.sandbox.acts.pay(without);
    expect(world.sandbox.objects.subscriptions.get(subscription ?? '')).toMatchObject({ status: 'active' });
  });

  test('of a customer whose deletion at Stripe we have heard of is replaced', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const first = await pressUpgrade(world, ann);
    const [customer = ''] = world.sandbox.objects.customers.keys();
    await world.merchant.customers.del(customer);
    await deliverWaiting(world);
    const second = await pressUpgrade(world, ann);
    expect(second).not.toBe(first);
    world.sandbox.acts.pay(sessionIdOf(second));
    await deliverWaiting(world);
    expect(await userRow(world, ann.id)).toMatchObject({ tier: 'paid' });
  });

  test('of another plan is opened even if the API key is not allowed to void invoices', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const unfinished = await subscribe(world, ann, { outcome: 'incomplete' });
    const refused = new Stripe.errors.StripePermissionError({ type: 'invalid_request_error' });
    vi.spyOn(clientOf(world).invoices, 'voidInvoice').mockRejectedValueOnce(refused);
    expect(await pressUpgrade(world, ann, 'annual')).toContain('/checkout/');
    expect(world.sandbox.objects.subscriptions.get(unfinished)).toMatchObject({ status: 'canceled' });
  });

  test('of another plan is refused while the bank decides about the first payment', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const unfinished = await subscribe(world, ann, { outcome: 'incomplete' });
    letBankDecide(world);
    const answer = await postForm(world.app, '/api/billing/checkout', { plan: 'annual' }, ann.cookie);
    expect(answer.statusCode).toBe(409);
    expect(answer.body).toContain('Your last payment is still being processed.');
    expect(world.sandbox.objects.subscriptions.get(unfinished)).toMatchObject({ status: 'incomplete' });
    expect(await pressUpgrade(world, ann, 'annual')).toContain('/checkout/');
  });

  test('of another plan is refused while the first page is open and Stripe does not close it', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await pressUpgrade(world, ann);
    refuseToExpire(world);
    const answer = await postForm(world.app, '/api/billing/checkout', { plan: 'annual' }, ann.cookie);
    expect(answer.statusCode).toBe(409);
    expect(answer.body).toContain('Your last payment is still being processed.');
    expect(await pressUpgrade(world, ann, 'annual')).toContain('/checkout/');
  });

  test('of another plan ends an unapproved first payment even if Stripe did not answer at first', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const unfinished = await subscribe(world, ann, { outcome: 'incomplete' });
    vi.spyOn(clientOf(world).subscriptions, 'list').mockImplementationOnce(() => {
      throw new Stripe.errors.StripeConnectionError({ message: 'lost', type: 'api_error' });
    });
    const answer = await postForm(world.app, '/api/billing/checkout', { plan: 'annual' }, ann.cookie);
    expect(answer.statusCode).toBe(502);
    expect(await pressUpgrade(world, ann, 'annual')).toContain('/checkout/');
    expect(() => {
      world.sandbox.acts.retryPayment(unfinished);
    }).toThrow();
  });

  test('Upgrade pressed in many tabs at once, for two plans, leaves at most one checkout that can be paid', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const plans = ['monthly', 'annual', 'monthly', 'annual', 'monthly', 'annual'] as const;
    const answers = await Promise.all(
      plans.map((plan) => postForm(world.app, '/api/billing/checkout', { plan }, ann.cookie)),
    );
    // A tab that lost the race too often is told to try again; no tab is sent to a second open session.
    for (const { statusCode } of answers) expect([303, 409]).toContain(statusCode);
    expect(answers.map(({ statusCode }) => statusCode)).toContain(303);
    expect(openSessions(world).length).toBeLessThanOrEqual(1);
    expect(world.sandbox.objects.customers.size).toBe(1);

    const last = sessionIdOf(await pressUpgrade(world, ann));
    expect(openSessions(world)).toEqual([last]);
    world.sandbox.acts.pay(last);
    const afterwards = await Promise.all(plans.map((plan) => pressUpgrade(world, ann, plan)));
    expect(new Set(afterwards)).toEqual(new Set(['/settings?checkout=done']));
    expect(openSessions(world)).toEqual([]);
  });

  test('pressing Upgrade after paying, before the webhook, leads to Settings, which waits for the payment', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await subscribe(world, ann);
    expect(await pressUpgrade(world, ann, 'annual')).toBe('/settings?checkout=done');
    expect(openSessions(world)).toEqual([]);
    const page = await world.app.inject({ url: '/settings?checkout=done', headers: { cookie: ann.cookie } });
    expect(page.body).toContain('waiting for Stripe to confirm your plan');
    await deliverWaiting(world);
    expect(await userRow(world, ann.id)).toMatchObject({ tier: 'paid' });
  });

  test('Upgrade leads a subscriber to the portal, whatever the status of a live subscription', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const subscription = await subscribe(world, ann);
    await deliverWaiting(world);
    expect(await pressUpgrade(world, ann)).toContain('/portal/');
    const rows = [
      ...['past_due', 'paused', 'unpaid', 'trialing'].map((status) => ({ status })),
      { status: 'active', collectionPaused: true },
    ];
    for (const data of rows) {
      await world.db.subscription.update({ where: { id: subscription }, data });
      expect(await pressUpgrade(world, ann)).toContain('/portal/');
    }
  });

  test('is opened again once the subscription is over', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await world.merchant.subscriptions.cancel(await subscribe(world, ann));
    await deliverWaiting(world);
    const url = await pressUpgrade(world, ann);
    expect(openSessions(world)).toEqual([sessionIdOf(url)]);
    expect(world.sandbox.objects.customers.size).toBe(1);
  });

  test('that Stripe refuses is tried again with a new key', async () => {
    const world = await startWorld({ STRIPE_PRICE_MONTHLY: 'price_gone' });
    const ann = await signUp(world, 'ann@example.com');
    const creating = spyOnCreation(world);
    for (let tries = 1; tries <= 2; tries += 1) {
      const answer = await postForm(world.app, '/api/billing/checkout', { plan: 'monthly' }, ann.cookie);
      expect(answer.statusCode).toBe(502);
      expect(await world.db.checkout.count()).toBe(0);
    }
    const keys = creating.mock.calls.map(([, options]) => options?.idempotencyKey);
    expect(keys).toEqual([expect.stringMatching(/^checkout-/), expect.stringMatching(/^checkout-/)]);
    expect(keys[0]).not.toBe(keys[1]);
    expect(await pressUpgrade(world, ann, 'annual')).toContain('/checkout/');
  });

  test.each(['customer', 'session'])(
    'opens after Stripe’s answer with the %s was lost, even if the address and the invitation have changed',
    async (lost) => {
      const world = await startWorld();
      const referrer = await signUp(world, 'referrer@example.com');
      const ann = await signUp(world, 'ann@example.com', referrer.code);
      const { customers, checkout } = clientOf(world);
      loseNextAnswer(lost === 'customer' ? customers : checkout.sessions);
      const answer = await postForm(world.app, '/api/billing/checkout', { plan: 'monthly' }, ann.cookie);
      expect(answer.statusCode).toBe(502);
      const form = { email: 'new@example.com', currentPassword: PASSWORD };
      expect((await postForm(world.app, '/settings/address', form, ann.cookie)).statusCode).toBe(303);
      await world.db.referral.updateMany({ data: { refusedFor: 'own-address' } });
      expect(await pressUpgrade(world, ann)).toContain('/checkout/');
    },
  );

  test('of a customer deleted at Stripe without our knowledge creates a new customer', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await pressUpgrade(world, ann);
    const [customer = ''] = world.sandbox.objects.customers.keys();
    await world.merchant.checkout.sessions.expire(openSessions(world)[0] ?? '');
    await world.merchant.customers.del(customer);
    expect(await pressUpgrade(world, ann)).toContain('/checkout/');
    expect(await world.db.customer.count({ where: { userId: ann.id, missingAt: null } })).toBe(1);
  });

  test('a trial is offered once per address, including former addresses that were paid for', async () => {
    const world = await startWorld({ STRIPE_TRIAL_DAYS: '7' });
    const ann = await signUp(world, 'ann@example.com');
    const subscription = await subscribe(world, ann);
    expect(world.sandbox.objects.subscriptions.get(subscription)).toMatchObject({ status: 'trialing' });
    await passTime(world, 8 * DAY);
    await deliverWaiting(world);
    await postForm(
      world.app,
      '/settings/address',
      { email: 'new@example.com', currentPassword: 'correct horse' },
      ann.cookie,
    );
    const again = await signUp(world, 'ann+again@example.com');
    const second = await subscribe(world, again);
    expect(world.sandbox.objects.subscriptions.get(second)).toMatchObject({ status: 'active' });
  });
});

test('a customer that was linked with a payment link that names the user is not used for a new checkout', async () => {
  const world = await startWorld();
  const ann = await signUp(world, 'ann@example.com');
  await deliver(world, buyer(ann.id).checkoutCompleted({ customer: 'cus_0' }));
  const session = sessionIdOf(await pressUpgrade(world, ann));
  const { id: own } = await world.db.customer.findFirstOrThrow({ where: { id: { not: 'cus_0' } } });
  expect(world.sandbox.objects.checkouts.get(session)).toMatchObject({ customer: own });
  // The stand-in does not know it, so it would be noted as missing if it had been tried.
  expect(await world.db.customer.findUnique({ where: { id: 'cus_0' } })).toMatchObject({ missingAt: null });
});

describe('Settings after a checkout', () => {
  const WAITING = 'We are waiting for Stripe to confirm your plan';
  const LATE = 'confirmation has not reached us yet';
  const UPGRADE = 'href="/pricing">Upgrade<';
  const CHECK_AGAIN = 'href="/settings?checkout=done">Check again<';

  async function settings({ app }: World, { cookie }: Person): Promise<string> {
    return (await app.inject({ url: '/settings?checkout=done', headers: { cookie } })).body;
  }

  test('Settings does not wait for a payment of somebody who never opened a checkout or never paid it', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    expect(await settings(world, ann)).not.toContain(WAITING);
    await pressUpgrade(world, ann);
    const page = await settings(world, ann);
    expect(page).not.toContain(WAITING);
    expect(page).toContain(UPGRADE);
  });

  test('Settings waits two minutes for a paid checkout, then says what to do', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await subscribe(world, ann);
    world.clock.now = new Date(world.clock.now.getTime() + 119_000);
    const waiting = await settings(world, ann);
    expect(waiting).toContain(WAITING);
    expect(waiting).toContain('http-equiv="refresh"');
    expect(waiting).not.toContain(UPGRADE);

    world.clock.now = new Date(world.clock.now.getTime() + 1_000);
    const late = await settings(world, ann);
    expect(late).toContain(LATE);
    expect(late).toContain(CHECK_AGAIN);
    expect(late).not.toContain('http-equiv="refresh"');
    expect(late).not.toContain('data-awaiting');
    expect(late).not.toContain(UPGRADE);

    await deliverWaiting(world);
    expect(await settings(world, ann)).toContain('You have paid access now');
  });

  test('Settings does not wait when the subscription is already over', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await world.merchant.subscriptions.cancel(await subscribe(world, ann));
    expect(await settings(world, ann)).toContain(UPGRADE);
  });

  test('Settings says when Stripe cannot be reached', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await subscribe(world, ann);
    await world.sandbox.close();
    const page = await settings(world, ann);
    expect(page).toContain('We cannot ask Stripe right now whether you have just paid.');
    expect(page).toContain(CHECK_AGAIN);
    expect(page).not.toContain(WAITING);
  });

  test('Settings offers no plan in place of one that failed while Stripe cannot be asked about the next', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await world.merchant.subscriptions.cancel(await subscribe(world, ann));
    await deliverWaiting(world);
    await world.db.subscription.updateMany({ data: { endReason: 'payment_failed' } });
    const failed = 'because its payment failed';
    expect(await settings(world, ann)).toContain(failed);
    await subscribe(world, ann);
    await world.sandbox.close();
    const page = await settings(world, ann);
    expect(page).toContain('We cannot ask Stripe right now whether you have just paid.');
    expect(page).not.toContain(failed);
  });

  test('Settings does not wait for a session that Stripe does not know', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await pressUpgrade(world, ann);
    await world.db.checkout.updateMany({ data: { sessionId: 'cs_of_another_mode' } });
    expect(await settings(world, ann)).toContain(UPGRADE);
  });
});

describe('a checkout that fails', () => {
  const BROWSER = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };

  const press = ({ app }: TestServer, { cookie }: Person, plan: string, headers: Record<string, string>) =>
    postForm(app, '/api/billing/checkout', { plan }, cookie, headers);

  const reasons: [string, NodeJS.ProcessEnv, string, number, string][] = [
    ['because Stripe refuses', { STRIPE_PRICE_MONTHLY: 'price_gone' }, 'monthly', 502, 'Stripe'],
    [
      'because no price is set',
      { STRIPE_PRICE_MONTHLY: '' },
      'monthly',
      503,
      'STRIPE_PRICE_MONTHLY is not set',
    ],
    ['because there is no such plan', {}, 'weekly', 400, 'Choose a plan'],
  ];

  test.each(reasons)(
    '%s is a page in a browser and JSON for a script',
    async (_why, env, plan, status, text) => {
      const world = await startWorld(env);
      const ann = await signUp(world, 'ann@example.com');
      const page = await press(world, ann, plan, BROWSER);
      expect(page.statusCode).toBe(status);
      expect(page.headers['content-type']).toContain('text/html');
      expect(page.body).toContain(text);
      const json = await press(world, ann, plan, { accept: 'application/json' });
      expect(json.statusCode).toBe(status);
      expect(json.json()).toMatchObject({ error: { message: expect.stringContaining(text) as string } });
      // None of these goes away if one waits.
      expect(json.headers['retry-after']).toBeUndefined();
    },
  );

  test('a checkout that fails because Stripe is unreachable, or because the form comes from another site, is also a page', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const foreign = await press(world, ann, 'monthly', { ...BROWSER, 'sec-fetch-site': 'cross-site' });
    expect([foreign.statusCode, foreign.body]).toEqual([403, expect.stringContaining('<!doctype html>')]);
    await world.sandbox.close();
    for (const url of ['/api/billing/checkout', '/api/billing/portal']) {
      await world.db.customer.upsert({
        where: { id: 'cus_ann' },
        create: { id: 'cus_ann', userId: ann.id },
        update: {},
      });
      const answer = await postForm(world.app, url, { plan: 'monthly' }, ann.cookie, BROWSER);
      expect([url, answer.statusCode, answer.body]).toEqual([
        url,
        502,
        expect.stringContaining('<!doctype html>'),
      ]);
    }
  });
});

test('a checkout asked for before a new password was set is not opened after it', async () => {
  const world = await startWorld();
  const ann = await signUp(world, 'ann@example.com');
  const user = await userRow(world, ann.id);
  await world.db.user.update({ where: { id: ann.id }, data: { passwordHash: 'new' } });
  const { db, config, clock } = world;
  const context = {
    db,
    stripe: clientOf(world),
    config: config.stripe,
    publicUrl: config.publicUrl,
    programme: programmeOf(config),
  };
  const order = { plan: 'monthly' as const, priceId: 'price_monthly', notAtStripe: [] };
  await expect(openCheckout(context, user, order, clock.now)).rejects.toMatchObject({
    reason: 'account-changed',
  });
  expect(await db.checkout.count()).toBe(0);
});
