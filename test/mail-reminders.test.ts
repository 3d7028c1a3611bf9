import { describe, expect, onTestFinished, test, vi } from 'vitest';

import { openDatabase } from '../src/db/open.ts';
import { addSeconds } from '../src/instants.ts';
import { examine, summarise } from '../src/operator/doctor.ts';
import { grantCredit } from '../src/operator/grant-credit.ts';
import { mailResend } from '../src/operator/mail.ts';
import { queueAlarm, readProblems, unusualSilence } from '../src/outbox/alarm.ts';
import type { Examine } from '../src/outbox/alarm.ts';
import { startHourly } from '../src/outbox/hourly.ts';
import { WAITS } from '../src/outbox/items.ts';
import { queueReminders } from '../src/outbox/reminders.ts';
import { RECIPIENT_REFUSED } from '../src/outbox/smtp.ts';
import { commandContext } from './support/command-context.ts';
import { startMailServer } from './support/mail-server.ts';
import { refuseWrites } from './support/other-connection.ts';
import { until } from './support/process.ts';
import { mailEnv, startTestSender } from './support/sender.ts';
import {
  daysAfter,
  deleteAccount,
  deliver,
  deliverAll,
  newDatabase,
  signUp,
  START,
  startTestServer,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { buyer, epoch } from './support/stripe-events.ts';

/** Somebody with ten free days, on a server that sends mail. */
async function tenDays(env: NodeJS.ProcessEnv = {}) {
  const mailServer = await startMailServer();
  const server = await startTestServer({ ...mailEnv(mailServer), ...env }, { now: START });
  const ann = await signUp(server, 'ann@example.com');
  await grantCredit(commandContext(server), ann.email, 10, undefined);
  const sender = await startTestSender(server);
  /** Does the hourly work as of an instant, and sends all mail. */
  async function hourAt(days: number): Promise<void> {
    server.clock.now = daysAfter(days);
    await queueReminders(server.db, server.clock.now);
    await sender.wake();
  }
  const subjects = () => mailServer.mails.map(({ headers }) => headers.get('subject'));
  return { mailServer, server, ann, sender, hourAt, subjects };
}

const OPERATOR_EMAIL = 'ops@tandem.test';

const ENDING = 'Your free days end on 20 January 2027';
const ENDED = 'Your free days have ended';

describe('free days', () => {
  test('bring an email a week before they end and one at their end', async () => {
    const { hourAt, subjects, mailServer } = await tenDays();
    for (const day of [0, 2.9]) await hourAt(day);
    expect(subjects()).toEqual([]);
    for (const day of [3, 3.1, 5, 9.9]) await hourAt(day);
    expect(subjects()).toEqual([ENDING]);
    expect(mailServer.mails[0]?.text).toContain('until 20 January 2027: 7 days left.');
    for (const day of [10, 10.1, 12]) await hourAt(day);
    expect(subjects()).toEqual([ENDING, ENDED]);
  });

  test('whose end has moved get a second reminder', async () => {
    const { server, ann, hourAt, subjects } = await tenDays();
    await hourAt(4);
    await grantCredit(commandContext(server), ann.email, 10, undefined);
    await hourAt(4.1);
    await hourAt(14);
    expect(subjects()).toEqual([ENDING, 'Your free days end on 30 January 2027']);
  });

  test('that ended long ago get no reminder', async () => {
    const { hourAt, subjects } = await tenDays();
    await hourAt(14);
    expect(subjects()).toEqual([]);
  });

  const NO_REMINDER: [string, (server: TestServer, ann: Person) => Promise<unknown>][] = [
    ['has turned mail off', ({ db }, { id }) => db.user.update({ where: { id }, data: { mailOff: true } })],
    [
      'is on trial',
      (server, { id }) => {
        const stripe = buyer(id);
        const trial = { status: 'trialing', trial_end: epoch(daysAfter(30)) };
        return deliverAll(server, [stripe.checkoutCompleted(), stripe.created(trial)]);
      },
    ],
    [
      'pays, which holds the days',
      (server, { id }) => {
        const stripe = buyer(id);
        return deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
      },
    ],
    [
      'has deleted the account',
      async (server, ann) => {
        expect((await deleteAccount(server, ann)).statusCode).toBe(303);
      },
    ],
  ];

  test.each(NO_REMINDER)('of somebody who %s get no reminder', async (_who, happens) => {
    const { server, ann, hourAt } = await tenDays();
    await happens(server, ann);
    // The days still have this end.
    const { creditUntil } = await server.db.user.findUniqueOrThrow({ where: { id: ann.id } });
    expect(creditUntil).toEqual(daysAfter(10));
    for (const day of [4, 10]) await hourAt(day);
    const kinds = (await server.db.outboxItem.findMany()).map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind.startsWith('mail.days'))).toEqual([]);
  });

  test('that were used up before a plan, or taken back, get no further mail that they have ended', async () => {
    const { server, ann, hourAt, subjects } = await tenDays();
    const stripe = buyer(ann.id);
    await hourAt(10);
    server.clock.now = daysAfter(20);
    await deliver(server, stripe.checkoutCompleted({}, { at: daysAfter(20) }));
    await deliver(server, stripe.created({}, { at: daysAfter(20) }));
    server.clock.now = daysAfter(60);
    await deliver(server, stripe.ended(daysAfter(60)));
    await hourAt(60.1);
    expect(subjects()).toEqual([ENDED]);

    server.clock.now = daysAfter(61);
    const friend = await signUp(server, 'ben@example.com', ann.code);
    const bens = buyer(friend.id);
    const at = { at: daysAfter(61) };
    for (const event of [
      bens.checkoutCompleted({}, at),
      bens.created({}, at),
      bens.invoicePaid({}, at),
      bens.invoicePaymentPaid({}, at),
    ])
      await deliver(server, event);
    await hourAt(62);
    server.clock.now = daysAfter(70);
    await deliver(server, bens.chargeRefunded({}, { at: daysAfter(70) }));
    await hourAt(70.1);
    expect(subjects()).toContain('We took back 36 free days');
    expect(subjects().filter((subject) => subject === ENDED)).toEqual([ENDED]);
  });

  test('cause no mail if their owner pays before it is sent', async () => {
    const { server, ann, sender, subjects } = await tenDays();
    await sender.close();
    server.clock.now = daysAfter(4);
    await queueReminders(server.db, server.clock.now);
    const stripe = buyer(ann.id);
    for (const event of [stripe.checkoutCompleted(), stripe.created({}, { at: daysAfter(4) })])
      await deliver(server, event);
    await (await startTestSender(server)).wake();
    expect(subjects()).toEqual([]);
    expect(await server.db.outboxItem.findMany()).toMatchObject([
      { kind: 'mail.days-ending', status: 'dropped', error: 'The user has a plan.' },
    ]);
  });

  test('get one reminder, however many servers run', async () => {
    const mailServer = await startMailServer();
    const databaseUrl = await newDatabase();
    const server = await startTestServer(
      { ...mailEnv(mailServer), DATABASE_URL: databaseUrl },
      { now: START },
    );
    const { db } = await openDatabase(databaseUrl);
    onTestFinished(() => db.$disconnect());
    const ann = await signUp(server, 'ann@example.com');
    await grantCredit(commandContext(server), ann.email, 5, undefined);
    await Promise.all([server.db, db].map((each) => queueReminders(each, START)));
    expect(await db.outboxItem.count()).toBe(1);
  });
});

describe('the operator', () => {
  const NOTHING_ELSE = { examine: () => Promise.resolve([]), isDue: false };

  /** A server with an event that failed. */
  async function troubled() {
    const story = await tenDays({ OPERATOR_EMAIL });
    const { server, ann } = story;
    await refuseWrites(server, 'INSERT', 'Subscription');
    const stripe = buyer(ann.id);
    await deliver(server, stripe.checkoutCompleted());
    expect((await deliver(server, stripe.created())).statusCode).toBe(500);
    return story;
  }

  test('is told once a day while something is wrong, and by one server', async () => {
    const { server, sender, mailServer } = await troubled();
    const look = async (days: number): Promise<number> => {
      server.clock.now = daysAfter(days);
      await Promise.all(
        [1, 2].map(() => queueAlarm(server.db, OPERATOR_EMAIL, NOTHING_ELSE, server.clock.now)),
      );
      await sender.wake();
      return mailServer.mails.length;
    };
    expect(await look(0)).toBe(1);
    expect(await look(0.2)).toBe(1);
    expect(await look(1)).toBe(2);
    const [mail] = mailServer.mails;
    expect(mail?.to).toBe(OPERATOR_EMAIL);
    expect(mail?.text).toContain('- 1 Stripe event could not be handled.');
    expect(mail?.headers.has('list-unsubscribe')).toBe(false);
    // The row of an email that was sent keeps no address.
    expect(await server.db.outboxItem.findFirst({ where: { kind: 'mail.operator' } })).toMatchObject({
      userId: null,
      address: null,
      status: 'done',
    });
  });

  test('is told nothing when all is well', async () => {
    const { server } = await tenDays({ OPERATOR_EMAIL });
    await queueAlarm(server.db, OPERATOR_EMAIL, NOTHING_ELSE, START);
    expect(await server.db.outboxItem.count()).toBe(0);
  });

  test('hears once a day what doctor finds, even when nothing else is wrong', async () => {
    const { server, ann, sender, mailServer } = await tenDays();
    const context = {
      db: server.db,
      operatorEmail: OPERATOR_EMAIL,
      examine: async () => summarise(await examine(server.db, { clawbackDays: 30, now: server.clock.now })),
      logger: { warn: vi.fn() },
      now: () => server.clock.now,
    };
    const { run, close } = startHourly(context);
    onTestFinished(close);
    /** How many emails the operator has got after the run at an instant. */
    const mailsAfter = async (days: number): Promise<number> => {
      server.clock.now = daysAfter(days);
      await run();
      await sender.wake();
      return mailServer.mails.filter(({ to }) => to === OPERATOR_EMAIL).length;
    };
    expect(await mailsAfter(0.1)).toBe(0);
    await server.db.user.update({ where: { id: ann.id }, data: { tier: 'paid', creditHeldAt: START } });
    // The database is examined once a day.
    expect(await mailsAfter(0.2)).toBe(0);
    expect(await mailsAfter(1.1)).toBe(1);
    expect(await mailsAfter(1.2)).toBe(1);
    expect(await mailsAfter(2.2)).toBe(2);
    // The run of the next day comes some seconds early.
    expect(await mailsAfter(3.1999)).toBe(3);
    const text = mailServer.mails.at(-1)?.text;
    expect(text).toContain(
      '- "doctor" finds rows that break a rule: credit-ledger (1), tier (1). Run it to see',
    );
    expect(text).not.toContain(ann.id);
    expect(context.logger.warn).not.toHaveBeenCalled();
  });

  test('hears when Stripe has been silent for longer than usual', async () => {
    const { server } = await tenDays({ OPERATOR_EMAIL });
    const row = { type: 'invoice.paid', created: START, payload: null, thinned: false };
    await server.db.event.createMany({
      data: Array.from({ length: 30 }, (_, index) => ({
        ...row,
        id: `evt_${index}`,
        receivedAt: daysAfter(index / 2),
        ...(index % 3 === 0 ? { status: 'ignored', reason: 'unused' } : { status: 'applied' }),
      })),
    });
    expect(await readProblems(server.db, daysAfter(15.5))).toEqual([]);
    expect(await readProblems(server.db, daysAfter(18))).toEqual([
      'No event has come from Stripe for 3 days. The longest pause before that was 12 hours. Look at the webhook endpoint in ' +
        `Stripe's dashboard, then run "reconcile".`,
    ]);
  });

  test('hears of an email that failed today, and of one that waits for more than an hour', async () => {
    const { server, ann } = await tenDays({ OPERATOR_EMAIL });
    const row = {
      kind: 'mail.password-changed',
      userId: ann.id,
      data: 'null',
      createdAt: START,
      dueAt: START,
    };
    await server.db.outboxItem.create({ data: { ...row, id: 'a', status: 'failed', endedAt: START } });
    await server.db.outboxItem.create({ data: { ...row, id: 'b', status: 'queued', dueAt: daysAfter(9) } });
    expect(await readProblems(server.db, daysAfter(0.04)), 'to an unclaimed account').toEqual([]);
    await server.db.user.update({ where: { id: ann.id }, data: { emailProvenAt: START } });
    const proof = {
      ...row,
      id: 'c',
      kind: 'mail.prove-address',
      data: '{"isChange":true}',
      status: 'failed',
    };
    await server.db.outboxItem.create({ data: { ...proof, endedAt: START } });
    expect(await readProblems(server.db, daysAfter(0.04))).toEqual([
      expect.stringMatching(/^1 email or change at Stripe failed for good\. /),
    ]);
    expect(await readProblems(server.db, daysAfter(0.1))).toEqual([
      expect.stringMatching(/^1 email or change at Stripe failed for good\. /),
      expect.stringMatching(
        /^An email or a change at Stripe \(mail\.password-changed, b\) has waited for 2 hours\. It has not been tried yet\.$/,
      ),
    ]);
    expect(await readProblems(server.db, daysAfter(2))).toEqual([
      expect.stringMatching(
        /^An email or a change at Stripe \(mail\.password-changed, b\) has waited for 48 hours\./,
      ),
    ]);
  });

  test('hears of a failure just after the last email in the next one, however late that is', async () => {
    const { server, ann } = await tenDays({ OPERATOR_EMAIL });
    await server.db.user.update({ where: { id: ann.id }, data: { emailProvenAt: START } });
    await server.db.event.create({
      data: { id: 'evt_1', type: 'x', created: START, receivedAt: START, status: 'failed', error: 'broken' },
    });
    await queueAlarm(server.db, OPERATOR_EMAIL, NOTHING_ELSE, START);
    await server.db.event.deleteMany();
    await server.db.outboxItem.updateMany({ data: { status: 'done', endedAt: START } });
    const failed = { kind: 'mail.password-changed', userId: ann.id, data: 'null', status: 'failed' };
    const endedAt = daysAfter(0.01);
    await server.db.outboxItem.create({
      data: { ...failed, id: 'a', createdAt: START, dueAt: START, endedAt },
    });
    expect(await readProblems(server.db, daysAfter(1.5))).toEqual([
      expect.stringMatching(/^1 email or change at Stripe failed for good\. /),
    ]);
    expect(await readProblems(server.db, daysAfter(4))).toHaveLength(1);
  });

  test('hears of each failure once', async () => {
    const { server, ann } = await tenDays({ OPERATOR_EMAIL });
    await server.db.user.update({ where: { id: ann.id }, data: { emailProvenAt: START } });
    const failed = { kind: 'mail.password-changed', userId: ann.id, data: 'null', status: 'failed' };
    const fails = (id: string, at: Date) =>
      server.db.outboxItem.create({ data: { ...failed, id, createdAt: START, dueAt: START, endedAt: at } });
    const noon = new Date('2026-11-26T12:00:00Z');
    const inHours = (hours: number) => addSeconds(noon, hours * 3_600);
    const told = () => server.db.outboxItem.count({ where: { kind: 'mail.operator' } });
    await fails('a', noon);
    await queueAlarm(server.db, OPERATOR_EMAIL, NOTHING_ELSE, inHours(1));
    await server.db.outboxItem.updateMany({
      where: { status: 'queued' },
      data: { status: 'done', endedAt: noon },
    });
    // A new day has begun, but nothing else has failed.
    await queueAlarm(server.db, OPERATOR_EMAIL, NOTHING_ELSE, inHours(13));
    expect(await told()).toBe(1);
    await fails('b', inHours(14));
    await queueAlarm(server.db, OPERATOR_EMAIL, NOTHING_ELSE, inHours(15));
    expect(await told()).toBe(2);
  });

  test('hears of a failure although an older email to the operator was sent again after it', async () => {
    const { server, ann, sender } = await tenDays();
    await sender.close();
    const { db } = server;
    await db.user.update({ where: { id: ann.id }, data: { emailProvenAt: START } });
    const problem = { examine: () => Promise.resolve(['One.']), isDue: true };
    await queueAlarm(db, OPERATOR_EMAIL, problem, START);
    await db.outboxItem.updateMany({ data: { status: 'failed', endedAt: daysAfter(-1) } });
    const failed = { kind: 'mail.password-changed', userId: ann.id, data: 'null', status: 'failed' };
    await db.outboxItem.create({
      data: { ...failed, id: 'a', createdAt: START, dueAt: START, endedAt: daysAfter(1) },
    });
    const { id } = await db.outboxItem.findFirstOrThrow({ where: { kind: 'mail.operator' } });
    server.clock.now = daysAfter(2);
    await mailResend(commandContext(server, { OPERATOR_EMAIL }), id);
    // The email that was sent again has waited since it was queued. No other email could say so.
    expect(await readProblems(db, daysAfter(2.1))).toEqual([
      expect.stringMatching(/^1 email or change at Stripe failed for good\. /),
    ]);
  });

  test("does not hear of emails that wait because a stranger's address does not exist", async () => {
    const { server, ann } = await tenDays({ OPERATOR_EMAIL });
    const refused = `${RECIPIENT_REFUSED}: 450 4.1.2.`;
    const row = { kind: 'mail.prove-address', data: '{"isChange":false}', userId: ann.id, status: 'queued' };
    const item = { ...row, id: 'a', createdAt: START, dueAt: START, attempts: 1 };
    await server.db.outboxItem.create({ data: { ...item, error: refused } });
    expect(await readProblems(server.db, daysAfter(1))).toEqual([]);
    await server.db.outboxItem.updateMany({
      data: { error: 'The connection to the mail server failed: ETIMEDOUT.' },
    });
    expect(await readProblems(server.db, daysAfter(1))).toHaveLength(1);
    await server.db.outboxItem.updateMany({ data: { kind: 'mail.password-changed', error: refused } });
    expect(await readProblems(server.db, daysAfter(1))).toEqual([]);
    await server.db.user.update({ where: { id: ann.id }, data: { emailProvenAt: START } });
    expect(await readProblems(server.db, daysAfter(1))).toHaveLength(1);
  });

  test('does not hear of emails that only wait for another one, because that one would be reported itself', async () => {
    const { server, ann } = await tenDays({ OPERATOR_EMAIL });
    const row = { kind: 'mail.password-changed', data: 'null', userId: ann.id, status: 'queued' };
    await server.db.outboxItem.create({ data: { ...row, id: 'a', createdAt: START, dueAt: START } });
    expect(await readProblems(server.db, daysAfter(1))).toHaveLength(1);
    for (const error of Object.values(WAITS)) {
      await server.db.outboxItem.updateMany({ data: { error } });
      expect(await readProblems(server.db, daysAfter(1)), error).toEqual([]);
    }
  });

  test('hears of mail that failed to somebody who has paid, although the address is unproven', async () => {
    const { server, ann } = await tenDays({ OPERATOR_EMAIL });
    const stripe = buyer(ann.id);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    await server.db.outboxItem.updateMany({ data: { status: 'done', endedAt: START } });
    const failed = { kind: 'mail.password-changed', userId: ann.id, data: 'null', status: 'failed' };
    await server.db.outboxItem.create({
      data: { ...failed, id: 'a', createdAt: START, dueAt: START, endedAt: START },
    });
    expect(await readProblems(server.db, daysAfter(0.5))).toHaveLength(1);
  });
});

describe('the daily examination', () => {
  /** An hourly run of a server with a failed event, and what it logs. */
  async function withFailedEvent(examine: Examine) {
    const { server } = await tenDays();
    await server.db.event.create({
      data: {
        id: 'evt_1',
        type: 'invoice.paid',
        created: START,
        receivedAt: START,
        status: 'failed',
        error: 'Error: x',
        payload: '{}',
      },
    });
    const warnings: unknown[] = [];
    const hourly = startHourly({
      db: server.db,
      operatorEmail: OPERATOR_EMAIL,
      examine,
      logger: { warn: (...said: unknown[]) => void warnings.push(said) },
      now: () => server.clock.now,
    });
    onTestFinished(hourly.close);
    return { server, hourly, warnings };
  }

  test('that fails is a problem of its own, and the operator still hears of the others', async () => {
    const { server, hourly, warnings } = await withFailedEvent(() => Promise.reject(new Error('busy')));
    await hourly.run();
    const mail = await server.db.outboxItem.findFirstOrThrow({ where: { kind: 'mail.operator' } });
    expect(mail.data).toMatch(/1 Stripe event could not be handled.*The daily check of the database failed/);
    expect(warnings).toHaveLength(1);
  });

  test('does not keep a server from stopping', async () => {
    const examinations: AbortSignal[] = [];
    const { server, hourly, warnings } = await withFailedEvent((signal) => {
      examinations.push(signal);
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reject(signal.reason as Error);
        });
      });
    });
    await until(() => Promise.resolve(examinations[0]));
    await hourly.close();
    expect(await server.db.outboxItem.count({ where: { kind: 'mail.operator' } })).toBe(0);
    expect(warnings).toEqual([]);
  });
});

test('a server queues reminders at its start, and logs a warning when the database refuses them', async () => {
  const { server } = await tenDays({});
  server.clock.now = daysAfter(5);
  const warnings: unknown[] = [];
  const context = {
    db: server.db,
    operatorEmail: null,
    examine: () => Promise.resolve([]),
    logger: { warn: (...said: unknown[]) => void warnings.push(said) },
    now: () => server.clock.now,
  };
  await startHourly(context).close();
  expect(await server.db.outboxItem.count()).toBe(1);
  expect(warnings).toEqual([]);

  await server.db.outboxItem.deleteMany();
  await refuseWrites(server, 'INSERT', 'OutboxItem');
  await startHourly(context).close();
  expect(warnings).toHaveLength(1);
  expect(JSON.stringify(warnings)).not.toContain('example.com');
});

describe('a silence of Stripe is unusual', () => {
  /** The newest first, one every hour. */
  const hourly = (count: number): Date[] =>
    Array.from({ length: count }, (_, index) => daysAfter((count - 1 - index) / 24));
  const hoursAfter = (hours: number): Date => daysAfter(hours / 24);

  test('after six hours, when an event comes every hour', () => {
    expect(unusualSilence(hourly(25), hoursAfter(24 + 6))).toBeNull();
    expect(unusualSilence(hourly(25), hoursAfter(24 + 6.1))).toMatchObject({ longest: 3600 });
  });

  test('after twice the longest pause, when there was a long one', () => {
    const receipts = hourly(60).filter((_, index) => index < 20 || index > 40);
    expect(unusualSilence(receipts, hoursAfter(59 + 44))).toBeNull();
    expect(unusualSilence(receipts, hoursAfter(59 + 44.1))).toMatchObject({ longest: 22 * 3600 });
  });

  test('never while there are too few events to tell', () => {
    expect(unusualSilence(hourly(19), hoursAfter(1000))).toBeNull();
    expect(unusualSilence([], hoursAfter(1000))).toBeNull();
  });
});
