import { randomUUID } from 'node:crypto';

import { describe, expect, inject, test } from 'vitest';

import { addSeconds, isoText } from '../src/instants.ts';
import { doctor, INVARIANTS } from '../src/operator/doctor.ts';
import type { Finding } from '../src/operator/doctor.ts';
import { grantCredit } from '../src/operator/grant-credit.ts';
import { commandContext } from './support/command-context.ts';
import { findings } from './support/findings.ts';
import { otherConnection } from './support/other-connection.ts';
import { until } from './support/process.ts';
import {
  DAY,
  daysAfter,
  deliver,
  deliverAll,
  makeTombstone,
  deleteAccount,
  signUp,
  START,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { TestServer } from './support/server.ts';
import { buyer, epoch, stripeId } from './support/stripe-events.ts';

const CLAWBACK_DAYS = 30;

/** Lets a connection write past every constraint; on PostgreSQL the CHECKs are dropped for good. */
const PAST_EVERY_CONSTRAINT = {
  sqlite: 'PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF',
  postgresql: `
    SET session_replication_role = replica;
    DO $$ DECLARE it record; BEGIN
      FOR it IN SELECT conrelid::regclass AS of_table, conname FROM pg_constraint
        WHERE contype = 'c' AND connamespace = 'public'::regnamespace
      LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', it.of_table, it.conname); END LOOP;
    END $$`,
};

/** Writes past every constraint, as broken code, a broken disk or a manual edit would. */
async function damage(server: TestServer, ...statements: string[]): Promise<void> {
  const { run, close } = await otherConnection(server);
  await run([PAST_EVERY_CONSTRAINT[inject('engine')], ...statements].join('; '));
  await close();
}

/**
 * A healthy database on day 10: somebody with an operator's days who invited a friend who pays, one who was refunded,
 * one on trial and one who deleted their account; a payer whom nobody invited; two unclaimed customers.
 */
async function healthy() {
  const server = await startTestServer();
  const referrer = await signUp(server, 'referrer@example.com');
  await grantCredit(commandContext(server), referrer.email, 10, undefined);
  const customerOf = async (email: string, code?: string) => {
    const person = await signUp(server, email, code);
    const stripe = buyer(person.id);
    await deliverAll(server, [stripe.checkoutCompleted()]);
    return { ...person, stripe, referral: await referralIdOf(server, person.id) };
  };
  const paying = await customerOf('paying@example.com', referrer.code);
  const refunded = await customerOf('refunded@example.com', referrer.code);
  const trying = await customerOf('trying@example.com', referrer.code);
  const gone = await customerOf('gone@example.com', referrer.code);
  const loner = await customerOf('loner@example.com');
  const trial = { status: 'trialing', trial_end: epoch(daysAfter(30)) };
  for (const { stripe } of [paying, refunded, loner]) {
    await deliverAll(server, [stripe.created(), stripe.invoicePaid(), stripe.invoicePaymentPaid()]);
  }
  await deliverAll(server, [
    trying.stripe.created(trial),
    trying.stripe.invoicePaid({ amount_paid: 0 }),
    gone.stripe.created({ status: 'incomplete_expired' }),
    gone.stripe.customerDeleted(),
    buyer().created(),
    buyer().invoicePaid(),
  ]);
  await makeTombstone(server, gone);
  server.clock.now = daysAfter(10);
  await deliverAll(server, [refunded.stripe.chargeRefunded({}, { at: daysAfter(10) })]);
  return { server, referrer, paying, refunded, trying, gone, loner };
}

async function referralIdOf({ db }: TestServer, referredId: string): Promise<string> {
  const referral = await db.referral.findUnique({ where: { referredId } });
  return referral?.id ?? '';
}

test('a healthy database has no findings', async () => {
  const { server } = await healthy();
  expect(await findings(server)).toEqual([]);
  expect(await server.db.referral.count({ where: { reversedAt: { not: null } } })).toBe(1);
  expect(await doctor(commandContext(server))).toEqual({
    text: `All ${INVARIANTS.length} invariants hold.`,
    json: { invariants: INVARIANTS.length, findings: [] },
    failed: false,
  });
});

test('findings are put into words, below the invariant that they break', async () => {
  const { server, loner } = await healthy();
  await damage(
    server,
    `UPDATE "Subscription" SET "needsReconcile" = true WHERE "id" = '${loner.stripe.subscription}'`,
  );
  const { text, json, failed } = await doctor(commandContext(server));
  expect(failed).toBe(true);
  expect(text).toBe(
    'reconciled: No subscription waits for `reconcile` to ask Stripe which of two snapshots is current.\n' +
      `  Subscription ${loner.stripe.subscription}: two snapshots of the same second differed, and Stripe could not be asked`,
  );
  expect(json).toMatchObject({ invariants: INVARIANTS.length, findings: [{ check: 'reconciled' }] });
});

/** SQLite cannot be paused half-way through a page; busy-database.test.ts shows that its snapshots are stable. */
test.runIf(inject('engine') === 'postgresql')(
  'a server that writes while a page is read causes no false finding',
  async () => {
    const { server, loner } = await healthy();
    const other = await otherConnection(server);
    // Another process commits a grant after doctor has read the user and before it reads the ledger.
    await other.run(`
      BEGIN;
      LOCK TABLE "CreditEntry" IN ACCESS EXCLUSIVE MODE;
      UPDATE "User" SET "creditEntryCount" = 2, "creditUntil" = "creditEntryAt" + interval '1 day'
        WHERE "id" = '${loner.id}';
      INSERT INTO "CreditEntry" ("userId", "seq", "at", "kind", "seconds", "causeId")
        SELECT "id", 2, "creditEntryAt", 'grant', ${DAY}, 'command' FROM "User" WHERE "id" = '${loner.id}'`);
    const found = findings(server);
    await until(async () => {
      const waiting = await other.rows('SELECT 1 FROM pg_locks WHERE NOT granted');
      return waiting.length > 0 ? true : undefined;
    });
    await other.run('COMMIT');
    expect(await found).toEqual([]);
    expect(await findings(server)).toEqual([]);
  },
);

test('other work gets its turn while a large database is examined', async () => {
  const server = await startTestServer();
  await server.db.user.createMany({
    data: Array.from({ length: 200 }, (_, n) => ({
      ...{
        id: `user-${n}`,
        code: `CODE${n}`,
        email: `ann${n}@example.com`,
        emailHash: `${n}`,
        passwordHash: '',
      },
      ...{ tier: 'free', creditEntryCount: 0, createdAt: START, emailSetAt: START },
    })),
  });
  let turns = 0;
  let isOver = false;
  const count = (): void => {
    turns += 1;
    if (!isOver) setImmediate(count);
  };
  setImmediate(count);
  expect(await findings(server)).toEqual([]);
  isOver = true;
  // One after each page of 50.
  expect(turns).toBeGreaterThanOrEqual(4);
});

describe('each invariant, broken alone, is found alone', () => {
  test('there is a test of each invariant here, named after it', ({ task }) => {
    const tests = task.suite?.tasks.filter(({ id }) => id !== task.id) ?? [];
    const broken = new Set(tests.map(({ name }) => name.split(':')[0] ?? ''));
    expect([...broken].sort()).toEqual(INVARIANTS.map(({ name }) => name).sort());
  });

  test('deleted-account: rows that a request in flight left behind', async () => {
    const { server, gone } = await healthy();
    const left = { userId: gone.id, expiresAt: daysAfter(30) };
    await server.db.session.create({ data: { ...left, tokenHash: 'a session' } });
    await server.db.resetLink.create({ data: { ...left, tokenHash: 'a link' } });
    expect(await findings(server)).toEqual([
      {
        check: 'deleted-account',
        row: `User ${gone.id}`,
        problem: 'the account is deleted but still has rows (sessions: 1, reset links: 1)',
      },
    ]);
  });

  test('charged-after-deletion: a subscription that was paid for at the instant of the deletion', async () => {
    const { server, gone } = await healthy();
    const stripe = buyer(gone.id);
    await server.db.customer.create({ data: { id: stripe.customer, userId: gone.id } });
    await deliverAll(server, [stripe.created()]);
    const deletedAt = (await userRow(server, gone.id)).deletedAt ?? START;
    server.clock.now = addSeconds(deletedAt, DAY);
    expect(await findings(server)).toEqual([]);
    server.clock.now = addSeconds(deletedAt, DAY + 1);
    expect(await findings(server)).toEqual([
      {
        check: 'charged-after-deletion',
        row: `User ${gone.id}`,
        problem: `the account was deleted on ${isoText(deletedAt)}, but the subscription ${stripe.subscription} is live: cancel it at Stripe`,
      },
    ]);
  });

  test('outbox: an email that failed for good', async () => {
    const { server, referrer } = await healthy();
    const row = { kind: 'mail.password-changed', userId: referrer.id, data: 'null', dueAt: START };
    const item = {
      ...row,
      createdAt: START,
      status: 'queued',
      error: 'The connection to the mail server failed: EDNS.',
    };
    await server.db.outboxItem.create({ data: { ...item, id: 'one' } });
    expect(await findings(server)).toEqual([]);
    await server.db.outboxItem.update({ where: { id: 'one' }, data: { status: 'failed', endedAt: START } });
    expect(await findings(server)).toEqual([
      {
        check: 'outbox',
        row: 'OutboxItem one',
        problem:
          'mail.password-changed failed for good: The connection to the mail server failed: EDNS. `mail-resend` tries it again',
      },
    ]);
  });

  test('credit-ledger: a column that the ledger does not give', async () => {
    const { server, referrer } = await healthy();
    await server.db.user.update({ where: { id: referrer.id }, data: { creditUntil: daysAfter(999) } });
    expect(await findings(server)).toEqual([
      {
        check: 'credit-ledger',
        row: `User ${referrer.id}`,
        problem: 'the ledger gives a different creditUntil',
      },
    ]);
  });

  test('credit-ledger: an entry of an unknown kind', async () => {
    const { server, referrer } = await healthy();
    await damage(
      server,
      `UPDATE "CreditEntry" SET "kind" = 'gift' WHERE "userId" = '${referrer.id}' AND "seq" = 1`,
    );
    expect(await findings(server)).toEqual([
      {
        check: 'credit-ledger',
        row: `User ${referrer.id}`,
        problem: 'The credit ledger has an entry of the unknown kind gift.',
      },
    ]);
  });

  test('tier: a stored tier that differs from what the subscriptions give', async () => {
    const { server, trying } = await healthy();
    await damage(server, `UPDATE "User" SET "tier" = 'free' WHERE "id" = '${trying.id}'`);
    expect(await findings(server)).toEqual([
      {
        check: 'tier',
        row: `User ${trying.id}`,
        problem: 'the tier is free, but the subscriptions give trial',
      },
    ]);
  });

  test.each(['active', 'trialing', 'past_due', 'unpaid', 'paused'])(
    'one-subscription: a second one that is %s, of another customer',
    async (status) => {
      const { server, loner } = await healthy();
      const second = buyer(loner.id);
      await deliverAll(server, [second.checkoutCompleted(), second.created({ status })]);
      expect(await findings(server)).toMatchObject([
        {
          check: 'one-subscription',
          row: `User ${loner.id}`,
          problem: expect.stringMatching(/^2 subscriptions are live: sub_\S+, sub_\S+$/) as string,
        },
      ]);
      await deliverAll(server, [second.ended(START)]);
      expect(await findings(server)).toEqual([]);
    },
  );

  test('conversion-grants: an existing referrer got nothing', async () => {
    const { server, referrer, paying } = await healthy();
    await damage(
      server,
      `UPDATE "CreditEntry" SET "referralId" = NULL
       WHERE "userId" = '${referrer.id}' AND "referralId" = '${paying.referral}'`,
    );
    expect(await findings(server)).toEqual([
      {
        check: 'conversion-grants',
        row: `Referral ${paying.referral}`,
        problem: 'the referrer has 0 grants from it, but should have 1',
      },
    ]);
  });

  test('conversion-grants: the buyer got nothing', async () => {
    const { server, paying } = await healthy();
    await damage(server, `UPDATE "CreditEntry" SET "referralId" = NULL WHERE "userId" = '${paying.id}'`);
    expect(await findings(server)).toEqual([
      {
        check: 'conversion-grants',
        row: `Referral ${paying.referral}`,
        problem: 'the referred user has 0 grants from it, but should have 1',
      },
    ]);
  });

  test('conversion-grants: credit for a referral that has not converted', async () => {
    const { server, referrer, trying } = await healthy();
    await damage(
      server,
      `UPDATE "CreditEntry" SET "referralId" = '${trying.referral}'
       WHERE "userId" = '${referrer.id}' AND "seq" = 1`,
    );
    expect(await findings(server)).toEqual([
      {
        check: 'conversion-grants',
        row: `Referral ${trying.referral}`,
        problem: 'the referrer has 1 grant from it, but should have 0',
      },
    ]);
  });

  test('conversion-grants: credit of somebody outside the referral', async () => {
    const { server, loner, trying } = await healthy();
    await grantCredit(commandContext(server), loner.email, 5, undefined);
    await damage(
      server,
      `UPDATE "CreditEntry" SET "referralId" = '${trying.referral}'
       WHERE "userId" = '${loner.id}' AND "kind" = 'grant'`,
    );
    expect(await findings(server)).toEqual([
      {
        check: 'conversion-grants',
        row: `Referral ${trying.referral}`,
        problem: 'somebody else has 1 grant from it, but should have 0',
      },
    ]);
  });

  test('conversion-grants: credit for a referrer who was already gone', async () => {
    const { server, referrer, paying, refunded } = await healthy();
    await makeTombstone(server, referrer, daysAfter(1));
    expect(await findings(server)).toEqual([]);
    await makeTombstone(server, referrer, START);
    expect(await findings(server)).toEqual([]);
    await makeTombstone(server, referrer, daysAfter(-1));
    const problem = 'the referrer has 1 grant from it, but should have 0';
    expect(byRow(await findings(server))).toEqual(
      byRow([
        { check: 'conversion-grants', row: `Referral ${paying.referral}`, problem },
        { check: 'conversion-grants', row: `Referral ${refunded.referral}`, problem },
      ]),
    );
  });

  test('reversed-credit: taken from one side of a referral that is not reversed', async () => {
    const { server, referrer, paying } = await healthy();
    const user = await server.db.user.findUniqueOrThrow({ where: { id: referrer.id } });
    await server.db.creditEntry.create({
      data: {
        userId: user.id,
        seq: user.creditEntryCount + 1,
        at: daysAfter(10),
        kind: 'reversal',
        seconds: 0,
        referralId: paying.referral,
        causeId: 'nothing',
      },
    });
    await server.db.user.update({
      where: { id: user.id },
      data: { creditEntryCount: user.creditEntryCount + 1 },
    });
    expect(await findings(server)).toEqual([
      {
        check: 'reversed-credit',
        row: `Referral ${paying.referral}`,
        problem: `it is not reversed, but the credit of user ${referrer.id} was taken back`,
      },
    ]);
  });

  test('reversed-credit: returned to one side of a referral that is reversed', async () => {
    const { server, refunded } = await healthy();
    const user = await server.db.user.findUniqueOrThrow({ where: { id: refunded.id } });
    const { seq, ...reversal } = await server.db.creditEntry.findFirstOrThrow({
      where: { userId: user.id, kind: 'reversal' },
    });
    await server.db.creditEntry.create({ data: { ...reversal, seq: seq + 1, kind: 'restoration' } });
    await server.db.user.update({
      where: { id: user.id },
      data: { creditEntryCount: seq + 1, creditUntil: daysAfter(10 + reversal.seconds / 86_400) },
    });
    expect(await findings(server)).toEqual([
      {
        check: 'reversed-credit',
        row: `Referral ${refunded.referral}`,
        problem: `it is reversed, but user ${refunded.id} still has the credit`,
      },
    ]);
  });

  test('referral-follows-payment: payment proven but not converted, unless the account is gone', async () => {
    const { server, trying } = await healthy();
    const id = trying.stripe.subscription;
    await damage(
      server,
      `UPDATE "Subscription" SET "provenAt" = "createdAt", "firstPaidAt" = "createdAt" WHERE "id" = '${id}'`,
      `UPDATE "Invoice" SET "positive" = true, "paidAt" =
         (SELECT "createdAt" FROM "Subscription" WHERE "id" = '${id}') WHERE "subscriptionId" = '${id}'`,
    );
    expect(await findings(server)).toEqual([
      {
        check: 'referral-follows-payment',
        row: `Referral ${trying.referral}`,
        problem: 'a payment is proven, but the referral is not converted',
      },
    ]);
    await makeTombstone(server, trying);
    expect(await findings(server)).toEqual([]);
  });

  test('referral-follows-payment: converted without a proven payment', async () => {
    const { server, paying } = await healthy();
    const id = paying.stripe.subscription;
    await damage(
      server,
      `UPDATE "Subscription" SET "provenAt" = NULL, "firstPaidAt" = NULL, "doubtAt" = "activeAt" WHERE "id" = '${id}'`,
      `UPDATE "Invoice" SET "positive" = false WHERE "subscriptionId" = '${id}'`,
    );
    expect(await findings(server)).toEqual([
      {
        check: 'referral-follows-payment',
        row: `Referral ${paying.referral}`,
        problem: 'no payment is proven, but the referral is not reversed',
      },
    ]);
  });

  test('referral-follows-payment: the money went back in time but the referral is not reversed', async () => {
    const { server, paying } = await healthy();
    const refund = (refundedAt: Date) =>
      server.db.payment.update({
        where: { id: paying.stripe.payment },
        data: { firstRefundedAt: refundedAt, refundedAt },
      });
    await refund(daysAfter(CLAWBACK_DAYS + 1));
    expect(await findings(server)).toEqual([]);
    await refund(daysAfter(CLAWBACK_DAYS));
    expect(await findings(server)).toEqual([
      {
        check: 'referral-follows-payment',
        row: `Referral ${paying.referral}`,
        problem: 'the money went back, but the referral is not reversed',
      },
    ]);
  });

  test('referral-follows-payment: one positive invoice that stands is enough', async () => {
    const { server, paying } = await healthy();
    const renewal = { id: stripeId('in'), billing_reason: 'subscription_cycle' };
    await deliverAll(server, [paying.stripe.invoicePaid(renewal, { at: daysAfter(5) })]);
    const ofRenewal = await server.db.payment.create({ data: { id: stripeId('pi'), invoiceId: renewal.id } });
    const refund = (id: string, refundedAt: Date | null) =>
      server.db.payment.update({ where: { id }, data: { firstRefundedAt: refundedAt, refundedAt } });

    await refund(ofRenewal.id, daysAfter(6));
    expect(await findings(server)).toEqual([]);
    await refund(ofRenewal.id, null);
    await refund(paying.stripe.payment, daysAfter(6));
    expect(await findings(server)).toEqual([]);
    await refund(ofRenewal.id, daysAfter(6));
    expect(await findings(server)).toEqual([
      {
        check: 'referral-follows-payment',
        row: `Referral ${paying.referral}`,
        problem: 'the money went back, but the referral is not reversed',
      },
    ]);
  });

  test('referral-follows-payment: reversed although the payment stands', async () => {
    const { server, refunded } = await healthy();
    await server.db.payment.update({
      where: { id: refunded.stripe.payment },
      data: { firstRefundedAt: null, refundedAt: null },
    });
    expect(await findings(server)).toEqual([
      {
        check: 'referral-follows-payment',
        row: `Referral ${refunded.referral}`,
        problem: 'a payment still stands, but the referral is reversed',
      },
    ]);
  });

  test('proof: a payment that was not marked, and one that the facts do not prove', async () => {
    const { server, loner, gone } = await healthy();
    await server.db.subscription.update({
      where: { id: loner.stripe.subscription },
      data: { provenAt: null },
    });
    await server.db.subscription.update({
      where: { id: gone.stripe.subscription },
      data: { provenAt: START },
    });
    expect(byRow(await findings(server))).toEqual(
      byRow([
        {
          check: 'proof',
          row: `Subscription ${loner.stripe.subscription}`,
          problem: 'its facts prove a payment, but it is not marked as proven',
        },
        {
          check: 'proof',
          row: `Subscription ${gone.stripe.subscription}`,
          problem: 'it is marked as proven, but its facts do not prove a payment',
        },
      ]),
    );
  });

  test('proof: of an unclaimed customer as well', async () => {
    const { server } = await healthy();
    const nobodys = await server.db.subscription.findFirstOrThrow({
      where: { customer: { userId: null }, status: 'active' },
    });
    await server.db.subscription.update({ where: { id: nobodys.id }, data: { provenAt: null } });
    expect(await findings(server)).toEqual([
      {
        check: 'proof',
        row: `Subscription ${nobodys.id}`,
        problem: 'its facts prove a payment, but it is not marked as proven',
      },
    ]);
  });

  test('first-payment: a stored first payment that differs from the invoices', async () => {
    const { server, loner } = await healthy();
    const id = loner.stripe.subscription;
    await server.db.subscription.update({ where: { id }, data: { firstPaidAt: null } });
    expect(await findings(server)).toEqual([
      {
        check: 'first-payment',
        row: `Subscription ${id}`,
        problem: 'the stored first payment is none, but by its invoices it is 2027-01-10T09:00:00Z',
      },
    ]);
  });

  test('paid-time: a subscription with a snapshot and no time, and one with a time and no snapshot', async () => {
    const { server, loner } = await healthy();
    const unseen = await server.db.subscription.findFirstOrThrow({ where: { status: null } });
    await damage(
      server,
      `UPDATE "Subscription" SET "givesSince" = NULL WHERE "id" = '${loner.stripe.subscription}'`,
      `UPDATE "Subscription" SET "givesSince" =
         (SELECT "createdAt" FROM "User" WHERE "id" = '${loner.id}') WHERE "id" = '${unseen.id}'`,
    );
    expect(byRow(await findings(server))).toEqual(
      byRow([
        {
          check: 'paid-time',
          row: `Subscription ${loner.stripe.subscription}`,
          problem: 'it is active, but does not record when it last started or stopped giving a paid tier',
        },
        {
          check: 'paid-time',
          row: `Subscription ${unseen.id}`,
          problem: 'it has no snapshot, but records when it last started or stopped giving a paid tier',
        },
      ]),
    );
  });

  test('deleted-customer: a subscription of a deleted customer that is not over', async () => {
    const { server, loner } = await healthy();
    await server.db.customer.update({ where: { id: loner.stripe.customer }, data: { deletedAt: START } });
    expect(await findings(server)).toEqual([
      {
        check: 'deleted-customer',
        row: `Subscription ${loner.stripe.subscription}`,
        problem: `it is active, but the customer ${loner.stripe.customer} is deleted`,
      },
    ]);
  });

  test('past-due: for more than 70 days, to the second', async () => {
    const { server, loner } = await healthy();
    await deliverAll(server, [loner.stripe.updated({ status: 'past_due' }, { at: daysAfter(5) })]);
    server.clock.now = daysAfter(75);
    expect(await findings(server)).toEqual([]);
    server.clock.now = new Date(daysAfter(75).getTime() + 1000);
    expect(await findings(server)).toEqual([
      {
        check: 'past-due',
        row: `Subscription ${loner.stripe.subscription}`,
        problem: 'it has been past due since 2027-01-15T09:00:00Z',
      },
    ]);
  });

  test('reconciled: a tie that Stripe could not be asked about', async () => {
    const { server, loner } = await healthy();
    const id = loner.stripe.subscription;
    await server.db.subscription.update({ where: { id }, data: { needsReconcile: true } });
    expect(await findings(server)).toEqual([
      {
        check: 'reconciled',
        row: `Subscription ${id}`,
        problem: 'two snapshots of the same second differed, and Stripe could not be asked',
      },
    ]);
  });

  test('known-at-stripe: a customer that Stripe does not know, and a subscription, unless it is over', async () => {
    const { server, loner, gone } = await healthy();
    const { customer, subscription } = loner.stripe;
    const data = { missingAt: daysAfter(1) };
    await server.db.customer.update({ where: { id: customer }, data });
    await server.db.subscription.updateMany({
      where: { id: { in: [subscription, gone.stripe.subscription] } },
      data,
    });
    const problem =
      'Stripe did not know it when asked on 2027-01-11T09:00:00Z: it was deleted there, or STRIPE_API_KEY belongs to another account. `reconcile` checks again';
    expect(await findings(server)).toEqual([
      { check: 'known-at-stripe', row: `Customer ${customer}`, problem },
      { check: 'known-at-stripe', row: `Subscription ${subscription}`, problem },
    ]);
  });

  test('one-owner: a customer claimed by two users, until it is deleted at Stripe', async () => {
    const { server, loner, referrer } = await healthy();
    const claim = loner.stripe.checkoutCompleted({ client_reference_id: referrer.id });
    expect((await deliver(server, claim)).json()).toMatchObject({ status: 'ignored' });
    expect(await findings(server)).toEqual([
      {
        check: 'one-owner',
        row: `Customer ${loner.stripe.customer}`,
        problem: `it belongs to user ${loner.id}, but another user's checkout named it (event ${claim.id}). \`relink\` moves it`,
      },
    ]);
    await deliverAll(server, [loner.stripe.customerDeleted({ at: daysAfter(10) })]);
    expect(await findings(server)).toEqual([]);
  });

  test('one-owner: a claim ends when the account that made it is deleted', async () => {
    const { server, loner } = await healthy();
    const claimant = await signUp(server, 'claimant@example.com');
    await deliver(server, loner.stripe.checkoutCompleted({ client_reference_id: claimant.id }));
    expect(await findings(server)).toMatchObject([{ check: 'one-owner' }]);
    await deleteAccount(server, claimant);
    expect(await findings(server)).toEqual([]);
  });
});

test('credit-ledger and tier: a stored tier of paid, with no credit held', async () => {
  const { server, trying } = await healthy();
  await damage(server, `UPDATE "User" SET "tier" = 'paid' WHERE "id" = '${trying.id}'`);
  const row = `User ${trying.id}`;
  expect(await findings(server)).toEqual([
    {
      check: 'credit-ledger',
      row,
      problem: 'credit is held but the tier is not paid, or the other way round',
    },
    { check: 'tier', row, problem: 'the tier is paid, but the subscriptions give trial' },
  ]);
});

test('doctor reads a database of many pages to its end', async () => {
  const server = await startTestServer();
  const ids = Array.from({ length: 1_001 }, () => randomUUID()).sort();
  await server.db.user.createMany({
    data: ids.map((id) => ({
      id,
      email: `${id}@example.com`,
      emailHash: id,
      passwordHash: 'none',
      code: id,
      tier: 'free',
      creditEntryCount: 0,
      createdAt: START,
    })),
  });
  expect(await findings(server)).toEqual([]);
  await damage(server, `UPDATE "User" SET "tier" = 'trial'`);
  const found = await findings(server);
  expect(found.map(({ row }) => row)).toEqual(ids.map((id) => `User ${id}`));
});

function byRow(list: Finding[]): Finding[] {
  return list.toSorted((a, b) => (a.row < b.row ? -1 : 1));
}
