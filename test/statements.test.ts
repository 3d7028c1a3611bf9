import { readFile } from 'node:fs/promises';

import { Client } from 'pg';
import { expect, inject, onTestFinished, test, vi } from 'vitest';

import { subscriptionsOf } from '../src/access/subscriptions.ts';
import { eventContextOf } from '../src/stripe/handle-event.ts';
import { handleTogether } from './support/handle-together.ts';
import { inShort } from './support/in-short.ts';
import { MAIL } from './support/mail.ts';
import { giveConversions } from './support/many-conversions.ts';
import { otherConnection } from './support/other-connection.ts';
import { until } from './support/process.ts';
import {
  daysAfter,
  deliverAll,
  newDatabase,
  postForm,
  signUp,
  START,
  startTestServer,
} from './support/server.ts';
import type { Person } from './support/server.ts';
import { noteConnections } from './support/sqlite-connections.ts';
import { buyer, epoch, stripeEvent, stripeId } from './support/stripe-events.ts';
import type { Buyer } from './support/stripe-events.ts';

type Engine = 'sqlite' | 'postgresql';

const engine: Engine = inject('engine');

/** What a server has sent to its database since the last clear(). */
interface Sent {
  clear: () => void;
  statements: () => string[];
  /** What the database answered to each statement; on SQLite only. */
  answers: () => Promise<(number | { rows: unknown[] })[]>;
}

/** Records every statement that a server sends to its database from now on. */
const START_SENT: Readonly<Record<Engine, () => { ofServer: () => Promise<Sent> }>> = {
  sqlite: () => {
    const connections = noteConnections();
    return {
      ofServer: async () => {
        const spies = (await connections()).flatMap((connection) => [
          vi.spyOn(connection, 'queryRaw'),
          vi.spyOn(connection, 'executeRaw'),
        ]);
        return {
          clear: () => {
            for (const spy of spies) spy.mockClear();
          },
          statements: () =>
            spies
              .flatMap(({ mock }) =>
                mock.calls.map(([{ sql }], index) => ({ sql, at: mock.invocationCallOrder[index] ?? 0 })),
              )
              .sort((a, b) => a.at - b.at)
              .map(({ sql }) => sql),
          answers: () =>
            Promise.all(
              spies.flatMap(({ mock }) =>
                mock.results.map(({ value }) => value as Promise<number> | Promise<{ rows: unknown[] }>),
              ),
            ),
        };
      },
    };
  },
  postgresql: () => {
    const query = vi.spyOn(Client.prototype, 'query');
    onTestFinished(() => {
      query.mockRestore();
    });
    return {
      ofServer: () =>
        Promise.resolve({
          clear: () => query.mockClear(),
          statements: () =>
            (query.mock.calls as unknown as [string | { text: string }][]).map(([sent]) =>
              typeof sent === 'string' ? sent : sent.text,
            ),
          answers: () => Promise.reject(new Error('On PostgreSQL answers are not kept.')),
        }),
    };
  },
};

/** A server whose statements are recorded, without BEGIN and COMMIT. */
async function countingServer(mail = false) {
  const begun = START_SENT[engine]();
  // A new database: a reused one already has an open client.
  const server = await startTestServer({ DATABASE_URL: await newDatabase(), ...(mail && MAIL) });
  const referrer = await signUp(server, 'referrer@example.com');
  const sent = await begun.ofServer();

  /** The statements of some work. */
  async function statementsWhile(work: () => Promise<unknown>): Promise<string[]> {
    sent.clear();
    await work();
    return sent
      .statements()
      .map(inShort)
      .filter((statement) => !/^(BEGIN|COMMIT)/.test(statement));
  }

  /** The statements that one event costs; its answer must have this status. */
  const statementsOf = (event: object, status: string): Promise<string[]> =>
    statementsWhile(() => deliverAll(server, [event], status));

  /** The statements that events cost when they arrive together. */
  function statementsOfBatch(events: readonly object[]): Promise<string[]> {
    const context = eventContextOf(server);
    return statementsWhile(() => Promise.all(handleTogether(context, events, server.clock.now)));
  }

  /** The statements of the settings page, its number of rows, what it counts, and how SQLite finds the rows. */
  async function costOfSettings({
    cookie,
  }: Person): Promise<{ asked: string[]; rows: number; counted: string; plans: string[] }> {
    // On a busy machine the server can answer 503: the first view of a long history is slow.
    const statusCode = await until(async () => {
      sent.clear();
      const answer = await server.app.inject({ url: '/settings', headers: { cookie } });
      return answer.statusCode === 503 ? undefined : answer.statusCode;
    });
    expect(statusCode).toBe(200);
    const queries = sent.statements();
    const answers = await sent.answers();
    const other = await otherConnection(server);
    const plans = await Promise.all(
      queries.map((sql) => other.rows(`EXPLAIN QUERY PLAN ${sql.replaceAll('?', 'NULL')}`)),
    );
    return {
      asked: queries.map(inShort),
      rows: answers.reduce<number>(
        (sum, answer) => sum + (typeof answer === 'number' ? 0 : answer.rows.length),
        0,
      ),
      counted: queries.find((sql) => /count\(.*FROM "Referral"/s.test(sql)) ?? '',
      plans: plans.flat().map(({ detail }) => String(detail)),
    };
  }

  return { server, referrer, statementsWhile, statementsOf, statementsOfBatch, costOfSettings };
}

async function invited(mail: boolean) {
  const counting = await countingServer(mail);
  const friend = await signUp(counting.server, 'friend@example.com', counting.referrer.code);
  return { ...counting, friend, stripe: buyer(friend.id) };
}

/** A buyer without a referrer. */
async function unreferredBuyer(mail: boolean) {
  const counting = await countingServer(mail);
  const { id } = await signUp(counting.server, 'loner@example.com');
  return { ...counting, stripe: buyer(id) };
}

/** A friend who paid and converted, a month later; and what their renewal then brings. */
async function converted(mail: boolean, day = 31) {
  const story = await invited(mail);
  const { server, stripe } = story;
  await deliverAll(server, [
    stripe.checkoutCompleted(),
    stripe.created(),
    stripe.invoicePaid(),
    stripe.invoicePaymentPaid(),
  ]);
  server.clock.now = daysAfter(day);
  const invoice = stripeId('in');
  const at = { at: daysAfter(day) };
  const item = { price: { id: 'price_m', unit_amount: 900 }, current_period_end: epoch(daysAfter(day + 31)) };
  const renewal = {
    updated: stripe.updated({ items: { data: [item] } }, at),
    invoice: stripe.invoicePaid({ id: invoice, billing_reason: 'subscription_cycle' }, at),
    payment: stripe.invoicePaymentPaid(
      { invoice, payment: { type: 'payment_intent', payment_intent: stripeId('pi') } },
      at,
    ),
  };
  return { ...story, renewal };
}

interface Cost {
  what: string;
  statements: Record<Engine, number>;
  /** One more where the server sends mail and somebody is told. */
  withMail: 0 | 1;
  measure: (mail: boolean) => Promise<string[]>;
}

/** docs/what-happens-when.md has the same table. */
const COSTS: Cost[] = [
  {
    what: 'a duplicate',
    statements: { sqlite: 1, postgresql: 1 },
    withMail: 0,
    measure: async (mail) => {
      const { server, renewal, statementsOf } = await converted(mail);
      await deliverAll(server, [renewal.updated]);
      return statementsOf(renewal.updated, 'duplicate');
    },
  },
  {
    what: 'an event of an unused type',
    statements: { sqlite: 1, postgresql: 1 },
    withMail: 0,
    measure: async (mail) => {
      const { statementsOf } = await countingServer(mail);
      return statementsOf(stripeEvent('product.created', { id: 'prod_1' }), 'ignored');
    },
  },
  {
    what: 'a renewal: `customer.subscription.updated`',
    statements: { sqlite: 3, postgresql: 5 },
    withMail: 0,
    measure: async (mail) => {
      const { renewal, statementsOf } = await converted(mail);
      return statementsOf(renewal.updated, 'ok');
    },
  },
  {
    what: 'a renewal: `invoice.paid`',
    statements: { sqlite: 3, postgresql: 6 },
    withMail: 0,
    measure: async (mail) => {
      const { server, renewal, statementsOf } = await converted(mail);
      await deliverAll(server, [renewal.updated]);
      return statementsOf(renewal.invoice, 'ok');
    },
  },
  {
    what: 'a renewal: `invoice_payment.paid`',
    statements: { sqlite: 3, postgresql: 7 },
    withMail: 0,
    measure: async (mail) => {
      const { server, renewal, statementsOf } = await converted(mail);
      await deliverAll(server, [renewal.updated, renewal.invoice]);
      return statementsOf(renewal.payment, 'ok');
    },
  },
  {
    what: 'a renewal that fails: `invoice.payment_failed`',
    statements: { sqlite: 3, postgresql: 5 },
    withMail: 1,
    measure: async (mail) => {
      const { renewal, statementsOf } = await converted(mail);
      const { object } = renewal.invoice.data;
      const unpaid = { ...object, amount_paid: 0, next_payment_attempt: epoch(daysAfter(34)) };
      const failed = stripeEvent('invoice.payment_failed', unpaid, { at: daysAfter(31) });
      return statementsOf(failed, 'ok');
    },
  },
  {
    what: 'a stale snapshot',
    statements: { sqlite: 3, postgresql: 6 },
    withMail: 0,
    measure: async (mail) => {
      const { server, stripe, renewal, statementsOf } = await converted(mail);
      await deliverAll(server, [renewal.updated]);
      return statementsOf(stripe.updated({}, { at: daysAfter(30) }), 'ignored');
    },
  },
  {
    what: 'a purchase: `checkout.session.completed`, arriving first',
    statements: { sqlite: 3, postgresql: 5 },
    withMail: 0,
    measure: async (mail) => {
      const { stripe, statementsOf } = await invited(mail);
      return statementsOf(stripe.checkoutCompleted(), 'ok');
    },
  },
  {
    what: 'a purchase: `customer.subscription.created`, nobody referred the buyer',
    statements: { sqlite: 6, postgresql: 8 },
    withMail: 0,
    measure: async (mail) => {
      const { server, stripe, statementsOf } = await unreferredBuyer(mail);
      await deliverAll(server, [stripe.checkoutCompleted()]);
      return statementsOf(stripe.created(), 'ok');
    },
  },
  {
    what: 'a purchase: `customer.subscription.created` that converts a referral',
    statements: { sqlite: 7, postgresql: 9 },
    withMail: 1,
    measure: async (mail) => {
      const { server, stripe, statementsOf } = await invited(mail);
      await deliverAll(server, [stripe.checkoutCompleted()]);
      return statementsOf(stripe.created(), 'ok');
    },
  },
  {
    what: 'a purchase: the first `invoice.paid`, after the conversion',
    statements: { sqlite: 4, postgresql: 7 },
    withMail: 0,
    measure: async (mail) => {
      const { server, stripe, statementsOf } = await invited(mail);
      await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
      return statementsOf(stripe.invoicePaid(), 'ok');
    },
  },
  {
    what: 'the first payment after a trial: `invoice.paid` that converts a referral',
    statements: { sqlite: 8, postgresql: 11 },
    withMail: 1,
    measure: async (mail) => {
      const { server, stripe, statementsOf } = await invited(mail);
      const trial = { trial_end: epoch(daysAfter(7)) };
      await deliverAll(server, [
        stripe.checkoutCompleted(),
        stripe.created({ status: 'trialing', ...trial }),
        stripe.invoicePaid({ amount_paid: 0 }),
      ]);
      server.clock.now = daysAfter(7);
      const at = { at: daysAfter(7) };
      await deliverAll(server, [stripe.updated(trial, at)]);
      return statementsOf(stripe.invoicePaid({ id: stripeId('in') }, at), 'ok');
    },
  },
  {
    what: 'a full refund: `charge.refunded` that reverses a conversion',
    statements: { sqlite: 9, postgresql: 13 },
    withMail: 1,
    measure: async (mail) => {
      const { stripe, statementsOf } = await converted(mail, 20);
      return statementsOf(stripe.chargeRefunded({}, { at: daysAfter(20) }), 'ok');
    },
  },
  {
    what: 'a cancellation: `customer.subscription.deleted`',
    statements: { sqlite: 6, postgresql: 8 },
    withMail: 1,
    measure: async (mail) => {
      const { stripe, statementsOf } = await converted(mail);
      return statementsOf(stripe.ended(daysAfter(31)), 'ok');
    },
  },
];

test.each(COSTS.map((cost) => [cost.what, cost] as const))('%s', async (_what, { statements, measure }) => {
  const log = await measure(false);
  expect(log, log.join('\n')).toHaveLength(statements[engine]);
});

test.each(COSTS.map((cost) => [cost.what, cost] as const))(
  '%s, on a server that sends mail',
  async (_what, { statements, withMail, measure }) => {
    const log = await measure(true);
    expect(log, log.join('\n')).toHaveLength(statements[engine] + withMail);
    expect(log.filter((statement) => statement === 'INSERT OutboxItem')).toHaveLength(withMail);
  },
);

test.each([false, true])('64 events of a kind cost as many statements as one (mail: %s)', async (mail) => {
  const { server, referrer, statementsOfBatch } = await countingServer(mail);
  const more = mail ? 1 : 0;
  const purchases: Buyer[] = [];
  for (let n = 0; n < 64; n += 1) {
    const { id } = await signUp(server, `friend${n}@example.com`, referrer.code);
    purchases.push(buyer(id));
  }
  const costs = async (events: readonly object[]): Promise<number> =>
    (await statementsOfBatch(events)).length;
  const numbers = (sqlite: number, postgresql: number): number => ({ sqlite, postgresql })[engine];
  const all = (event: (purchase: Buyer) => object): object[] => purchases.map(event);
  expect(await costs(all((purchase) => purchase.checkoutCompleted()))).toBe(numbers(3, 5));
  expect(await costs(all((purchase) => purchase.created()))).toBe(numbers(7, 9) + more);
  expect(await costs(all((purchase) => purchase.invoicePaid()))).toBe(numbers(4, 7));
  expect(await costs(all((purchase) => purchase.invoicePaymentPaid()))).toBe(numbers(3, 7));
  const renewed = all((purchase) =>
    purchase.updated({ current_period_end: epoch(daysAfter(62)) }, { at: daysAfter(1) }),
  );
  expect(await costs(renewed)).toBe(numbers(3, 5));
  expect(await costs(renewed)).toBe(numbers(1, 1));
  expect(await costs(all((purchase) => purchase.chargeRefunded({}, { at: daysAfter(2) })))).toBe(
    numbers(9, 13) + more,
  );
  // Each conversion told two people, and so did each reversal.
  expect(await server.db.outboxItem.count()).toBe(more * 64 * 4);
  expect(await server.db.referral.count({ where: { reversedAt: { not: null } } })).toBe(64);
});

// Answers are recorded, and plans explained, on SQLite only.
test.runIf(engine === 'sqlite')(
  'the settings page costs a user with many conversions as many statements as a user with few, and a limited number of rows',
  async () => {
    const { server, costOfSettings } = await countingServer();
    const [few, many] = [await signUp(server, 'few@example.com'), await signUp(server, 'many@example.com')];
    await giveConversions(server, few, 10, START);
    await giveConversions(server, many, 1_234, START);
    // Checkouts left at their bank's approval.
    await server.db.customer.create({ data: { id: 'cus_many', userId: many.id } });
    await server.db.subscription.createMany({
      data: Array.from({ length: 1_000 }, (_, n) => ({
        id: `sub_${n}`,
        customerId: 'cus_many',
        status: 'incomplete_expired',
        createdAt: new Date(START.getTime() + n * 1000),
      })),
    });
    // The first view shows what is new since the last one, and folds the older entries once.
    for (const person of [few, many]) await costOfSettings(person);

    const [cost, costOfMany] = [await costOfSettings(few), await costOfSettings(many)];
    expect(costOfMany.asked).toEqual(cost.asked);
    expect(cost.asked).toHaveLength(6);
    // 50 invitations; of the ledger, at most 50 entries more than the 50 lines that are shown.
    // Of subscriptions that never began, the newest.
    expect(costOfMany.rows).toBeLessThanOrEqual(3 + 50 + 100 + 1);
    expect(await subscriptionsOf(server.db, many.id)).toMatchObject([{ id: 'sub_999' }]);
    // Conversions that are already counted are not counted again.
    expect(costOfMany.counted).toContain('"creditedAt" IS NULL');
    // Each row is found by an index, in the index's order. `o` holds the open invitations, up to a limit.
    expect(
      costOfMany.plans.filter(
        (step) =>
          !/^(SEARCH .*|CO-ROUTINE o|SCAN o|SCALAR SUBQUERY \d+|USE TEMP B-TREE FOR ORDER BY)$/.test(step),
      ),
    ).toEqual([]);
  },
);

test('docs/what-happens-when.md has the same table', async () => {
  const page = await readFile(new URL('../docs/what-happens-when.md', import.meta.url), 'utf8');
  const section = page.split('\n## ').find((part) => part.startsWith('What an event costs\n')) ?? '';
  const rows = [...section.matchAll(/^\| (.+?) +\| +(\d+) +\| +(\d+) +\| +(\d+) +\|$/gm)].map(
    ([, what, sqlite, postgresql, withMail]) => ({
      what,
      statements: { sqlite: Number(sqlite), postgresql: Number(postgresql) },
      withMail: Number(withMail),
    }),
  );
  expect(rows).toEqual(COSTS.map(({ what, statements, withMail }) => ({ what, statements, withMail })));
});

// On PostgreSQL the limits themselves are statements.
test.runIf(engine === 'sqlite')(
  'asking for a link does not read the other accounts of a mailbox once its emails for the day are used up',
  async () => {
    const { server, statementsWhile } = await countingServer(true);
    await signUp(server, 'referrer+other@example.com');
    const ask = (email = 'referrer@example.com') => postForm(server.app, '/forgot', { email });
    const sent = { status: 'done', endedAt: server.clock.now };
    const links = { kind: 'mail.reset-password', status: 'queued' };
    // The sign-ups in this test queue no emails.
    for (let n = 0; n < 5; n += 1) {
      await ask();
      await until(async () => (await server.db.outboxItem.count({ where: links })) > 0 || undefined);
      await server.db.outboxItem.updateMany({ where: links, data: sent });
    }
    const asked = await statementsWhile(async () => {
      await ask('referrer+other@example.com');
      // Closing waits for the link.
      await server.app.close();
    });
    // The account, its lock, whether a link to it still waits, and the emails of the mailbox.
    expect(asked).toEqual(['SELECT User', 'UPDATE User', 'SELECT OutboxItem', 'SELECT OutboxItem']);
  },
);
