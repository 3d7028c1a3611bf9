import { describe, expect, test } from 'vitest';

import { addSeconds } from '../src/instants.ts';
import { DAY, daysAfter, deliver, deliverAll, logInAgain, postForm, signUp } from './support/server.ts';
import { START, startTestServer } from './support/server.ts';
import type { TestServer } from './support/server.ts';
import {
  deliverWaiting,
  dropWaiting,
  passTime,
  reconcileWorld,
  startWorld,
  subscribe,
} from './support/stand-in.ts';
import type { World } from './support/stand-in.ts';
import { buyer, epoch, stripeEvent } from './support/stripe-events.ts';

/** An address without a page, which is answered with a page all the same. */
const NOTHING = '/nothing';

const PAGES = ['/', '/pricing', '/settings', '/portfolio', '/docs', NOTHING];

/** What a page says about trouble with a payment, with its button; null when it says nothing. */
async function troubleOn({ app }: TestServer, url: string, cookie: string): Promise<string | null> {
  const { body, statusCode } = await app.inject({ url, headers: { cookie, accept: 'text/html' } });
  expect(statusCode).toBe(url === NOTHING ? 404 : 200);
  return troubleIn(body);
}

function troubleIn(body: string): string | null {
  const sections = [...body.matchAll(/<section [^>]*aria-label="Your payment">(.*?)<\/section>/gs)];
  expect(sections.length).toBeLessThan(2);
  const [, section] = sections[0] ?? [];
  if (section === undefined) return null;
  const [, target = ''] = /(?:action|href)="([^"]+)"/.exec(section) ?? [];
  const words = section.replaceAll(/<[^>]*>/g, ' ').replaceAll(/\s+/g, ' ');
  return `${words.trim()} (${target})`;
}

/** Somebody who has paid for a month, 31 days later. */
async function subscriber() {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const stripe = buyer(ann.id);
  await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
  server.clock.now = daysAfter(31);
  const at = { at: daysAfter(31) };
  /** A failed attempt to collect the renewal; Stripe will try again on that day. */
  const failed = (nextDay: number | null, type = 'invoice.payment_failed') =>
    stripeEvent(
      type,
      {
        id: 'in_renewal',
        object: 'invoice',
        customer: stripe.customer,
        billing_reason: 'subscription_cycle',
        status: 'open',
        attempted: true,
        next_payment_attempt: nextDay === null ? null : epoch(daysAfter(nextDay)),
        parent: { subscription_details: { subscription: stripe.subscription } },
      },
      at,
    );
  const row = () => server.db.subscription.findUniqueOrThrow({ where: { id: stripe.subscription } });
  return { server, ann, stripe, at, failed, row, cookie: await logInAgain(server, ann) };
}

/** The pricing page itself has the plans, so it needs no button that leads there. */
function onPage(page: string, expected: string | null): string | null {
  return page === '/pricing' ? (expected?.replace(` Choose a plan ${PLANS}`, ' ()') ?? null) : expected;
}

const PORTAL = '(/api/billing/portal)';
const PLANS = '(/pricing)';

const OVER = {
  status: 'canceled',
  ended_at: epoch(daysAfter(31)),
  cancellation_details: { reason: 'payment_failed' },
};

const STATES: [string, Record<string, unknown>, string | null][] = [
  [
    'past due',
    { status: 'past_due' },
    'Your last payment failed. Stripe will try again on 13 February 2027. You keep paid access at least until then. ' +
      `Check your card ${PORTAL}`,
  ],
  [
    'unpaid',
    { status: 'unpaid' },
    'Your last payment failed, and Stripe has stopped trying. Your paid access has ended. ' +
      `Your plan continues once the open invoice is paid. Check your card ${PORTAL}`,
  ],
  [
    'over because the payment failed',
    OVER,
    'Your monthly plan ended on 10 February 2027 because its payment failed. You have no paid access now. ' +
      `Any backups you made are still there. Choose a plan ${PLANS}`,
  ],
  [
    'over because a payment was disputed',
    { ...OVER, cancellation_details: { reason: 'payment_disputed' } },
    'Your monthly plan ended on 10 February 2027 because a payment was disputed. You have no paid access now. ' +
      `Any backups you made are still there. Choose a plan ${PLANS}`,
  ],
  [
    'over because its owner wanted it',
    { ...OVER, cancellation_details: { reason: 'cancellation_requested' } },
    null,
  ],
  ['active', {}, null],
];

describe('every page of a subscriber whose plan is', () => {
  test.each(STATES)('%s shows its notice with one button, or no notice', async (_state, fields, expected) => {
    const { server, stripe, at, failed, cookie } = await subscriber();
    await deliverAll(server, [failed(34), stripe.updated(fields, at)]);
    for (const page of PAGES)
      expect(await troubleOn(server, page, cookie), page).toBe(onPage(page, expected));
    // Nobody else reads it.
    const other = await signUp(server, 'other@example.com');
    for (const page of PAGES) expect(await troubleOn(server, page, other.cookie), page).toBeNull();
    for (const page of ['/', '/pricing', '/portfolio']) expect(await troubleOn(server, page, '')).toBeNull();
  });
});

test('every page says for 30 days why a plan ended', async () => {
  const { server, ann, stripe, at } = await subscriber();
  await deliverAll(server, [stripe.updated(OVER, at)]);
  const last = daysAfter(31 + 30);
  for (const [now, told] of [
    [last, expect.stringContaining('because its payment failed.')],
    [addSeconds(last, 1), null],
  ] as const) {
    server.clock.now = now;
    const cookie = await logInAgain(server, ann);
    for (const page of PAGES) expect(await troubleOn(server, page, cookie), page).toEqual(told);
  }
});

test('an unpaid plan is the trouble, even if a newer one is over', async () => {
  const { server, ann, stripe, at, cookie } = await subscriber();
  const newer = buyer(ann.id);
  await deliverAll(server, [
    stripe.updated({ status: 'unpaid' }, at),
    newer.checkoutCompleted(),
    newer.created({ created: epoch(daysAfter(30)), ...OVER }, at),
  ]);
  expect(await troubleOn(server, '/settings', cookie)).toContain('Stripe has stopped trying');
});

test('a first payment that has not gone through leads to the plans', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const stripe = buyer(ann.id);
  await deliverAll(server, [stripe.checkoutCompleted(), stripe.created({ status: 'incomplete' })]);
  for (const page of PAGES) {
    const expected =
      'Your first payment has not gone through. Your plan has not started, and nothing was charged. ' +
      `Choose a plan ${PLANS}`;
    expect(await troubleOn(server, page, ann.cookie), page).toBe(onPage(page, expected));
  }
});

test('a form in Settings that comes back with a mistake keeps the notice', async () => {
  const { server, stripe, at, cookie } = await subscriber();
  await deliverAll(server, [stripe.updated({ status: 'past_due' }, at)]);
  const answer = await postForm(server.app, '/settings/password', { currentPassword: '' }, cookie);
  expect(answer.statusCode).toBe(400);
  expect(troubleIn(answer.body)).toContain('Your last payment failed.');
});

test('Settings counts no days of a period that is not paid, and promises no access until its end', async () => {
  const { server, stripe, at, cookie } = await subscriber();
  const period = { current_period_end: epoch(daysAfter(62)), cancel_at_period_end: true };
  const items = { data: [{ price: { id: 'price_m' }, current_period_end: epoch(daysAfter(62)) }] };
  await deliverAll(server, [stripe.updated({ status: 'past_due', ...period, items }, at)]);
  const { body } = await server.app.inject({ url: '/settings', headers: { cookie } });
  expect(body).toContain('Monthly plan');
  expect(body).toContain('Ends on');
  for (const untrue of ['days-left', 'Renews on', 'You have paid access until then.'])
    expect(body).not.toContain(untrue);
});

describe('the next attempt', () => {
  test.each(['invoice.payment_failed', 'invoice.payment_action_required'])(
    'of %s is stored, and the latest one that was heard of stays',
    async (type) => {
      const { server, failed, row } = await subscriber();
      await deliverAll(server, [failed(39, type)]);
      expect(await row()).toMatchObject({ nextAttemptAt: daysAfter(39), status: 'active' });
      // An earlier attempt that is heard late, the same one again, and the last one, after which there is none.
      for (const late of [failed(34, type), failed(39, type), failed(null, type)]) {
        expect((await deliver(server, late)).json()).toEqual({
          status: 'ignored',
          reason: "a failed renewal shows in the subscription's status",
        });
        expect(await row()).toMatchObject({ nextAttemptAt: daysAfter(39) });
      }
      await deliverAll(server, [failed(46, type)]);
      expect(await row()).toMatchObject({ nextAttemptAt: daysAfter(46) });
    },
  );

  test('is kept when it is heard before the subscription', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const stripe = buyer(ann.id);
    const failed = stripeEvent('invoice.payment_failed', {
      id: stripe.firstInvoice,
      object: 'invoice',
      customer: stripe.customer,
      billing_reason: 'subscription_cycle',
      next_payment_attempt: epoch(daysAfter(3)),
      parent: { subscription_details: { subscription: stripe.subscription } },
    });
    await deliverAll(server, [failed, stripe.created({ status: 'past_due' }), stripe.checkoutCompleted()]);
    expect(await troubleOn(server, '/', ann.cookie)).toBe(
      'Your first payment failed. Stripe will try again on 13 January 2027. ' +
        'Your plan starts once the payment goes through. Until then you have no paid access. ' +
        `Check your card ${PORTAL}`,
    );
  });
});

test('a trial whose card failed is told of, although an older plan has ended', async () => {
  const { server, stripe } = await subscriber();
  const customer = { customer: stripe.customer };
  const trial = { ...customer, trial_end: epoch(daysAfter(38)), created: epoch(daysAfter(31)) };
  const second = buyer();
  await deliverAll(server, [
    stripe.ended(daysAfter(31)),
    second.created({ ...trial, status: 'trialing' }, { at: daysAfter(31) }),
    second.updated({ ...trial, status: 'active' }, { at: daysAfter(38) }),
    second.updated({ ...trial, status: 'past_due' }, { at: daysAfter(39) }),
  ]);
  server.clock.now = daysAfter(39);
  expect(await troubleOn(server, '/', await logInAgain(server, { email: 'ann@example.com' }))).toContain(
    'Your first payment failed.',
  );
});

describe('why a plan ended', () => {
  test('is not taken from a snapshot that is older than what is known', async () => {
    const { server, stripe, row } = await subscriber();
    await deliverAll(server, [stripe.ended(daysAfter(31), OVER)]);
    const requested = { cancellation_details: { reason: 'cancellation_requested' } };
    for (const stale of [
      stripe.ended(daysAfter(30), { ...OVER, ...requested }),
      stripe.updated({ ...requested, cancel_at_period_end: true }, { at: daysAfter(30) }),
    ])
      expect((await deliver(server, stale)).json()).toMatchObject({ status: 'ignored' });
    expect(await row()).toMatchObject({ endReason: 'payment_failed' });
  });

  test('goes away when a cancellation is withdrawn', async () => {
    const { server, stripe, at, row } = await subscriber();
    const requested = { cancellation_details: { reason: 'cancellation_requested' } };
    await deliverAll(server, [
      stripe.updated({ ...requested, cancel_at_period_end: true }, { at: daysAfter(30) }),
    ]);
    expect(await row()).toMatchObject({ endReason: 'cancellation_requested' });
    await deliverAll(server, [stripe.updated({ cancellation_details: { reason: null } }, at)]);
    expect(await row()).toMatchObject({ endReason: null });
  });
});

describe('with Stripe', () => {
  /** Somebody whose card is declined from now on. */
  async function declined() {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const id = await subscribe(world, ann);
    await deliverWaiting(world);
    const { customerId } = await world.db.subscription.findUniqueOrThrow({ where: { id } });
    world.sandbox.acts.setCard(customerId, 'declined');
    const row = () => world.db.subscription.findUniqueOrThrow({ where: { id } });
    const trouble = async () => troubleOn(world, '/portfolio', await logInAgain(world, ann));
    return { world, ann, row, trouble, customerId };
  }

  /** Days from the purchase to the first attempt to collect the renewal. */
  const RENEWAL = 31;

  async function passDays(world: World, days: number): Promise<void> {
    await passTime(world, days * DAY);
  }

  test('the notice follows every attempt until the plan ends, and disappears with a new plan', async () => {
    const { world, ann, trouble, customerId } = await declined();
    const told: (string | null)[] = [];
    // Stripe will try again after 3, 5 and 7 days.
    for (const days of [RENEWAL, 3, 5, 7]) {
      await passDays(world, days);
      await deliverWaiting(world);
      told.push(await trouble());
    }
    expect(told).toEqual([
      expect.stringContaining('Stripe will try again on 13 February 2027.'),
      expect.stringContaining('Stripe will try again on 18 February 2027.'),
      expect.stringContaining('Stripe will try again on 25 February 2027.'),
      expect.stringContaining('Your monthly plan ended on 25 February 2027 because its payment failed.'),
    ]);
    world.sandbox.acts.setCard(customerId, 'works');
    await subscribe(world, { ...ann, cookie: await logInAgain(world, ann) });
    await deliverWaiting(world);
    expect(await trouble()).toBeNull();
  });

  test('a card that works again ends the notice', async () => {
    const { world, trouble, customerId } = await declined();
    await passDays(world, RENEWAL);
    await deliverWaiting(world);
    expect(await trouble()).toContain('Your last payment failed.');
    world.sandbox.acts.setCard(customerId, 'works');
    await passDays(world, 3);
    await deliverWaiting(world);
    expect(await trouble()).toBeNull();
  });

  test.each([
    ['the next attempt', RENEWAL, 'Stripe will try again on 13 February 2027.'],
    ['the reason of an end', RENEWAL + 20, 'because its payment failed.'],
  ])('reconcile fills in %s when its events were lost', async (_what, days, words) => {
    const { world, trouble, row } = await declined();
    await passDays(world, days);
    dropWaiting(world);
    // Stripe lists events for 30 days.
    (world.sandbox.objects.events as Map<string, unknown>).clear();
    const before = await row();
    const dry = await reconcileWorld(world, null, true);
    expect(await row()).toEqual(before);
    const report = await reconcileWorld(world);
    expect(report.differences.every(({ fixed }) => fixed)).toBe(true);
    expect(report.differences.map(({ field }) => field)).toEqual(dry.differences.map(({ field }) => field));
    expect(await trouble()).toContain(words);
    expect(await reconcileWorld(world)).toMatchObject({ differences: [] });
  });
});

test('Settings says nothing of an earlier payment while a new one is on its way', async () => {
  const world = await startWorld();
  const ann = await signUp(world, 'ann@example.com');
  const stripe = buyer(ann.id);
  await deliverAll(world, [
    stripe.checkoutCompleted(),
    stripe.created(),
    stripe.ended(START, { ...OVER, ended_at: epoch(START) }),
  ]);
  expect(await troubleOn(world, '/settings', ann.cookie)).toContain('because its payment failed.');
  await subscribe(world, ann);
  const url = '/settings?checkout=done';
  const { body } = await world.app.inject({ url, headers: { cookie: ann.cookie } });
  expect(body).toContain('We are waiting for Stripe');
  expect(troubleIn(body)).toBeNull();
});
