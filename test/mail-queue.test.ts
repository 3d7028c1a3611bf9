import { describe, expect, test } from 'vitest';

import type { OutboxItem } from '../src/db/generated/client.ts';
import { inTransaction } from '../src/db/transaction.ts';
import { addSeconds } from '../src/instants.ts';
import { grantCredit } from '../src/operator/grant-credit.ts';
import { readMailFacts } from '../src/outbox/facts.ts';
import { takeDue } from '../src/outbox/items.ts';
import { workOf } from '../src/outbox/kinds.ts';
import { queueNow } from '../src/outbox/queue.ts';
import { eventContextOf } from '../src/stripe/handle-event.ts';
import { commandContext } from './support/command-context.ts';
import { handleTogether } from './support/handle-together.ts';
import { startMailServer } from './support/mail-server.ts';
import type { MailServer } from './support/mail-server.ts';
import { MAIL } from './support/mail.ts';
import { until } from './support/process.ts';
import { mailEnv, startTestSender } from './support/sender.ts';
import {
  daysAfter,
  deliver,
  deliverAll,
  makeTombstone,
  signUp,
  START,
  startTestServer,
} from './support/server.ts';
import type { TestServer } from './support/server.ts';
import { buyer, epoch, stripeEvent, stripeId } from './support/stripe-events.ts';
import type { Buyer } from './support/stripe-events.ts';

/** Somebody who was invited, on a server that queues mail and sends none. */
async function invitation(env: NodeJS.ProcessEnv = {}) {
  const server = await startTestServer({ ...MAIL, ...env }, { now: START });
  const ann = await signUp(server, 'ann@example.com');
  const ben = await signUp(server, 'ben@example.com', ann.code);
  const names = new Map([
    [ann.id, 'ann'],
    [ben.id, 'ben'],
  ]);
  /** What was queued since the last look: whom it is for, and what it says. */
  async function queued(): Promise<object[]> {
    const items = await server.db.outboxItem.findMany();
    await server.db.outboxItem.deleteMany();
    return items
      .map((item) => {
        const { kind, data } = workOf(item);
        const { referralId: _unguessable, ...rest } = { referralId: '', ...data };
        return { to: names.get(item.userId ?? '') ?? '', kind, ...rest };
      })
      .sort((a, b) => a.to.localeCompare(b.to));
  }
  return { server, ann, ben, stripe: buyer(ben.id), queued };
}

/** Events that are handled in one transaction. */
async function handleInOne(server: TestServer, events: object[]): Promise<void> {
  await Promise.all(handleTogether(eventContextOf(server), events, server.clock.now));
}

const days = (count: number): number => count * 86_400;

/** The events of a first payment. */
function purchaseOf(stripe: Buyer): object[] {
  return [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid(), stripe.invoicePaymentPaid()];
}

/** Ben has paid, and both know. */
async function converted() {
  const story = await invitation();
  const { server, stripe, queued } = story;
  await deliverAll(server, purchaseOf(stripe));
  expect(await queued()).toEqual([
    { to: 'ann', kind: 'mail.days-granted', side: 'referrer', seconds: days(45) },
    { to: 'ben', kind: 'mail.days-granted', side: 'referred', seconds: days(45) },
  ]);
  return story;
}

test('a reversal is mailed when the return of the days was mailed, although their grant was not', async () => {
  const mailServer = await startMailServer();
  const { server, stripe } = await invitation(mailEnv(mailServer));
  await deliverAll(server, [...purchaseOf(stripe), stripe.chargeRefunded()]);
  const sender = await startTestSender(server);
  await sender.wake();
  server.clock.now = addSeconds(START, 60);
  await sender.wake();
  expect(mailServer.mails).toEqual([]);
  server.clock.now = daysAfter(1);
  await deliverAll(server, [stripe.refundFailed({}, { at: daysAfter(1) })]);
  await sender.wake();
  server.clock.now = daysAfter(2);
  await deliverAll(server, [stripe.chargeRefunded({}, { at: daysAfter(2) })]);
  await sender.wake();
  expect(subjectsTo(mailServer, 'ann@example.com')).toEqual([
    'You got 45 free days',
    'We took back 44 free days',
  ]);
});

test.each([
  { kind: 'mail.days-ended' as const, data: { until: '2027-01-10T09:00:00.000Z' } },
  { kind: 'mail.prove-address' as const, data: null },
])('a link that resets a password does not queue behind other mail: $kind', async (other) => {
  const { server, ann } = await invitation();
  const { db, clock } = server;
  await inTransaction(db, START, (tx) =>
    queueNow(tx, [
      ...Array.from({ length: 9 }, (_, n) => ({
        id: `other ${n}`,
        userId: ann.id,
        ...other,
      })),
    ]),
  );
  clock.now = daysAfter(1);
  await inTransaction(db, clock.now, (tx) =>
    queueNow(tx, [{ id: 'link', kind: 'mail.reset-password', userId: ann.id, data: null }]),
  );
  expect((await takeDue(db, clock.now, 5)).map(({ id }) => id)).toContain('link');
});

test('urgent mail goes first even after one failure, and what failed several times goes last', async () => {
  const server = await startTestServer(MAIL);
  const ann = await signUp(server, 'ann@example.com');
  const { db, clock } = server;
  await inTransaction(db, START, (tx) =>
    queueNow(tx, [
      ...Array.from({ length: 9 }, (_, n) => ({
        id: `retry ${n}`,
        kind: 'mail.reset-password' as const,
        userId: ann.id,
        data: null,
      })),
      { id: 'days', kind: 'mail.days-ended', userId: ann.id, data: { until: '2027-01-10T09:00:00.000Z' } },
      { id: 'notice', kind: 'mail.password-changed', userId: ann.id, data: null },
    ]),
  );
  await db.outboxItem.updateMany({ where: { id: { startsWith: 'retry' } }, data: { attempts: 3 } });
  await db.outboxItem.update({ where: { id: 'retry 0' }, data: { attempts: 1 } });
  const taken: string[] = [];
  for (let n = 0; n < 3; n += 1) taken.push(...(await takeDue(db, clock.now, 1)).map(({ id }) => id));
  // A greylisting mail server usually accepts the second attempt.
  expect(taken).toEqual(['notice', 'retry 0', 'days']);
  expect(await takeDue(db, clock.now, 10)).toHaveLength(8);
});

describe('a referral', () => {
  test('that is reversed tells each side what was taken from it', async () => {
    const { server, stripe, queued } = await converted();
    server.clock.now = daysAfter(20);
    await deliverAll(server, [stripe.chargeRefunded({}, { at: daysAfter(20) })]);
    expect(await queued()).toEqual([
      { to: 'ann', kind: 'mail.days-reversed', side: 'referrer', seconds: days(25), because: 'refund' },
      { to: 'ben', kind: 'mail.days-reversed', side: 'referred', seconds: days(45), because: 'refund' },
    ]);

    await deliverAll(server, [stripe.refundFailed({}, { at: daysAfter(20.5) })]);
    expect(await queued()).toEqual([
      { to: 'ann', kind: 'mail.days-restored', side: 'referrer', seconds: days(25) },
      { to: 'ben', kind: 'mail.days-restored', side: 'referred', seconds: days(45) },
    ]);
  });

  test('sends no mail to somebody who had no days left to lose', async () => {
    const { server, stripe, queued } = await converted();
    server.clock.now = daysAfter(29);
    const dispute = stripe.dispute(daysAfter(29));
    await deliverAll(server, [dispute.opened()]);
    server.clock.now = daysAfter(80);
    await deliverAll(server, [dispute.lost(daysAfter(80))]);
    expect(await queued()).toEqual([
      { to: 'ben', kind: 'mail.days-reversed', side: 'referred', seconds: days(45), because: 'dispute' },
    ]);
  });

  test('whose refund was known before tells nobody of days that never were', async () => {
    const { server, stripe, queued } = await invitation();
    await deliverAll(server, [
      stripe.checkoutCompleted(),
      stripe.invoicePaymentPaid(),
      stripe.chargeRefunded(),
      stripe.invoicePaid(),
    ]);
    expect(await server.db.referral.count({ where: { reversedAt: { not: null } } })).toBe(1);
    expect(await queued()).toEqual([]);
  });

  test('that converts and is reversed in one batch tells nobody either', async () => {
    const { server, stripe, queued } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.invoicePaymentPaid()]);
    await handleInOne(server, [stripe.created(), stripe.invoicePaid(), stripe.chargeRefunded()]);
    expect(await server.db.referral.count({ where: { reversedAt: { not: null } } })).toBe(1);
    expect(await queued()).toEqual([]);
  });

  test('that converts, is reversed and restored in one batch tells both of the days that they got', async () => {
    const { server, stripe, queued } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.invoicePaymentPaid()]);
    await handleInOne(server, [
      stripe.created(),
      stripe.invoicePaid(),
      stripe.chargeRefunded(),
      stripe.refundFailed({}, { at: daysAfter(0.1) }),
    ]);
    expect(await queued()).toEqual([
      { to: 'ann', kind: 'mail.days-granted', side: 'referrer', seconds: days(45) },
      { to: 'ben', kind: 'mail.days-granted', side: 'referred', seconds: days(45) },
    ]);
  });

  test('that is restored and reversed again in one batch tells nobody', async () => {
    const { server, stripe, queued } = await converted();
    await deliverAll(server, [stripe.chargeRefunded()]);
    expect(await queued()).toHaveLength(2);
    server.clock.now = daysAfter(1);
    const at = { at: daysAfter(1) };
    await handleInOne(server, [
      stripe.refundFailed({}, at),
      stripe.chargeRefunded({}, { at: daysAfter(1.5) }),
    ]);
    expect(await server.db.creditEntry.count({ where: { kind: 'restoration' } })).toBe(2);
    expect(await server.db.referral.count({ where: { reversedAt: { not: null } } })).toBe(1);
    expect(await queued()).toEqual([]);
  });

  test('that is reversed and restored in one batch tells nobody', async () => {
    const { server, stripe, queued } = await converted();
    server.clock.now = daysAfter(20);
    await handleInOne(server, [
      stripe.chargeRefunded({}, { at: daysAfter(20) }),
      stripe.refundFailed({}, { at: daysAfter(20.5) }),
    ]);
    expect(await server.db.creditEntry.count({ where: { kind: 'restoration' } })).toBe(2);
    expect(await queued()).toEqual([]);
  });

  test('whose referrer is gone tells the buyer alone', async () => {
    const { server, ann, stripe, queued } = await invitation();
    await makeTombstone(server, ann);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    expect(await queued()).toEqual([
      { to: 'ben', kind: 'mail.days-granted', side: 'referred', seconds: days(45) },
    ]);
  });
});

test('days that were granted and reversed before the email left are in neither email', async () => {
  const mailServer = await startMailServer();
  const { server, stripe } = await invitation(mailEnv(mailServer));
  await deliverAll(server, [
    stripe.checkoutCompleted(),
    stripe.created(),
    stripe.invoicePaid(),
    stripe.invoicePaymentPaid(),
    stripe.chargeRefunded(),
  ]);
  const sender = await startTestSender(server);
  await sender.wake();
  // The email about the reversal waits for the other's outcome.
  server.clock.now = addSeconds(server.clock.now, 60);
  await sender.wake();
  const dropped = await server.db.outboxItem.findMany({
    where: { status: 'dropped' },
    select: { kind: true, error: true },
    orderBy: { kind: 'asc' },
  });
  const granted = { kind: 'mail.days-granted', error: 'The days were taken back.' };
  const reversed = {
    kind: 'mail.days-reversed',
    error: 'The email about the grant or return of these days was not sent either.',
  };
  expect(dropped).toEqual([granted, granted, reversed, reversed]);
  expect(mailServer.mails).toEqual([]);
});

test('days that are taken back after the email about them are in an email, with the reason', async () => {
  const mailServer = await startMailServer();
  const { server, stripe } = await invitation(mailEnv(mailServer));
  const sender = await startTestSender(server);
  await deliverAll(server, purchaseOf(stripe));
  await sender.wake();
  mailServer.mails.length = 0;
  await deliverAll(server, [stripe.chargeRefunded()]);
  await sender.wake();
  expect(mailServer.mails.map(({ headers }) => headers.get('subject'))).toEqual([
    'We took back 45 free days',
    'We took back 45 free days',
  ]);
  for (const { text } of mailServer.mails) expect(text).toContain('That payment was refunded.');
});

/** The subjects of the emails that reached somebody. */
function subjectsTo(mailServer: MailServer, address: string): (string | undefined)[] {
  return mailServer.mails.filter(({ to }) => to === address).map(({ headers }) => headers.get('subject'));
}

test('days that are taken back while the email about them is being sent are in an email', async () => {
  const mailServer = await startMailServer();
  const { server, ann, stripe } = await invitation(mailEnv(mailServer));
  const sender = await startTestSender(server);
  let inFlight = 0;
  let letGo = (): void => undefined;
  const held = new Promise<void>((resolve) => (letGo = resolve));
  mailServer.accept = async () => {
    inFlight += 1;
    await held;
    return true;
  };
  await deliverAll(server, purchaseOf(stripe));
  const sending = sender.wake();
  await until(() => Promise.resolve(inFlight === 2 || undefined));
  await deliverAll(server, [stripe.chargeRefunded()]);
  const reversal = { kind: 'mail.days-reversed', userId: ann.id };
  await until(async () => (await server.db.outboxItem.findFirst({ where: reversal }))?.error ?? undefined);
  expect(await server.db.outboxItem.findFirst({ where: reversal })).toMatchObject({
    status: 'queued',
    attempts: 0,
    dueAt: addSeconds(START, 60),
    error: 'An older email about the same days comes first.',
  });
  letGo();
  await sending;
  server.clock.now = addSeconds(START, 60);
  await sender.wake();
  expect(subjectsTo(mailServer, 'ann@example.com')).toEqual([
    'A friend you invited has paid: you both got 45 free days',
    'We took back 45 free days',
  ]);
});

test('an email about days waits until a paused older one has been tried, and is tried for three days after that', async () => {
  const mailServer = await startMailServer();
  const { server, ann, stripe } = await invitation(mailEnv(mailServer));
  const sender = await startTestSender(server);
  mailServer.refuse = () => ({ code: 451, text: '4.3.0 later' });
  await deliverAll(server, purchaseOf(stripe));
  await sender.wake();
  const grant = { kind: 'mail.days-granted', userId: ann.id };
  const reversal = { kind: 'mail.days-reversed', userId: ann.id };
  // Twelve retries have failed, so the last one is hours away.
  const dueAt = addSeconds(START, 8 * 3_600);
  await server.db.outboxItem.updateMany({ where: grant, data: { attempts: 13, dueAt } });
  await deliverAll(server, [stripe.chargeRefunded()]);
  await sender.wake();
  // An operator may send the older one again before.
  const waiting = { status: 'queued', attempts: 0, dueAt: addSeconds(START, 15 * 60) };
  expect(await server.db.outboxItem.findFirst({ where: reversal })).toMatchObject(waiting);
  // Given up: it may have arrived, so the loss is told.
  await server.db.outboxItem.updateMany({
    where: grant,
    data: { status: 'failed', attempts: 14, endedAt: dueAt },
  });
  server.clock.now = waiting.dueAt;
  await sender.wake();
  expect(await server.db.outboxItem.findFirst({ where: reversal })).toMatchObject({
    status: 'queued',
    attempts: 1,
  });
  mailServer.refuse = () => null;
  server.clock.now = addSeconds(server.clock.now, 120);
  await sender.wake();
  expect(subjectsTo(mailServer, 'ann@example.com')).toEqual(['We took back 45 free days']);
});

test('days that are granted, taken back and given back while no mail can leave are in one email', async () => {
  const mailServer = await startMailServer();
  const { server, stripe } = await invitation(mailEnv(mailServer));
  await deliverAll(server, [...purchaseOf(stripe), stripe.chargeRefunded(), stripe.refundFailed()]);
  expect(await server.db.outboxItem.count({ where: { userId: { not: null } } })).toBe(6);
  const sender = await startTestSender(server);
  await sender.wake();
  server.clock.now = addSeconds(START, 60);
  await sender.wake();
  expect(subjectsTo(mailServer, 'ann@example.com')).toEqual([
    'A friend you invited has paid: you both got 45 free days',
  ]);
  expect(subjectsTo(mailServer, 'ben@example.com')).toEqual([
    'We received your payment: you got 45 free days',
  ]);
  expect(await server.db.outboxItem.count({ where: { status: 'queued' } })).toBe(0);
  // Now the loss is news.
  await deliverAll(server, [stripe.chargeRefunded({}, { at: daysAfter(0.5) })]);
  await sender.wake();
  expect(subjectsTo(mailServer, 'ben@example.com').at(-1)).toBe('We took back 45 free days');
});

test('a loss that was told is not told again when the return of the days never was', async () => {
  const mailServer = await startMailServer();
  const { server, stripe } = await invitation(mailEnv(mailServer));
  const sender = await startTestSender(server);
  await deliverAll(server, purchaseOf(stripe));
  await sender.wake();
  await deliverAll(server, [stripe.chargeRefunded()]);
  await sender.wake();
  await sender.close();
  await deliverAll(server, [
    stripe.refundFailed({}, { at: daysAfter(0.1) }),
    stripe.chargeRefunded({}, { at: daysAfter(0.2) }),
  ]);
  const restarted = await startTestSender(server);
  await restarted.wake();
  server.clock.now = addSeconds(START, 60);
  await restarted.wake();
  expect(subjectsTo(mailServer, 'ann@example.com')).toEqual([
    'A friend you invited has paid: you both got 45 free days',
    'We took back 45 free days',
  ]);
});

describe('a plan that ends', () => {
  test('with days left sends an email that they run now', async () => {
    const { server, stripe, queued } = await converted();
    server.clock.now = daysAfter(40);
    await deliverAll(server, [stripe.ended(daysAfter(40))]);
    expect(await queued()).toEqual([{ to: 'ben', kind: 'mail.days-running' }]);
  });

  test('without days left sends no mail', async () => {
    const { server, ann, queued } = await invitation();
    const stripe = buyer(ann.id);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.ended(daysAfter(1))]);
    expect(await queued()).toEqual([]);
  });

  test('of a deleted account sends no mail', async () => {
    const { server, ben, stripe, queued } = await converted();
    await makeTombstone(server, ben);
    await deliverAll(server, [stripe.ended(daysAfter(1))]);
    expect(await queued()).toEqual([]);
  });
});

test('days granted by an operator send no mail', async () => {
  const { server, queued } = await invitation();
  await grantCredit(commandContext(server), 'ann@example.com', 10, undefined);
  expect(await queued()).toEqual([]);
});

describe('a payment that failed', () => {
  const failed = (stripe: Buyer, fields: Record<string, unknown>, at = START) =>
    stripeEvent(
      'invoice.payment_failed',
      {
        id: 'in_renewal',
        object: 'invoice',
        customer: stripe.customer,
        billing_reason: 'subscription_cycle',
        status: 'open',
        attempted: true,
        attempt_count: 1,
        amount_paid: 0,
        parent: {
          type: 'subscription_details',
          subscription_details: { subscription: stripe.subscription },
        },
        ...fields,
      },
      { at },
    );

  test('sends one email for each attempt, with the date of the next one', async () => {
    const { server, stripe, queued } = await converted();
    const next = { next_payment_attempt: epoch(daysAfter(3)) };
    await deliverAll(server, [failed(stripe, next)]);
    expect(await queued()).toEqual([
      {
        to: 'ben',
        kind: 'mail.payment-failed',
        invoiceId: 'in_renewal',
        subscriptionId: stripe.subscription,
        nextAttempt: '2027-01-13T09:00:00Z',
      },
    ]);

    // Another event of the same try, then the next try.
    await deliverAll(server, [failed(stripe, next), failed(stripe, next)]);
    expect(await server.db.outboxItem.count()).toBe(1);
    await deliverAll(server, [failed(stripe, { attempt_count: 2 })]);
    expect(await server.db.outboxItem.count()).toBe(2);
    // The event stores no invoice.
    expect(await server.db.invoice.count({ where: { id: 'in_renewal' } })).toBe(0);
  });

  test('that fails twice in one batch sends one email', async () => {
    const { server, stripe, queued } = await converted();
    await handleInOne(server, [failed(stripe, {}), failed(stripe, {})]);
    expect(await queued()).toHaveLength(1);
  });

  test('is mailed even if it is the first one', async () => {
    const { server, ben, stripe, queued } = await invitation();
    await deliverAll(server, [
      stripe.checkoutCompleted(),
      failed(stripe, { id: stripe.firstInvoice, billing_reason: 'subscription_create' }),
    ]);
    expect(await queued()).toMatchObject([{ to: 'ben', kind: 'mail.payment-failed', nextAttempt: null }]);
    expect(await planOf(server, ben.id, stripe.firstInvoice)).toBe('not-started');
  });

  /** What the mail about a failed payment says of the plan. */
  async function planOf(
    { db }: TestServer,
    userId: string,
    invoiceId = 'in',
    subscriptionId: string | null = null,
  ) {
    const data = { invoiceId, subscriptionId, nextAttempt: null };
    const work = { kind: 'mail.payment-failed', data } as const;
    return (await readMailFacts(db, { userId } as OutboxItem, work)).plan;
  }

  test.each([
    ['active', 'live'],
    ['past_due', 'live'],
    ['paused', 'paused'],
    ['unpaid', 'unpaid'],
    ['canceled', 'ended'],
  ])('of a paid plan that is now %s is mailed as %s', async (status, plan) => {
    const { server, ben, stripe } = await converted();
    await deliverAll(server, [stripe.updated({ status }, { at: daysAfter(31) })]);
    expect(await planOf(server, ben.id)).toBe(plan);
  });

  test('is not mailed once another plan gives access', async () => {
    const { server, ben, stripe, queued } = await converted();
    const second = { id: stripeId('sub'), status: 'incomplete', created: epoch(daysAfter(2)) };
    const invoice = { id: stripeId('in'), subscription: second.id, parent: null };
    await deliverAll(server, [
      stripe.created(second, { at: daysAfter(2) }),
      failed(stripe, { ...invoice, billing_reason: 'subscription_create' }),
    ]);
    const [item] = await server.db.outboxItem.findMany({ where: { kind: 'mail.payment-failed' } });
    expect(item?.data).toContain(second.id);
    expect(await queued()).not.toEqual([]);
    expect(await planOf(server, ben.id, invoice.id, second.id)).toBe('another');
  });

  test('in a new checkout is mailed as such, although an older plan has ended', async () => {
    const { server, ben, stripe } = await converted();
    await deliverAll(server, [stripe.ended(daysAfter(31))]);
    const again = { id: stripeId('sub'), status: 'incomplete', created: epoch(daysAfter(40)) };
    await deliverAll(server, [stripe.created(again, { at: daysAfter(40) })]);
    expect(await planOf(server, ben.id)).toBe('not-started');
  });

  test('after a trial is mailed as the first payment while Stripe keeps trying', async () => {
    const { server, ben, stripe } = await invitation();
    const trial = { trial_end: epoch(daysAfter(7)) };
    await deliverAll(server, [
      stripe.checkoutCompleted(),
      stripe.created({ ...trial, status: 'trialing' }),
      stripe.updated({ ...trial, status: 'active' }, { at: daysAfter(7) }),
      stripe.updated({ ...trial, status: 'past_due' }, { at: daysAfter(8) }),
    ]);
    expect(await planOf(server, ben.id)).toBe('first-payment-due');
  });

  test.each<[string, (story: Awaited<ReturnType<typeof converted>>) => Promise<object>]>([
    [
      'of an account that is gone',
      async ({ server, ben, stripe }) => {
        await makeTombstone(server, ben);
        return failed(stripe, {});
      },
    ],
    ['of a customer without an account', () => Promise.resolve(failed(buyer(), {}))],
    [
      'of another product',
      async ({ server, stripe }) => {
        await server.db.subscription.updateMany({ data: { counts: false } });
        return failed(stripe, {});
      },
    ],
    ['that is heard of days later', ({ stripe }) => Promise.resolve(failed(stripe, {}, daysAfter(-4)))],
    [
      'that only waits for the bank',
      ({ stripe }) => Promise.resolve({ ...failed(stripe, {}), type: 'invoice.payment_action_required' }),
    ],
  ])('%s is mailed to nobody', async (_what, event) => {
    const story = await converted();
    const answer = await deliver(story.server, await event(story));
    expect(answer.json()).toEqual({
      status: 'ignored',
      reason: "a failed renewal shows in the subscription's status",
    });
    expect(await story.queued()).toEqual([]);
    // An unknown customer leaves no row.
    expect(await story.server.db.customer.count()).toBe(1);
  });

  test('sends no mail if it has been made since', async () => {
    const mailServer = await startMailServer();
    const { server, stripe } = await invitation(mailEnv(mailServer));
    const id = stripeId('in');
    await deliverAll(server, [
      stripe.checkoutCompleted(),
      failed(stripe, { id }),
      stripe.invoicePaid({ id, billing_reason: 'subscription_cycle' }),
    ]);
    const sender = await startTestSender(server);
    await sender.wake();
    expect(await server.db.outboxItem.findFirst({ where: { kind: 'mail.payment-failed' } })).toMatchObject({
      status: 'dropped',
      error: 'The invoice was paid.',
    });
  });
});

test('no mail to one side names the other', async () => {
  const mailServer = await startMailServer();
  const { server, stripe } = await invitation(mailEnv(mailServer));
  const sender = await startTestSender(server);
  await deliverAll(server, purchaseOf(stripe));
  await sender.wake();
  server.clock.now = daysAfter(10);
  await deliverAll(server, [stripe.chargeRefunded({}, { at: daysAfter(10) })]);
  await sender.wake();
  await deliverAll(server, [stripe.refundFailed({}, { at: daysAfter(10.5) })]);
  await sender.wake();
  expect(mailServer.mails).toHaveLength(6);
  for (const { to, text, html, headers } of mailServer.mails) {
    const other = to.startsWith('ann') ? 'ben' : 'ann';
    expect(text + html + [...headers.values()].join(' ')).not.toMatch(new RegExp(`\\b${other}\\b|${other}@`));
  }
});
