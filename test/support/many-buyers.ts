import { expect } from 'vitest';

import { createUser } from '../../src/accounts/sign-up.ts';
import { checkLedger } from '../../src/credits/fold.ts';
import { openDatabase } from '../../src/db/open.ts';
import { inTransaction } from '../../src/db/transaction.ts';
import { examine } from '../../src/operator/doctor.ts';
import { captureReferral } from '../../src/referrals/capture.ts';
import { eventContextOf, handleEvent } from '../../src/stripe/handle-event.ts';
import { readEvent } from '../../src/stripe/objects/event.ts';
import { shuffled } from './seeded-random.ts';
import type { Draw } from './seeded-random.ts';
import { DAY, domainRows, startTestServer } from './server.ts';
import type { TestServer } from './server.ts';
import { buyer, epoch, stripeEvent, stripeId } from './stripe-events.ts';
import type { EventOptions } from './stripe-events.ts';

export type StripeEvent = ReturnType<typeof stripeEvent>;

/** Everybody but the first one was invited; this is how many each of them invites. */
const INVITES = 3;

const CONVERSION_SECONDS = 45 * DAY;

/**
 * Makes accounts tied by referrals: the first invited the next ones, those invited others, and so on.
 *
 * @returns their ids
 */
export async function addPeople(databaseUrl: string, count: number): Promise<string[]> {
  const { db } = await openDatabase(databaseUrl);
  const codes: string[] = [];
  const ids: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const invitedBy = codes[Math.floor((index - 1) / INVITES)] ?? null;
    const user = await inTransaction(db, new Date(), async (tx) => {
      const made = await createUser(tx, `${index}@example.com`, 'no password fits');
      await captureReferral(tx, made, invitedBy);
      return made;
    });
    codes.push(user.code);
    ids.push(user.id);
  }
  await db.$disconnect();
  return ids;
}

/**
 * Stripe's events about one buyer, in the order of their delivery: a purchase (its events in any order), then perhaps
 * renewals, a refund that may fail, a lost dispute that may be won later, and the end. They happened in the last five
 * minutes, each step a second after the one before.
 */
export function purchaseEvents(draw: Draw, userId: string): StripeEvent[] {
  const stripe = buyer(userId);
  let second = Math.floor(Date.now() / 1000) - 300;
  const next = (): EventOptions & { at: Date } => ({ at: new Date((second += 1) * 1000) });
  const started = next().at;
  const snapshot = (fields: Record<string, unknown> = {}) => ({ created: epoch(started), ...fields });
  const is = (chance: number): boolean => draw(100) < chance;

  const events: StripeEvent[] = shuffled(draw, [
    stripe.checkoutCompleted({}, { at: started }),
    stripe.created(snapshot(), { at: started }),
    stripe.invoicePaid({}, { at: started }),
    stripe.invoicePaymentPaid({}, { at: started }),
  ]);
  if (is(20))
    events.push(stripeEvent('customer.created', { id: stripe.customer, object: 'customer' }, next()));
  for (let renewals = draw(3); renewals > 0; renewals -= 1) {
    const [invoice, payment] = [stripeId('in'), stripeId('pi')];
    const { at } = next();
    events.push(
      stripe.updated(snapshot({ metadata: { renewal: String(renewals) } }), { at }),
      stripe.invoicePaid({ id: invoice, billing_reason: 'subscription_cycle' }, { at }),
      stripe.invoicePaymentPaid(
        { invoice, payment: { type: 'payment_intent', payment_intent: payment } },
        { at },
      ),
    );
  }
  if (is(40)) {
    events.push(stripe.chargeRefunded({}, next()));
    if (is(30)) events.push(stripe.refundFailed({}, next()));
  }
  if (is(20)) {
    const dispute = stripe.dispute(next().at);
    events.push(dispute.opened(), dispute.lost(next().at));
    if (is(50)) events.push(dispute.wonAfterAll(next().at));
  }
  if (is(30)) {
    const { at } = next();
    // Older than what is known by then: it changes nothing.
    const stale = stripe.updated(snapshot({ cancel_at_period_end: true }), { at: started });
    events.push(stripe.ended(at, snapshot()), stale);
  }
  return events;
}

/**
 * Checks what must hold once every event has been delivered, whatever happened meanwhile: each event was applied once,
 * the rows are consistent, every conversion gave 45 days to each side once, and the rows equal those of an
 * undisturbed server, apart from our own clock's instants.
 *
 * @param purchases the events of each, in the order in which they were delivered
 * @param why shown when it fails
 */
export async function expectAppliedOnce(
  databaseUrl: string,
  purchases: readonly (readonly StripeEvent[])[],
  why: string,
): Promise<void> {
  const server = await startTestServer({ DATABASE_URL: databaseUrl });
  const { db, config } = server;
  const people = await db.user.findMany({ include: { creditEntries: { orderBy: { seq: 'asc' } } } });
  for (const { creditEntries, ...user } of people) expect(checkLedger(user, creditEntries), why).toEqual([]);
  expect(await examine(db, { clawbackDays: config.clawbackDays, now: new Date() }), why).toEqual([]);
  await expectGrants(server, why);

  const control = await undisturbed(server, purchases);
  expect(await eventLedger(server), why).toEqual(await eventLedger(control));
  expect(await comparable(server), why).toEqual(await comparable(control));
}

async function expectGrants({ db }: TestServer, why: string): Promise<void> {
  const referrals = await db.referral.findMany({ where: { convertedAt: { not: null } } });
  const sides = referrals.flatMap(({ id, referrerId, referredId }) => [
    `${id} ${referrerId ?? ''} ${CONVERSION_SECONDS}`,
    `${id} ${referredId} ${CONVERSION_SECONDS}`,
  ]);
  const grants = await db.creditEntry.findMany({ where: { kind: 'grant' } });
  const given = grants.map(({ referralId, userId, seconds }) => `${referralId ?? ''} ${userId} ${seconds}`);
  expect(given.sort(), why).toEqual(sides.sort());
  expect(referrals.length, why).toBeGreaterThan(0);
}

/** A server with the same people that handled each event once, without disturbances. */
async function undisturbed(
  { db }: TestServer,
  purchases: readonly (readonly StripeEvent[])[],
): Promise<TestServer> {
  const control = await startTestServer();
  const fresh = {
    tier: 'free',
    creditUntil: null,
    creditHeldAt: null,
    creditEntryCount: 0,
    creditEntryAt: null,
  };
  const users = await db.user.findMany();
  await control.db.user.createMany({ data: users.map((user) => ({ ...user, ...fresh })) });
  const open = { convertedAt: null, creditedAt: null, reversedAt: null, referredHash: null };
  const referrals = await db.referral.findMany();
  await control.db.referral.createMany({ data: referrals.map((referral) => ({ ...referral, ...open })) });

  const now = new Date();
  for (const sent of purchases.flat()) {
    const event = readEvent(sent, now);
    if (!event) throw new Error(`The event ${sent.id} cannot be read.`);
    await handleEvent(eventContextOf(control), event, JSON.stringify(sent), now);
  }
  return control;
}

/** The outcome of each event. */
function eventLedger({ db }: TestServer) {
  return db.event.findMany({
    orderBy: { id: 'asc' },
    select: {
      id: true,
      type: true,
      created: true,
      status: true,
      reason: true,
      error: true,
      payload: true,
      customerId: true,
    },
  });
}

/** Columns with instants of our own clock, or derived from them. */
const OUR_CLOCK = new Set([
  'at',
  'convertedAt',
  'creditedAt',
  'reversedAt',
  'creditUntil',
  'creditHeldAt',
  'creditEntryAt',
  'provenAt',
  'linkedAt',
]);

/** Depends on the order of different buyers' events. */
const BY_ORDER = new Set(['seq']);

/** All domain rows in a fixed order, without what two runs need not share. */
async function comparable(server: TestServer): Promise<Record<string, string[]>> {
  const { audit, ...tables } = await domainRows(server);
  const rows = { ...tables, audit: audit.map((row) => ({ ...row, id: null })) };
  return Object.fromEntries(
    Object.entries(rows).map(([table, all]) => [
      table,
      all.map((row) => JSON.stringify(Object.entries(row).map(comparableColumn))).sort(),
    ]),
  );
}

function comparableColumn([name, value]: [string, unknown]): unknown {
  if (BY_ORDER.has(name)) return null;
  if (OUR_CLOCK.has(name)) return [name, value !== null];
  // If credit ran for some seconds, the reversal takes that much less.
  if (name === 'seconds' && typeof value === 'number') return [name, Math.round(value / DAY)];
  return [name, value];
}
