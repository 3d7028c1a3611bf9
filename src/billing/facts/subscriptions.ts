import { Prisma } from '../../db/generated/client.ts';
import type { Invoice, Subscription } from '../../db/generated/client.ts';
import type { Db, Tx } from '../../db/transaction.ts';
import { firstPaymentOf } from '../first-payment.ts';
import { provesPayment } from '../proof.ts';
import { readEvent } from '../stripe-shapes/event.ts';
import type { StripeEvent } from '../stripe-shapes/event.ts';
import type { SubscriptionSnapshot, SubscriptionState } from '../stripe-shapes/subscription.ts';
import { breakTie, differingFields, orderSnapshot, TERMINAL_STATUSES } from './ordering.ts';

/**
 * Two snapshots of one second disagree, and only Stripe knows which one holds. Whoever catches it rolls back, asks
 * Stripe outside any transaction, and tries again with the answer.
 */
export class UndecidedTie extends Error {
  override name = 'UndecidedTie';
  readonly subscriptionId: string;
  constructor(subscriptionId: string) {
    super(`Two snapshots of the subscription ${subscriptionId} have the same second and disagree.`);
    this.subscriptionId = subscriptionId;
  }
}

/** What Stripe said when it was asked to break a tie; 'unavailable' when it could not be asked. */
export type TieBreaker = SubscriptionSnapshot | 'unavailable';

/**
 * @param db the database, or the open transaction
 * @param userId whose
 * @returns all subscriptions of all of the user's customers; without a status those of which only an invoice or a
 *   checkout has been heard
 */
export async function subscriptionsOf(db: Db | Tx, userId: string): Promise<Subscription[]> {
  return db.$queryRaw<Subscription[]>`
    SELECT s.* FROM "Subscription" AS s JOIN "Customer" AS c ON c."id" = s."customerId"
    WHERE c."userId" = ${userId}`;
}

/** What came of a snapshot. */
export interface StoredSnapshot {
  /** The row took its state over, or already held the same. */
  current: boolean;
  /** Its status is another one than the row held. */
  statusChanged: boolean;
  /** It taught something about the subscription's payment. */
  taught: boolean;
  /** By what it taught, the facts now say something else of the payment. */
  onProof: boolean;
  /** When the subscription ended, as the row says now. */
  endedAt: Date | null;
}

/**
 * Keeps what a snapshot of a subscription says (design: rule 7): its state, unless the row holds a later one, and
 * always what it teaches about payment. The caller holds the customer's lock.
 *
 * @param tx the open transaction
 * @param customer the locked customer
 * @param snapshot the snapshot
 * @param event the event that brought it
 * @param tieBreaker Stripe's answer, when this is the second try after an UndecidedTie
 * @returns what came of it
 * @throws UndecidedTie when only Stripe can tell which of two snapshots holds
 */
export async function storeSnapshot(
  tx: Tx,
  customer: { id: string; deletedAt: Date | null },
  snapshot: SubscriptionSnapshot,
  event: StripeEvent,
  tieBreaker: TieBreaker | null,
): Promise<StoredSnapshot> {
  const row = await ensureSubscription(tx, snapshot.id, customer.id);
  const state = customer.deletedAt ? ended(snapshot.state, customer.deletedAt) : snapshot.state;
  const taught = teach(row, snapshot, event.created);
  const next = await nextState(tx, row, state, event, tieBreaker);
  const statusChanged = next?.status !== undefined && next.status !== row.status;
  const changes = { ...next, ...(statusChanged && { statusAt: event.created }), ...taught };
  const proof = taught && (await deriveProof(tx, { ...row, ...changes }));
  await writeChanges(tx, row.id, { ...changes, ...proof });
  const endedAt = next?.endedAt ?? row.endedAt;
  return { current: next !== null, statusChanged, taught: taught !== null, onProof: proof !== null, endedAt };
}

/**
 * Sets a subscription's row to what Stripe answered when asked. It stays as new as the newest event that was seen of
 * it, for our own clock never orders Stripe's events, and teaches nothing about payment (design: rule 7). The caller
 * holds the customer's lock.
 *
 * @param tx the open transaction
 * @param customer the locked customer
 * @param snapshot Stripe's answer
 * @param before the row as it was before Stripe was asked; null when there was none
 * @returns what came of it; null when the row has changed meanwhile, so that the answer may be older than it
 */
export async function storeFetched(
  tx: Tx,
  customer: { id: string; deletedAt: Date | null },
  snapshot: SubscriptionSnapshot,
  before: Subscription | null,
): Promise<StoredSnapshot | null> {
  const row = await ensureSubscription(tx, snapshot.id, customer.id);
  const same =
    row.snapshotAt?.getTime() === before?.snapshotAt?.getTime() &&
    row.snapshotEventId === (before?.snapshotEventId ?? null);
  if (!same) return null;
  const state = customer.deletedAt ? ended(snapshot.state, customer.deletedAt) : snapshot.state;
  const snapshotAt = row.snapshotAt ?? state.createdAt ?? tx.now;
  const statusChanged = state.status !== row.status;
  await tx.subscription.update({
    where: { id: row.id },
    data: {
      ...state,
      snapshotAt,
      snapshotEventId: null,
      needsReconcile: false,
      missingAt: null,
      ...(statusChanged && { statusAt: state.endedAt ?? snapshotAt }),
    },
  });
  return { current: true, statusChanged, taught: false, onProof: false, endedAt: state.endedAt };
}

/**
 * @param row what we hold of a subscription
 * @param snapshot what Stripe says of it
 * @returns the fields in which they differ, each with both values
 */
export function differences(
  row: Subscription | null,
  snapshot: SubscriptionSnapshot,
): { field: keyof SubscriptionState; here: unknown; there: unknown }[] {
  const held = row?.status ? stateOf(row, row.status) : null;
  return differingFields(held, snapshot.state).map((field) => ({
    field,
    here: held?.[field],
    there: snapshot.state[field],
  }));
}

/**
 * Makes sure that a subscription has a row to hang facts on. The caller holds the customer's lock.
 *
 * @param tx the open transaction
 * @param id Stripe's id of the subscription
 * @param customerId whose it is
 * @returns the row; empty but for its ids when nothing was known of it
 */
export async function ensureSubscription(tx: Tx, id: string, customerId: string): Promise<Subscription> {
  const [subscription] = await tx.$queryRaw<[Subscription]>`
    INSERT INTO "Subscription" ("id", "customerId") VALUES (${id}, ${customerId})
    ON CONFLICT ("id") DO UPDATE SET "checkoutUnpaid" = "Subscription"."checkoutUnpaid" RETURNING *`;
  return subscription;
}

/**
 * Derives anew what a subscription's facts say of its payment. Called when one that bears on it has changed.
 *
 * @param tx the open transaction
 * @param subscription the row as it is now
 * @returns whether it says something else than before: that it is proven, or when its first positive invoice was paid
 */
export async function refreshProof(tx: Tx, subscription: Subscription): Promise<boolean> {
  const proof = await deriveProof(tx, subscription);
  await writeChanges(tx, subscription.id, { ...proof });
  return proof !== null;
}

/**
 * Ends every subscription of a customer who is deleted at Stripe.
 *
 * @param tx the open transaction, which holds the customer's lock
 * @param customerId the customer
 * @param endedAt when it was deleted, UTC
 */
export async function endSubscriptions(tx: Tx, customerId: string, endedAt: Date): Promise<void> {
  await tx.subscription.updateMany({
    where: { customerId, status: { notIn: [...TERMINAL_STATUSES] } },
    data: { status: 'canceled', endedAt, statusAt: endedAt },
  });
}

function ended(state: SubscriptionState, at: Date): SubscriptionState {
  const status = TERMINAL_STATUSES.has(state.status) ? state.status : 'canceled';
  return { ...state, status, endedAt: state.endedAt ?? at };
}

type Proof = Pick<Subscription, 'provenAt' | 'firstPaidAt'>;

/** What the facts say of the payment; null when the row says the same. */
async function deriveProof(tx: Tx, row: Subscription): Promise<Proof | null> {
  const invoices = await tx.$queryRaw<Invoice[]>`SELECT * FROM "Invoice" WHERE "subscriptionId" = ${row.id}`;
  const proven = provesPayment({ ...row, invoices });
  const firstPaidAt = firstPaymentOf([{ invoices }])?.paidAt ?? null;
  const same = proven === (row.provenAt !== null) && firstPaidAt?.getTime() === row.firstPaidAt?.getTime();
  return same ? null : { provenAt: proven ? (row.provenAt ?? tx.now) : null, firstPaidAt };
}

async function writeChanges(tx: Tx, id: string, changes: Partial<Subscription>): Promise<void> {
  const assignments = Object.entries(changes).map(
    ([column, value]) => Prisma.sql`${Prisma.raw(`"${column}"`)} = ${value}`,
  );
  if (assignments.length === 0) return;
  await tx.$executeRaw`UPDATE "Subscription" SET ${Prisma.join(assignments)} WHERE "id" = ${id}`;
}

type Lessons = Partial<Pick<Subscription, 'activeAt' | 'doubtAt'>>;

/** Earliest instants only: they come out the same in whatever order the snapshots are heard. */
function teach(row: Subscription, snapshot: SubscriptionSnapshot, created: Date): Lessons | null {
  const earlier = (known: Date | null): boolean => known === null || created < known;
  const lessons: Lessons = {};
  if (snapshot.state.status === 'active' && earlier(row.activeAt)) lessons.activeAt = created;
  if (snapshot.doubtful && earlier(row.doubtAt)) lessons.doubtAt = created;
  return Object.keys(lessons).length > 0 ? lessons : null;
}

/** What the row takes over; null when it holds something later. */
async function nextState(
  tx: Tx,
  row: Subscription,
  state: SubscriptionState,
  event: StripeEvent,
  tieBreaker: TieBreaker | null,
): Promise<Partial<Subscription> | null> {
  const { created, id } = event;
  const takeOver = {
    ...state,
    snapshotAt: created,
    snapshotEventId: id,
    needsReconcile: false,
    missingAt: null,
  };
  if (row.status === null || row.snapshotAt === null) return takeOver;

  const held = { state: stateOf(row, row.status), at: row.snapshotAt };
  switch (orderSnapshot(held, state, event.created)) {
    case 'earlier':
      return null;
    case 'same':
      return {};
    case 'later':
      // The end of a subscription can be older than what the row holds; the row stays as new as it was.
      return created < row.snapshotAt ? { ...takeOver, snapshotAt: row.snapshotAt } : takeOver;
    case 'tie':
      break;
  }
  const order = breakTie(await snapshotEvent(tx, row.snapshotEventId), event);
  if (order === 'later') return takeOver;
  if (order === 'earlier') return null;
  if (tieBreaker === null) throw new UndecidedTie(row.id);
  if (tieBreaker === 'unavailable') return { ...takeOver, needsReconcile: true };
  // Fetched: newer than both, and of no event. It sets the row and teaches nothing.
  return { ...tieBreaker.state, snapshotEventId: null, needsReconcile: false };
}

function stateOf(row: Subscription, status: string): SubscriptionState {
  return {
    status,
    createdAt: row.createdAt,
    priceId: row.priceId,
    currentPeriodEnd: row.currentPeriodEnd,
    otherItems: row.otherItems,
    trialEnd: row.trialEnd,
    cancelAt: row.cancelAt,
    cancelAtPeriodEnd: row.cancelAtPeriodEnd,
    collectionPaused: row.collectionPaused,
    collectionResumesAt: row.collectionResumesAt,
    endedAt: row.endedAt,
  };
}

async function snapshotEvent(tx: Tx, eventId: string | null): Promise<StripeEvent | null> {
  const row = eventId === null ? null : await tx.event.findUnique({ where: { id: eventId } });
  return row?.payload ? readEvent(JSON.parse(row.payload), row.created) : null;
}
