import { pino } from 'pino';
import type { Logger } from 'pino';
import { Stripe } from 'stripe';
import { describe, expect, test } from 'vitest';

import { doctor } from '../src/operator/doctor.ts';
import { commandContext } from './support/command-context.ts';
import {
  clientOf,
  cookiesOf,
  DAY,
  deleteAccount,
  deliverAll,
  domainRows,
  PATIENT,
  postForm,
  signUp,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import {
  deliverWaiting,
  passTime,
  pressUpgrade,
  reconcileWorld,
  sessionIdOf,
  startWorld,
  subscribe,
} from './support/stand-in.ts';
import type { World } from './support/stand-in.ts';
import { startStripeApi } from './support/stripe-api.ts';
import { buyer } from './support/stripe-events.ts';

const openPortal = ({ app }: TestServer, { cookie }: Person) =>
  postForm(app, '/api/billing/portal', {}, cookie);
const upgrade = ({ app }: TestServer, { cookie }: Person) =>
  postForm(app, '/api/billing/checkout', { plan: 'monthly' }, cookie);
/** Stripe forgets some kinds of objects, as when test data is deleted or the key belongs to another account. */
function forget({ sandbox }: World, ...kinds: ('customers' | 'checkouts' | 'subscriptions')[]): void {
  for (const kind of kinds) (sandbox.objects[kind] as Map<string, unknown>).clear();
}

/** A paying user whose Stripe objects have all been forgotten. */
async function forgottenSubscriber() {
  const world = await startWorld();
  const ann = await signUp(world, 'ann@example.com');
  const subscription = await subscribe(world, ann);
  await deliverWaiting(world);
  forget(world, 'customers', 'checkouts', 'subscriptions');
  return { world, ann, subscription };
}

async function checksThatFail(world: World): Promise<string[]> {
  const { json } = await doctor(commandContext(world));
  return (json as { findings: { check: string; row: string }[] }).findings.map(
    ({ check, row }) => `${check}: ${row}`,
  );
}

describe('objects that Stripe does not know', () => {
  test('of a subscriber who has just bought again: Settings waits for the payment', async () => {
    const { world, ann } = await forgottenSubscriber();
    const open = async (url: string) =>
      (await world.app.inject({ url, headers: { cookie: ann.cookie } })).body;
    await passTime(world, DAY);
    await subscribe(world, ann);
    const page = await open('/settings?checkout=done');
    expect(page).toContain('We are waiting for Stripe to confirm your plan');
    expect(page).not.toContain('Thank you. You have paid access now.');
    expect(page).not.toContain('until your plan renews');
    expect(page).not.toContain('>Upgrade<');
    // The script goes by the same text, and reloads the page when it changes.
    const [, known] = /data-awaiting="([^"]*)"/.exec(page) ?? [];
    const state = async (): Promise<string> => {
      const { tier, subscription } = JSON.parse(await open('/api/me')) as {
        tier: string;
        subscription: { status: string; currentPeriodEnd: string };
      };
      return [tier, subscription.status, subscription.currentPeriodEnd].join(' ');
    };
    expect(known).toBe(await state());
    await deliverWaiting(world);
    expect(await state()).not.toBe(known);
    expect(await open('/settings?checkout=done')).toContain('Thank you. You have paid access now.');
  });

  test('unknown customer: Upgrade creates a new one', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await pressUpgrade(world, ann);
    const old = await world.db.customer.findFirstOrThrow();
    forget(world, 'customers', 'checkouts');
    expect(await pressUpgrade(world, ann)).toContain('/checkout/');
    const fresh = await world.db.customer.findFirstOrThrow({ where: { id: { not: old.id } } });
    expect(fresh).toMatchObject({ userId: ann.id, missingAt: null });
    expect(await world.db.customer.findUnique({ where: { id: old.id } })).toMatchObject({
      userId: ann.id,
      deletedAt: null,
      missingAt: world.clock.now,
    });
  });

  test('unknown checkout session: Upgrade creates a new one', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const old = sessionIdOf(await pressUpgrade(world, ann));
    forget(world, 'checkouts');
    const fresh = sessionIdOf(await pressUpgrade(world, ann));
    expect(fresh).not.toBe(old);
    expect(await world.db.checkout.findMany()).toMatchObject([{ userId: ann.id, sessionId: fresh }]);
    expect(await world.db.customer.count()).toBe(1);
  });

  test('unknown subscription: Upgrade sells again, and the tier stays what the facts say', async () => {
    const { world, ann, subscription } = await forgottenSubscriber();
    const { id: customer } = await world.db.customer.findFirstOrThrow();
    expect(await pressUpgrade(world, ann)).toContain('/checkout/');
    expect(await userRow(world, ann.id)).toMatchObject({ tier: 'paid' });
    expect(await world.db.subscription.findUnique({ where: { id: subscription } })).toMatchObject({
      status: 'active',
      endedAt: null,
      missingAt: world.clock.now,
    });
    await subscribe(world, ann);
    await deliverWaiting(world);
    expect(await checksThatFail(world)).toEqual([
      `known-at-stripe: Customer ${customer}`,
      `known-at-stripe: Subscription ${subscription}`,
    ]);
  });

  test('unknown customer of a subscriber: the portal redirects to Pricing, which says why and offers the upgrade', async () => {
    const { world, ann } = await forgottenSubscriber();
    const answer = await openPortal(world, ann);
    expect([answer.statusCode, answer.headers.location]).toEqual([303, '/pricing']);
    const cookie = `${ann.cookie}; ${cookiesOf(answer)}`;
    const { body } = await world.app.inject({ url: '/pricing', headers: { cookie } });
    expect(body).toContain('Stripe, has no billing details for you');
    expect(body).toContain('Choose monthly');
    expect(await userRow(world, ann.id)).toMatchObject({ tier: 'paid' });
  });

  test('one of two customers is unknown: the portal opens for the other', async () => {
    const { world, ann } = await forgottenSubscriber();
    await subscribe(world, ann);
    await deliverWaiting(world);
    expect((await openPortal(world, ann)).headers.location).toContain('/portal/');
  });

  test('an account whose Stripe objects are all unknown can be deleted', async () => {
    const { world, ann } = await forgottenSubscriber();
    expect((await deleteAccount(world, ann)).statusCode).toBe(303);
    expect(await world.db.user.findUnique({ where: { id: ann.id } })).toMatchObject({
      deletedAt: world.clock.now,
    });
  });

  test('an account whose open checkout is unknown can be deleted', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await pressUpgrade(world, ann);
    forget(world, 'customers', 'checkouts');
    expect((await deleteAccount(world, ann)).statusCode).toBe(303);
  });

  test('are named by reconcile, and by doctor after it; a dry run marks nothing', async () => {
    const { world, ann, subscription } = await forgottenSubscriber();
    const ben = await signUp(world, 'ben@example.com');
    await pressUpgrade(world, ben);
    const sessions = (await world.db.checkout.findMany()).map(({ sessionId }) => sessionId ?? '');
    expect(sessions).toHaveLength(2);
    const customer = await world.db.customer.findFirstOrThrow({ where: { userId: ann.id } });
    forget(world, 'checkouts');
    const before = await domainRows(world);
    const gone = ({ differences }: Awaited<ReturnType<typeof reconcileWorld>>) =>
      differences
        .filter(({ field, there }) => field === 'existence' && there.startsWith('no: it was deleted'))
        .map(({ object, id, fixed }) => `${object} ${id}${fixed ? ' (fixed)' : ''}`)
        .sort();
    const expected = [`customer ${customer.id}`, `subscription ${subscription}`];

    expect(gone(await reconcileWorld(world, null, true))).toEqual(
      [...sessions.map((id) => `checkout session ${id}`), ...expected].sort(),
    );
    expect(await domainRows(world)).toEqual(before);
    expect(await checksThatFail(world)).toEqual([]);

    expect(gone(await reconcileWorld(world))).toEqual(
      [...sessions.map((id) => `checkout session ${id} (fixed)`), ...expected].sort(),
    );
    expect(await checksThatFail(world)).toEqual([
      `known-at-stripe: Customer ${customer.id}`,
      `known-at-stripe: Subscription ${subscription}`,
    ]);
    expect(await world.db.checkout.count()).toBe(0);
    expect(await userRow(world, ann.id)).toMatchObject({ tier: 'paid' });
    expect(await world.db.customer.findFirst({ where: { userId: ben.id } })).toMatchObject({
      missingAt: null,
    });
  });

  test('are unmarked by reconcile or an event once Stripe knows them again, with the right key', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await subscribe(world, ann);
    await deliverWaiting(world);
    const ben = await signUp(world, 'ben@example.com');
    const stripe = buyer(ben.id);
    await deliverAll(world, [stripe.checkoutCompleted(), stripe.created()]);
    const missingAt = world.clock.now;
    await world.db.$transaction([
      world.db.customer.updateMany({ data: { missingAt } }),
      world.db.subscription.updateMany({ data: { missingAt } }),
    ]);
    expect(await checksThatFail(world)).toHaveLength(4);

    world.clock.now = new Date(missingAt.getTime() + 1000);
    await deliverAll(world, [stripe.updated({}, { at: world.clock.now })]);
    expect(await checksThatFail(world)).toHaveLength(2);
    await reconcileWorld(world);
    const ofAnn = { where: { customer: { userId: ann.id } } };
    expect(await world.db.subscription.findMany(ofAnn)).toMatchObject([{ missingAt: null }]);
    expect(await world.db.customer.findMany({ where: { userId: ann.id } })).toMatchObject([
      { missingAt: null },
    ]);
  });

  test('Upgrade asks Stripe again before it sells a second subscription', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await subscribe(world, ann);
    await deliverWaiting(world);
    const missingAt = world.clock.now;
    await world.db.$transaction([
      world.db.customer.updateMany({ data: { missingAt } }),
      world.db.subscription.updateMany({ data: { missingAt } }),
    ]);
    expect(await pressUpgrade(world, ann)).toContain('/portal/');
    expect(await checksThatFail(world)).toEqual([]);
  });
});

test('a customer whose deletion event was lost is found by reconcile', async () => {
  const world = await startWorld();
  const ann = await signUp(world, 'ann@example.com');
  await subscribe(world, ann);
  await deliverWaiting(world);
  const customer = await world.db.customer.findFirstOrThrow();
  await world.merchant.customers.del(customer.id);
  // Stripe no longer lists their events by then.
  (world.sandbox.objects.events as Map<string, unknown>).clear();
  await pressUpgrade(world, ann);
  await reconcileWorld(world);
  expect(await world.db.customer.findUnique({ where: { id: customer.id } })).toMatchObject({
    userId: ann.id,
    deletedAt: world.clock.now,
  });
  expect(await userRow(world, ann.id)).toMatchObject({ tier: 'free' });
  expect(await checksThatFail(world)).toEqual([]);
  expect((await reconcileWorld(world)).differences).toEqual([]);
});

/** Ann's account, on a server whose Stripe answers every request with one error. */
async function annRefusedByStripe(status: number, error: object, logger?: Logger) {
  const { env } = await startStripeApi(() => ({ status, body: { error } }));
  const server = await startTestServer(env, undefined, PATIENT, logger);
  const ann = await signUp(server, 'ann@example.com');
  return { server, ann };
}

const OTHER_MODE: Stripe.StripeRawError = {
  type: 'invalid_request_error',
  code: 'resource_missing',
  param: 'customer',
  message:
    "No such customer: 'cus_1'; a similar object exists in live mode, but a test mode key was used to make this request.",
};

describe('what Stripe knows in its other mode', () => {
  test('is not dropped: nothing is sold, opened or deleted, and the message does not say to try again', async () => {
    const { server, ann } = await annRefusedByStripe(400, OTHER_MODE);
    const stripe = buyer(ann.id);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    await server.db.checkout.create({
      data: {
        userId: ann.id,
        id: 'checkout',
        plan: 'monthly',
        priceId: 'price_m',
        trialDays: 0,
        sessionId: 'cs_1',
        createdAt: server.clock.now,
      },
    });
    const before = { ...(await domainRows(server)), checkouts: await server.db.checkout.findMany() };
    const acts = [
      [upgrade, 'Nothing was charged.'],
      [openPortal, 'Nothing was changed.'],
      [
        deleteAccount,
        'Your account was not deleted, but if you had a plan, it may already have been cancelled.',
      ],
    ] as const;
    for (const [act, notDone] of acts) {
      const answer = await act(server, ann);
      expect(answer.statusCode).toBe(502);
      expect(answer.body).toContain(`refused this. ${notDone} Trying again will not help`);
    }
    expect({ ...(await domainRows(server)), checkouts: await server.db.checkout.findMany() }).toEqual(before);
  });

  test('is reported to the operator', async () => {
    const lines: string[] = [];
    const logger = pino({ level: 'error' }, { write: (line: string) => void lines.push(line) });
    const { server, ann } = await annRefusedByStripe(400, OTHER_MODE, logger);
    expect((await upgrade(server, ann)).statusCode).toBe(502);
    expect(lines).toEqual([
      expect.stringMatching(/exists in live mode.*STRIPE_API_KEY belongs to a different mode/),
    ]);
    expect(lines.join('')).not.toContain(ann.email);
  });

  test("reconcile names an object in Stripe's other mode and leaves it unchanged", async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await subscribe(world, ann);
    await deliverWaiting(world);
    forget(world, 'customers');
    const stripe = clientOf(world);
    stripe.customers.retrieve = () => Promise.reject(new Stripe.errors.StripeInvalidRequestError(OTHER_MODE));
    const before = await domainRows(world);
    const { differences } = await reconcileWorld(world);
    expect(differences).toMatchObject([
      { object: 'customer', there: expect.stringMatching(/other mode/) as string },
    ]);
    expect(await domainRows(world)).toEqual(before);
  });
});

test.each([
  [
    400,
    {
      type: 'invalid_request_error',
      code: 'resource_missing',
      param: 'line_items[0][price]',
      message: 'No such price',
    },
    false,
  ],
  [401, { type: 'authentication_error', message: 'Invalid API Key provided' }, false],
  [403, { type: 'permission_error', message: 'The key has no such permission' }, false],
  [402, { type: 'card_error', message: 'declined' }, false],
  [409, { type: 'invalid_request_error', code: 'lock_timeout', message: 'busy' }, true],
  [429, { type: 'rate_limit_error', code: 'rate_limit', message: 'too many' }, true],
  [500, { type: 'api_error', message: 'oops' }, true],
])("Stripe answers %i: %s, 'try again in a moment' is shown: %s", async (status, error, passes) => {
  const { server, ann } = await annRefusedByStripe(status, error);
  const answer = await upgrade(server, ann);
  expect(answer.statusCode).toBe(502);
  expect(answer.body.includes('try again in a moment')).toBe(passes);
  expect(answer.body.includes('Trying again will not help')).toBe(!passes);
});
