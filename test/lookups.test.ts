import { describe, expect, test } from 'vitest';

import { cli, cliJson } from './support/cli.ts';
import type { Place } from './support/cli.ts';
import {
  daysAfter,
  deleteAccount,
  deliver,
  deliverAll,
  PASSWORD,
  postForm,
  signUp,
  START,
  startTestServer,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { startStripeApi } from './support/stripe-api.ts';
import { buyer, stripeEvent, stripeId } from './support/stripe-events.ts';

/** Whom a text leads to. */
async function found(server: Place, who: string): Promise<string> {
  return (await cliJson<{ id: string }>(server, 'user', who)).id;
}

/** What a command prints that finds nobody. */
async function notFound(server: Place, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await cli(server, ...args);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/^[^\n]+\n$/);
  const asJson = await cli(server, ...args, '--json');
  expect({ code: asJson.code, stderr: asJson.stderr }).toEqual({ code: 1, stderr: '' });
  const { error } = JSON.parse(asJson.stdout) as { error: { code: string; message: string } };
  expect(error).toEqual({ code: 'not_found', message: stderr.trimEnd() });
  return error.message;
}

/** Ann, who pays, and somebody else. */
async function withAnn() {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const other = await signUp(server, 'other@example.com');
  const stripe = buyer(ann.id);
  const checkout = stripe.checkoutCompleted();
  await deliverAll(server, [checkout, stripe.created(), stripe.invoicePaid(), stripe.invoicePaymentPaid()]);
  return { server, ann, other, stripe, checkout };
}

describe('WHO', () => {
  test.each<[string, (ann: Person) => string]>([
    ['an address', () => 'ann@example.com'],
    ['an address in capitals with spaces around', () => ' ANN@Example.com '],
    ['a user id', ({ id }) => id],
    ['a user id in capitals', ({ id }) => id.toUpperCase()],
    ['a referral code', ({ code }) => code],
    [
      'a code in lower case with a hyphen',
      ({ code }) => `${code.slice(0, 4)}-${code.slice(4)}`.toLowerCase(),
    ],
    ['a link with a code', ({ code }) => `http://tandem.test/r/${code}?utm_source=mail`],
  ])('can be %s', async (_name, who) => {
    const { server, ann } = await withAnn();
    expect(await found(server, who(ann))).toBe(ann.id);
  });

  test('can be any Stripe id that leads to a user', async () => {
    const { server, ann, stripe, checkout } = await withAnn();
    const refund = stripe.chargeRefunded();
    const dispute = stripe.dispute(START).opened();
    await deliverAll(server, [refund, dispute]);
    const { customer, subscription, firstInvoice, payment, charge } = stripe;
    for (const id of [
      customer,
      subscription,
      firstInvoice,
      payment,
      charge,
      checkout.id,
      (checkout.data.object as { id: string }).id,
      refund.id,
      dispute.id,
    ])
      expect(await found(server, id), id).toBe(ann.id);
  });

  test('can be a checkout session that no event names yet', async () => {
    const { server, other } = await withAnn();
    const checkout = { userId: other.id, id: 'key', plan: 'monthly', priceId: 'price_m', trialDays: 0 };
    await server.db.checkout.create({ data: { ...checkout, sessionId: 'cs_open', createdAt: START } });
    expect(await found(server, 'cs_open')).toBe(other.id);
  });

  test('can be a charge that only a dispute or a refund without a customer names', async () => {
    const { server, ann, stripe } = await withAnn();
    const disputed = 'ch_disputed';
    await deliverAll(server, [stripe.refundFailed(), stripe.dispute(START, { charge: disputed }).opened()]);
    expect(await found(server, stripe.charge)).toBe(ann.id);
    expect(await found(server, disputed)).toBe(ann.id);
  });

  test('can be an event of an invoice payment, which names no customer, and one that failed', async () => {
    const { server, ann, stripe } = await withAnn();
    const event = stripe.invoicePaymentPaid();
    await deliverAll(server, [event]);
    expect(await found(server, event.id)).toBe(ann.id);
    const failed = stripe.updated({ status: 7 });
    expect((await deliver(server, failed)).statusCode).toBe(500);
    expect(await found(server, failed.id)).toBe(ann.id);
  });

  test('asks Stripe, if it can, about what is not known here', async () => {
    const { server, ann, stripe } = await withAnn();
    // A dispute names no customer, but a payment that is known here.
    const neverArrived = { ...stripe.dispute(START).opened(), id: 'evt_known' };
    const missing = { type: 'invalid_request_error', code: 'resource_missing', message: 'No such charge' };
    const { env, asked } = await startStripeApi((path) =>
      /(ch|py|pi|in|sub|cs|evt)_known/.test(path)
        ? { body: path.includes('/events/') ? neverArrived : { id: 'x', customer: stripe.customer } }
        : { status: 404, body: { error: missing } },
    );
    for (const id of ['ch_known', 'py_known', 'pi_known', 'in_known', 'sub_known', 'cs_known', 'evt_known'])
      expect(await found({ ...server, env }, id), id).toBe(ann.id);
    expect(asked).toEqual([
      '/v1/charges/ch_known',
      '/v1/charges/py_known',
      '/v1/payment_intents/pi_known',
      '/v1/invoices/in_known',
      '/v1/subscriptions/sub_known',
      '/v1/checkout/sessions/cs_known',
      '/v1/events/evt_known',
    ]);
    expect(await notFound({ ...server, env }, 'user', 'ch_unknown')).toMatch(
      /^ch_unknown leads to no customer, here or at Stripe\. /,
    );
    // Neither the dispute nor its payment has arrived.
    const elsewhere = await startStripeApi((path) =>
      path.includes('/events/')
        ? { body: { ...buyer().dispute(START).opened(), id: 'evt_unmatched' } }
        : { body: { id: 'x', customer: stripe.customer } },
    );
    expect(await found({ ...server, env: elsewhere.env }, 'evt_unmatched')).toBe(ann.id);
    // What is known here is not asked for.
    expect(await found({ ...server, env }, stripe.payment)).toBe(ann.id);
    expect(asked.filter((url) => url.includes(stripe.payment))).toEqual([]);
  });

  test.each([
    [
      404,
      {
        type: 'invalid_request_error',
        code: 'resource_missing',
        message: 'No such charge; a similar object exists in live mode, but a test mode key was used.',
      },
      'Set STRIPE_API_KEY to the key of that mode.',
    ],
    [401, { type: 'invalid_request_error', message: 'Invalid API Key provided.' }, 'Check STRIPE_API_KEY.'],
    [402, { type: 'card_error', message: 'Something else.' }, 'Try again later.'],
  ])(
    'that Stripe cannot be asked about (%i) is an error that says what to do',
    async (status, error, advice) => {
      const { server } = await withAnn();
      const { env } = await startStripeApi(() => ({ status, body: { error } }));
      expect(await cli({ ...server, env }, 'user', 'ch_1')).toEqual({
        code: 1,
        stdout: '',
        stderr: `ch_1 is not known here, and asking Stripe failed: ${error.message} ${advice}\n`,
      });
    },
  );

  test('that leads to nobody is an error that says what is missing', async () => {
    const { server } = await withAnn();
    const unlinked = buyer();
    await deliverAll(server, [unlinked.created()]);
    const cases: [string, RegExp][] = [
      ['nobody@example.com', /^No account has the address nobody@example\.com\.$/],
      ['01234567-0123-0123-0123-0123456789ab', /^No account has the id 0123/],
      ['ABCD2345', /^No account has the referral code ABCD2345\. Give an address, /],
      ['', /^No account was given\. Give an address, /],
      ['pi_nothing', /^pi_nothing leads to no customer here\. /],
      ['evt_nothing', /^evt_nothing leads to no customer here\. /],
      ['cus_nothing', /^The customer cus_nothing is not known here\. `reconcile` /],
      [
        unlinked.customer,
        new RegExp(
          `^The customer ${unlinked.customer} is linked to no account\\. \`relink ${unlinked.customer} WHO\``,
        ),
      ],
      [
        unlinked.subscription,
        new RegExp(
          `^${unlinked.subscription} belongs to the customer ${unlinked.customer}, which is linked to no account`,
        ),
      ],
    ];
    for (const [who, says] of cases) expect(await notFound(server, 'user', who)).toMatch(says);
    for (const command of ['audit', 'explain', 'reset-link', 'events'])
      expect(await notFound(server, command, 'cus_nothing')).toMatch(/^The customer cus_nothing/);
    expect(await notFound(server, 'grant-credit', 'cus_nothing', '5')).toMatch(/^The customer cus_nothing/);
  });

  test('works for every command that takes it', async () => {
    const { server, ann, other, stripe } = await withAnn();
    const who = stripe.subscription;
    expect(await cliJson(server, 'user', who)).toMatchObject({ email: ann.email });
    expect(await cliJson(server, 'grant-credit', who, '5')).toMatchObject({ email: ann.email, days: 5 });
    expect(await cliJson<object[]>(server, 'audit', who)).toHaveLength(2);
    expect(await cliJson(server, 'explain', who)).toMatchObject({ id: ann.id });
    expect(await cliJson(server, 'reset-link', who)).toMatchObject({ email: ann.email });
    expect(await cliJson<object[]>(server, 'events', who)).toHaveLength(4);
    const theirs = buyer(other.id);
    await deliverAll(server, [theirs.checkoutCompleted(), theirs.created()]);
    expect(await cliJson(server, 'relink', theirs.customer, who)).toMatchObject({ to: { email: ann.email } });
  });

  test('an id finds a deleted account, which can be read but not changed', async () => {
    const { server, ann, other } = await withAnn();
    const answer = await postForm(
      server.app,
      '/settings/delete',
      { currentPassword: PASSWORD },
      other.cookie,
    );
    expect(answer.statusCode).toBe(303);
    expect((await cli(server, 'user', other.id)).stdout).toMatch(
      /^email +\(deleted on 2027-01-10T09:00:00Z\)$/m,
    );
    expect((await cli(server, 'audit', other.id)).stdout).toContain(`the deleted account ${other.id}`);
    expect((await cli(server, 'explain', other.id)).stdout).toContain(`the deleted account ${other.id} at`);
    for (const args of [
      ['grant-credit', other.id, '5'],
      ['reset-link', other.id],
    ]) {
      const { code, stderr } = await cli(server, ...args);
      expect({ code, stderr }).toEqual({
        code: 1,
        stderr: expect.stringContaining(`The account ${other.id} was deleted`) as string,
      });
    }
    await notFound(server, 'user', other.code);
    expect(await server.db.creditEntry.count({ where: { userId: { not: ann.id } } })).toBe(0);
  });
});

test('audit tells of changes in one second in the order in which they happened', async () => {
  const { server, ann, stripe } = await withAnn();
  for (let times = 0; times < 5; times += 1) {
    const [later, latest] = [daysAfter(times + 1), daysAfter(times + 1.5)];
    await deliverAll(server, [
      stripe.updated({ status: 'unpaid' }, { at: later }),
      stripe.updated({ status: 'active' }, { at: latest }),
    ]);
  }
  const rows = await cliJson<{ fromTier: string | null; toTier: string | null }[]>(server, 'audit', ann.id);
  const [first, ...later] = rows.filter(({ toTier }) => toTier !== null);
  expect(first).toMatchObject({ fromTier: 'free', toTier: 'paid' });
  expect(later.map(({ toTier }) => toTier)).toEqual(Array(5).fill(['free', 'paid']).flat());
});

describe('users', () => {
  interface Listed {
    id: string;
    email: string | null;
  }

  const listed = async (server: TestServer, ...search: string[]): Promise<(string | null)[]> =>
    (await cliJson<Listed[]>(server, 'users', ...search)).map(({ email }) => email);

  test('users lists the newest first, with code, tier and credit', async () => {
    const { server, ann, other } = await withAnn();
    await cliJson(server, 'grant-credit', other.id, '5');
    server.clock.now = daysAfter(1);
    const newest = await signUp(server, 'newest@example.com');
    expect(await cliJson(server, 'users')).toMatchObject([
      { id: newest.id, email: newest.email, code: newest.code, tier: 'free', creditDays: 0, deletedAt: null },
      ...[
        { id: ann.id, email: ann.email, code: ann.code, tier: 'paid' },
        { id: other.id, email: other.email, code: other.code, tier: 'free', creditDays: 5 },
      ].sort((a, b) => (a.id < b.id ? -1 : 1)),
    ]);
    const [first] = (await cli(server, 'users')).stdout.split('\n');
    expect(first).toBe(`2027-01-11T09:00:00Z  ${newest.email}  ${newest.code}  free  0 days  ${newest.id}`);
  });

  test('users searches in addresses, codes and ids, and takes every character literally', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann_b@example.com');
    await signUp(server, 'annxb@example.org');
    expect(await listed(server, 'N_B@')).toEqual(['ann_b@example.com']);
    expect(await listed(server, '%')).toEqual([]);
    expect(await listed(server, '\\')).toEqual([]);
    expect(await listed(server, 'EXAMPLE.ORG')).toEqual(['annxb@example.org']);
    expect(await listed(server, ann.id.slice(4, 20).toUpperCase())).toEqual(['ann_b@example.com']);
    expect(await listed(server, ` ${ann.code.slice(0, 3)}-${ann.code.slice(3, 7)} `.toLowerCase())).toEqual([
      'ann_b@example.com',
    ]);
    expect((await cli(server, 'users', 'nobody')).stdout).toBe(
      "No account's address, code or id contains nobody.\n",
    );
  });

  test('users lists at most 100, and says when there are more', async () => {
    const server = await startTestServer();
    const many = (from: number, to: number) =>
      server.db.user.createMany({
        data: Array.from({ length: to - from }, (_, n) => ({
          id: `user-${from + n}`,
          email: `${from + n}@example.com`,
          emailHash: `${from + n}`,
          passwordHash: 'x',
          code: `CODE${from + n}`,
          tier: 'free',
          creditEntryCount: 0,
          createdAt: daysAfter(from + n),
        })),
      });
    await many(0, 100);
    const all = (await cli(server, 'users')).stdout.trimEnd().split('\n');
    expect(all).toHaveLength(100);
    await many(100, 101);
    const newest = (await cli(server, 'users')).stdout.trimEnd().split('\n');
    expect(newest).toHaveLength(101);
    expect(newest[0]).toContain('100@example.com');
    expect(newest.at(-1)).toMatch(/^There are more\. These are the newest 100; search for /);
    expect(await listed(server)).toHaveLength(100);
  });

  test('users says when there are none, and shows deleted accounts as such', async () => {
    const server = await startTestServer();
    expect((await cli(server, 'users')).stdout).toBe('Nobody has signed up yet.\n');
    const ann = await signUp(server, 'ann@example.com');
    await deleteAccount(server, ann);
    expect((await cli(server, 'users', ann.id)).stdout).toContain('(deleted account)');
    expect(await cliJson(server, 'users')).toMatchObject([{ email: null, deletedAt: START.toISOString() }]);
  });
});

describe('events about an account', () => {
  const idsOf = async (server: TestServer, ...args: string[]): Promise<string[]> =>
    (await cliJson<{ id: string }[]>(server, 'events', ...args)).map(({ id }) => id);

  test('events WHO lists those that name the customer, the invoice or the payment of the account, and no others', async () => {
    const { server, ann, other, stripe } = await withAnn();
    const theirs = buyer(other.id);
    const named = [
      stripe.chargeRefunded(),
      stripe.dispute(START).opened(),
      stripe.dispute(START, { payment_intent: null, charge: stripe.payment }).opened(),
      stripe.refundFailed(),
    ];
    await deliverAll(server, [
      theirs.checkoutCompleted(),
      theirs.created(),
      theirs.invoicePaid(),
      theirs.invoicePaymentPaid(),
      theirs.dispute(START).opened(),
      ...named,
    ]);
    const unrelated = stripeEvent('charge.dispute.created', {
      id: stripeId('du'),
      payment_intent: stripeId('pi'),
      status: 'needs_response',
    });
    await deliverAll(server, [unrelated]);
    const about = await idsOf(server, ann.id);
    expect(about).toHaveLength(8);
    expect(about).toEqual(expect.arrayContaining(named.map(({ id }) => id)));
    expect(await idsOf(server, other.code)).toHaveLength(5);
    expect(await idsOf(server)).toHaveLength(14);
  });

  test('event ID names the account of every event that events WHO lists, even without its payload', async () => {
    const { server, ann, stripe } = await withAnn();
    await deliverAll(server, [
      stripe.chargeRefunded(),
      stripe.dispute(START).opened(),
      stripe.dispute(START, { payment_intent: null, charge: stripe.payment }).opened(),
      stripe.refundFailed(),
    ]);
    const about = await idsOf(server, ann.id);
    expect(about).toHaveLength(8);
    for (const payload of [undefined, null]) {
      if (payload === null) await server.db.event.updateMany({ data: { payload } });
      for (const id of about)
        expect(await cliJson(server, 'event', id)).toMatchObject({ user: { id: ann.id } });
    }
  });

  test('events WHO follows a customer to its new account, and combines with --failed', async () => {
    const { server, ann, other, stripe } = await withAnn();
    const failed = stripe.updated({ status: 7 });
    expect((await deliver(server, failed)).statusCode).toBe(500);
    expect(await idsOf(server, 'ann@example.com', '--failed')).toEqual([failed.id]);
    await cliJson(server, 'relink', stripe.customer, other.id);
    expect(await idsOf(server, other.id)).toHaveLength(5);
    expect((await cli(server, 'events', ann.id)).stdout).toBe(
      'No event about ann@example.com has arrived yet.\n',
    );
    expect((await cli(server, 'events', ann.id, '--failed')).stdout).toBe(
      'No event about ann@example.com has failed.\n',
    );
  });

  test('a payload with a NUL in it does not stop the search', async () => {
    const { server, ann, stripe } = await withAnn();
    await deliver(
      server,
      stripeEvent('refund.updated', {
        id: 're_1',
        payment_intent: stripe.payment,
        note: '\0 \\u0000 \ud800',
      }),
    );
    expect(await idsOf(server, ann.id)).toHaveLength(5);
  });
});

describe('event', () => {
  test('event shows the outcome, whom it is about, and the payload', async () => {
    const { server, ann, stripe, checkout } = await withAnn();
    expect(await cliJson(server, 'event', checkout.id)).toEqual({
      id: checkout.id,
      type: 'checkout.session.completed',
      created: START.toISOString(),
      receivedAt: START.toISOString(),
      appliedAt: START.toISOString(),
      status: 'applied',
      reason: null,
      error: null,
      thinned: false,
      customerId: stripe.customer,
      user: { id: ann.id, email: 'ann@example.com' },
      payload: JSON.parse(JSON.stringify(checkout)) as object,
    });
    const { stdout } = await cli(server, 'event', checkout.id);
    expect(stdout).toMatch(/^outcome +applied$/m);
    expect(stdout).toMatch(new RegExp(`^account +ann@example.com \\(${ann.id}\\)$`, 'm'));
    expect(stdout).toMatch(/^payload +as received$/m);
    expect(stdout).toContain('\n      "client_reference_id":');
  });

  test('event says why one was ignored, why one failed, and whom one is about that names no customer', async () => {
    const { server, ann, stripe } = await withAnn();
    const unused = stripeEvent('product.created', { id: 'prod_1' });
    const failed = stripe.updated({ status: 7 });
    const dispute = stripe.dispute(START).opened();
    for (const event of [unused, failed, dispute]) await deliver(server, event);
    expect((await cli(server, 'event', unused.id)).stdout).toMatch(
      /^reason +events of the type product\.created/m,
    );
    expect((await cli(server, 'event', failed.id)).stdout).toMatch(
      /^error +Stripe sent an object of an unknown shape/m,
    );
    expect(await cliJson(server, 'event', failed.id)).toMatchObject({ status: 'failed', appliedAt: null });
    expect(await cliJson(server, 'event', dispute.id)).toMatchObject({
      customerId: stripe.customer,
      user: { id: ann.id },
    });
  });

  test('event of an unknown id exits 1, and no control character of a payload reaches a terminal', async () => {
    const { server } = await withAnn();
    expect(await notFound(server, 'event', 'evt_none')).toMatch(/^No event has the id evt_none\. /);
    const sly = stripeEvent('product.created', { id: 'prod_1', name: '\u009b2J\u001b[2J' });
    await deliver(server, sly);
    const { stdout } = await cli(server, 'event', sly.id);
    expect(stdout).toContain('"\\u009b2J\\u001b[2J"');
    expect(await cliJson(server, 'event', sly.id)).toMatchObject({
      payload: { data: { object: { name: '\u009b2J\u001b[2J' } } },
    });
  });
});

describe('status', () => {
  test('status counts everything, and shows what failed, what waits and what came last', async () => {
    const { server, other, stripe } = await withAnn();
    const friend = await signUp(server, 'friend@example.com', other.code);
    const gone = await signUp(server, 'gone@example.com');
    await deleteAccount(server, gone);
    const theirs = buyer(friend.id);
    await deliverAll(server, [
      theirs.checkoutCompleted(),
      theirs.created({ status: 'trialing', trial_end: 2e9 }),
    ]);
    server.clock.now = daysAfter(1);
    const failed = stripe.updated({ status: 7 });
    await deliver(server, failed);
    const item = { kind: 'mail.days-running', userId: friend.id, data: 'null', dueAt: START };
    await server.db.outboxItem.createMany({
      data: [
        { ...item, id: 'younger', createdAt: daysAfter(1), status: 'queued' },
        { ...item, id: 'older', createdAt: START, status: 'queued', attempts: 2, error: 'busy' },
        { ...item, id: 'done', createdAt: daysAfter(-1), status: 'done' },
        { ...item, id: 'failed', createdAt: daysAfter(-1), status: 'failed', error: 'refused' },
      ],
    });
    const isSqlite = server.databaseUrl.startsWith('file:');
    expect(await cliJson(server, 'status')).toEqual({
      version: expect.stringMatching(/^\d+\.\d+\.\d+$/) as string,
      node: process.version,
      engine: isSqlite ? 'sqlite' : 'postgresql',
      migrations: {
        applied: expect.any(Number) as number,
        newest: expect.stringMatching(/^\d{14}_\w+$/) as string,
      },
      users: { all: 3, paid: 1, trial: 1, free: 1, deleted: 1 },
      referrals: { all: 1, converted: 0, reversed: 0 },
      events: {
        all: 7,
        failed: 1,
        last: {
          id: failed.id,
          type: 'customer.subscription.updated',
          receivedAt: daysAfter(1).toISOString(),
          status: 'failed',
        },
      },
      outbox: {
        queued: 2,
        failed: 1,
        oldest: {
          id: 'older',
          kind: 'mail.days-running',
          createdAt: START.toISOString(),
          dueAt: START.toISOString(),
          attempts: 2,
          error: 'busy',
        },
      },
    });
    const { stdout } = await cli(server, 'status');
    expect(stdout).toMatch(/^accounts +3 \(1 paid, 1 trial, 1 free\), 1 deleted$/m);
    expect(stdout).toMatch(/^events +7, 1 failed$/m);
    expect(stdout).toMatch(/^last event +2027-01-11T09:00:00Z {2}customer\.subscription\.updated/m);
    expect(stdout).toMatch(
      /^oldest queued +2027-01-10T09:00:00Z {2}mail\.days-running {2}older, tried 2 times: busy$/m,
    );
  });

  test('status of an empty database says so, and shows no password', async () => {
    const server = await startTestServer();
    const { code, stdout } = await cli(server, 'status');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^last event +none$/m);
    expect(stdout).toMatch(/^oldest queued +none$/m);
    const { password } = URL.canParse(server.databaseUrl) ? new URL(server.databaseUrl) : { password: '' };
    if (password !== '') expect(stdout).not.toContain(`:${password}@`);
  });
});
