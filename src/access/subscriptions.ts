import * as z from 'zod';

import type { Subscription } from '../db/generated/client.ts';
import { NEVER_BEGAN } from '../db/load.ts';
import type { Reader } from '../db/transaction.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { later } from '../instants.ts';
import { firstPaymentOf } from './first-payment.ts';
import { isOver } from './live.ts';
import { afterProof, afterSnapshot, knownOf } from './paid-time.ts';
import type { PaidTimeSoFar, PaidTime } from './paid-time.ts';
import { provesPayment } from './proof.ts';
import { tierOf } from './tier.ts';

/**
 * The subscriptions of all of the user's customers; of those that are over and never began (`NEVER_BEGAN`), only the
 * newest that counts. The status is null where only an invoice or a checkout is known.
 */
export async function subscriptionsOf(db: Reader, userId: string): Promise<Subscription[]> {
  return db.$queryRaw<Subscription[]>`
    SELECT s.* FROM "Subscription" AS s JOIN "Customer" AS c ON c."id" = s."customerId"
    WHERE c."userId" = ${userId} AND (NOT ${NEVER_BEGAN} OR s."id" = (
      SELECT s."id" FROM "Subscription" AS s JOIN "Customer" AS c ON c."id" = s."customerId"
      WHERE c."userId" = ${userId} AND s."counts" AND ${NEVER_BEGAN}
      ORDER BY s."createdAt" DESC NULLS LAST, s."id" LIMIT 1))`;
}

/**
 * The user's subscriptions in the unit of work. `load` leaves out those that never began, unless an event names them.
 */
export function subscriptionsOfUser({ rows }: Unit, userId: string): Subscription[] {
  return [...rows.subscriptions.values()].filter(
    ({ customerId }) => rows.customers.get(customerId)?.userId === userId,
  );
}

/**
 * The subscription's row, created empty if nothing was known. The unit of work must hold the customer's lock. If only
 * some products count, an empty row does not count until its first snapshot.
 */
export function ensureSubscription({ rows, programme }: Unit, id: string, customerId: string): Subscription {
  const known = rows.subscriptions.get(id);
  if (known) return known;
  const counts = programme.products === null;
  const subscription = { ...NOTHING_KNOWN, id, customerId, counts, counted: counts };
  rows.subscriptions.set(id, subscription);
  return subscription;
}

const NOTHING_KNOWN: Omit<Subscription, 'id' | 'customerId' | 'counts' | 'counted'> = {
  status: null,
  createdAt: null,
  priceId: null,
  currentPeriodEnd: null,
  otherItems: null,
  trialEnd: null,
  cancelAt: null,
  cancelAtPeriodEnd: false,
  collectionPaused: false,
  collectionResumesAt: null,
  endedAt: null,
  endReason: null,
  nextAttemptAt: null,
  snapshotAt: null,
  snapshotEventId: null,
  statusAt: null,
  givesSince: null,
  gaveOtherwiseAt: null,
  needsReconcile: false,
  missingAt: null,
  activeAt: null,
  doubtAt: null,
  checkoutUnpaid: false,
  provenAt: null,
  firstPaidAt: null,
  moneyBack: false,
  trialHash: null,
  trialRefused: false,
  trialReleased: false,
};

/**
 * Derives the proof of payment again after a fact that bears on it has changed.
 *
 * @param at event.created of what brought that fact, UTC
 * @returns whether `provenAt` or `firstPaidAt` changed
 */
export function refreshProof(tx: Unit, subscription: Subscription, at: Date): boolean {
  const proof = deriveProof(tx, subscription);
  if (!proof) return false;
  const known = withProof(subscription, proof.provenAt, at);
  changeSubscription(tx, subscription, { ...proof, ...paidTimeOf(subscription, known) });
  return true;
}

/** Ends every subscription of a customer that was deleted at Stripe. */
export function endSubscriptions(tx: Unit, customerId: string, endedAt: Date): void {
  for (const row of tx.rows.subscriptions.values()) {
    if (row.customerId !== customerId || row.status === null || isOver(row.status)) continue;
    const changes = { status: 'canceled', endedAt, statusAt: endedAt };
    const known = paidTimeNow(tx, knownOf(row), { ...row, ...changes });
    changeSubscription(tx, row, { ...changes, ...paidTimeOf(row, known) });
  }
}

/** The row's paid time after its proof has changed. */
export function withProof(row: Subscription, provenAt: Date | null, at: Date): PaidTimeSoFar | null {
  const known = knownOf(row);
  if (!known) return null;
  const flips = known.paid !== (tierOf({ ...row, provenAt }) === 'paid');
  return flips ? afterProof(known, row.statusAt, at) : known;
}

/**
 * The row's paid time after a change that no event's snapshot brought: a deleted customer, or Stripe's answer to our
 * question. If the answer names no end, the subscription ended at the moment of asking; if it says paid, the
 * subscription counts as paid from the newest snapshot or the end of the trial, whichever is later.
 */
export function paidTimeNow({ now }: Unit, known: PaidTimeSoFar | null, after: Subscription): PaidTimeSoFar {
  const paid = tierOf(after) === 'paid';
  if (known?.paid === paid) return known;
  const trialEnd = after.trialEnd && after.trialEnd <= now ? after.trialEnd : null;
  const at = paid ? later(after.snapshotAt ?? now, trialEnd) : (after.endedAt ?? now);
  return afterSnapshot(known, { paid, at }, true);
}

/** The columns to write; empty when nothing changed. */
export function paidTimeOf(row: Subscription, known: PaidTimeSoFar | null): Partial<PaidTime> {
  if (!known) return {};
  const { givesSince, gaveOtherwiseAt } = known;
  const same =
    givesSince?.getTime() === row.givesSince?.getTime() &&
    gaveOtherwiseAt?.getTime() === row.gaveOtherwiseAt?.getTime();
  return same ? {} : { givesSince, gaveOtherwiseAt };
}

type ProofColumns = Pick<Subscription, 'provenAt' | 'firstPaidAt'>;

/** Derives the proof columns from the facts; null when the row already has these values. */
export function deriveProof({ rows, now }: Unit, row: Subscription): ProofColumns | null {
  const invoices = [...rows.invoices.values()].filter(({ subscriptionId }) => subscriptionId === row.id);
  const first = firstPaymentOf([{ invoices }])?.paidAt ?? null;
  // Once the first payment is known, not every invoice is loaded, so only an earlier one is news.
  const firstPaidAt =
    row.firstPaidAt && (first === null || row.firstPaidAt < first) ? row.firstPaidAt : first;
  const proven = provesPayment({ ...row, invoices }) || (row.counted && firstPaidAt !== null);
  const same = proven === (row.provenAt !== null) && firstPaidAt?.getTime() === row.firstPaidAt?.getTime();
  return same ? null : { provenAt: proven ? (row.provenAt ?? now) : null, firstPaidAt };
}

/** Applies changes to the row as the unit of work holds it now, which may be newer than the caller's copy. */
export function changeSubscription(
  { rows }: Unit,
  { id }: Subscription,
  changes: Partial<Subscription>,
): void {
  const row = rows.subscriptions.get(id);
  if (row && Object.keys(changes).length > 0) rows.subscriptions.set(id, { ...row, ...changes });
}

export interface SubscriptionItem {
  priceId: string | null;
  currentPeriodEnd: Date | null;
}

const keptItems = z.array(z.object({ priceId: z.string().nullable(), currentPeriodEnd: z.int().nullable() }));

/** All items, in Stripe's order. */
export function itemsOf(
  state: Pick<Subscription, 'priceId' | 'currentPeriodEnd' | 'otherItems'>,
): [SubscriptionItem, ...SubscriptionItem[]] {
  const others = keptItems.parse(JSON.parse(state.otherItems ?? '[]'));
  return [
    { priceId: state.priceId, currentPeriodEnd: state.currentPeriodEnd },
    ...others.map(({ priceId, currentPeriodEnd: end }) => ({
      priceId,
      currentPeriodEnd: end === null ? null : new Date(end * 1000),
    })),
  ];
}
