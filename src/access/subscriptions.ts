import type { Customer, Subscription } from '../db/generated/client.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { ask } from '../db/unit-of-work.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { later } from '../instants.ts';
import { firstPaymentOf } from './first-payment.ts';
import { provesPayment } from './proof.ts';
import { readEvent } from '../stripe/objects/event.ts';
import type { StripeEvent } from '../stripe/objects/event.ts';
import type { SubscriptionSnapshot, SubscriptionState } from '../stripe/objects/subscription.ts';
import { tierOf } from './tier.ts';
import { afterProof, afterSnapshot, knownOf } from './paid-time.ts';
import type { Known, PaidTime } from './paid-time.ts';
import { breakTie, differingFields, orderSnapshot, TERMINAL_STATUSES } from '../stripe/objects/snapshot-order.ts';

/**
 * Two snapshots of one second disagree, and only Stripe knows which one holds. Stripe is asked outside any transaction, and
 * the event is handled again with the answer.
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

/**
 * @param tx the unit of work
 * @param userId whose
 * @returns all subscriptions of all of the user's customers
 */
export function subscriptionsOfUser({ rows }: Unit, userId: string): Subscription[] {
  return [...rows.subscriptions.values()].filter(
    ({ customerId }) => rows.customers.get(customerId)?.userId === userId,
  );
}

/** What came of a snapshot. */
export interface StoredSnapshot {
  /** The row took its state over, or already held the same. */
  current: boolean;
  /** Its status, or whether it counts, is another one than the row held. */
  changed: boolean;
  /** It taught something about the subscription's payment. */
  taught: boolean;
  /** By what it taught, the facts now say something else of the payment. */
  onProof: boolean;
}

/**
 * Keeps what a snapshot of a subscription says (design: rule 7): its state, unless the row holds a later one, and
 * always what it teaches about payment.
 *
 * @param tx the unit of work, which holds the customer's lock
 * @param customer the customer
 * @param snapshot the snapshot
 * @param event the event that brought it
 * @param tieBreaker Stripe's answer, when this is the second try after an UndecidedTie
 * @returns what came of it
 * @throws UndecidedTie when only Stripe can tell which of two snapshots holds
 */
export function storeSnapshot(
  tx: Unit,
  customer: Customer,
  snapshot: SubscriptionSnapshot,
  event: StripeEvent,
  tieBreaker: TieBreaker | null,
): StoredSnapshot {
  const row = ensureSubscription(tx, snapshot.id, customer.id);
  const state = customer.deletedAt ? ended(snapshot.state, customer.deletedAt) : snapshot.state;
  const taught = teach(row, snapshot, event.created);
  const next = nextState(tx, row, state, event, tieBreaker);
  const statusChanged = next?.status !== undefined && next.status !== row.status;
  const changes = { ...next, ...(statusChanged && { statusAt: event.created }), ...taught };
  const bearsOnProof = taught !== null || changes.counted === true;
  const proof = bearsOnProof ? deriveProof(tx, { ...row, ...changes }) : null;
  const after = { ...row, ...changes, ...proof };

  const isNewest = next?.snapshotEventId === event.id;
  const heard = afterSnapshot(
    withProof(row, after.provenAt, event.created),
    { paid: givesPaid(snapshot.state, after.provenAt), at: event.created },
    isNewest,
  );
  put(tx, row, { ...changes, ...proof, ...paidTimeOf(row, settle(tx, heard, after)) });
  return {
    current: next !== null,
    changed: statusChanged || after.counts !== row.counts,
    taught: taught !== null,
    onProof: proof !== null,
  };
}

/**
 * Sets a subscription's row to what Stripe answered when asked. It stays as new as the newest event that was seen of
 * it, for our own clock never orders Stripe's events, and teaches nothing about payment but that the subscription counts
 * (design: rules 6 and 7).
 *
 * @param tx the unit of work, which holds the customer's lock
 * @param customer the customer
 * @param snapshot Stripe's answer
 * @param before the row as it was before Stripe was asked; null when there was none
 * @returns what came of it; null when the row has changed meanwhile, so that the answer may be older than it
 */
export function storeFetched(
  tx: Unit,
  customer: Customer,
  snapshot: SubscriptionSnapshot,
  before: Subscription | null,
): StoredSnapshot | null {
  const row = ensureSubscription(tx, snapshot.id, customer.id);
  const same =
    row.snapshotAt?.getTime() === before?.snapshotAt?.getTime() &&
    row.snapshotEventId === (before?.snapshotEventId ?? null);
  if (!same) return null;
  const state = customer.deletedAt ? ended(snapshot.state, customer.deletedAt) : snapshot.state;
  const snapshotAt = row.snapshotAt ?? state.createdAt ?? tx.now;
  const statusChanged = state.status !== row.status;
  const taught = state.counts && !row.counted;
  const changes = {
    ...state,
    snapshotAt,
    snapshotEventId: null,
    needsReconcile: false,
    missingAt: null,
    ...(statusChanged && { statusAt: state.endedAt ?? snapshotAt }),
    ...(taught && { counted: true }),
  };
  const proof = taught ? deriveProof(tx, { ...row, ...changes }) : null;
  const after = { ...row, ...changes, ...proof };
  const known = settle(tx, withProof(row, after.provenAt, tx.now), after);
  put(tx, row, { ...changes, ...proof, ...paidTimeOf(row, known) });
  return {
    current: true,
    changed: statusChanged || after.counts !== row.counts,
    taught,
    onProof: proof !== null,
  };
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
 * Makes sure that a subscription has a row to hang facts on.
 *
 * @param tx the unit of work, which holds the customer's lock
 * @param id Stripe's id of the subscription
 * @param customerId whose it is
 * @returns the row; empty but for its ids when nothing was known of it: unless every product counts, it counts with its
 *   first snapshot only
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
};

/**
 * Derives anew what a subscription's facts say of its payment. Called when one that bears on it has changed.
 *
 * @param tx the unit of work
 * @param subscription the row as it is now
 * @param at event.created of what brought that fact, UTC
 * @returns whether it says something else than before: that it is proven, or when its first positive invoice was paid
 */
export function refreshProof(tx: Unit, subscription: Subscription, at: Date): boolean {
  const proof = deriveProof(tx, subscription);
  if (!proof) return false;
  const known = withProof(subscription, proof.provenAt, at);
  put(tx, subscription, { ...proof, ...paidTimeOf(subscription, known) });
  return true;
}

/**
 * Ends every subscription of a customer who is deleted at Stripe.
 *
 * @param tx the unit of work, which holds the customer's lock
 * @param customerId the customer
 * @param endedAt when it was deleted, UTC
 */
export function endSubscriptions(tx: Unit, customerId: string, endedAt: Date): void {
  for (const row of tx.rows.subscriptions.values()) {
    if (row.customerId !== customerId || row.status === null || TERMINAL_STATUSES.has(row.status)) continue;
    const changes = { status: 'canceled', endedAt, statusAt: endedAt };
    const known = settle(tx, knownOf(row), { ...row, ...changes });
    put(tx, row, { ...changes, ...paidTimeOf(row, known) });
  }
}

function ended(state: SubscriptionState, at: Date): SubscriptionState {
  const status = TERMINAL_STATUSES.has(state.status) ? state.status : 'canceled';
  return { ...state, status, endedAt: state.endedAt ?? at };
}

function givesPaid(state: SubscriptionState, provenAt: Date | null): boolean {
  // Whether a trial is refused makes nobody paid or unpaid.
  return tierOf({ ...state, provenAt, trialRefused: false }) === 'paid';
}

/** What is known of a row's paid time once its proof is another one. */
function withProof(row: Subscription, provenAt: Date | null, at: Date): Known | null {
  const known = knownOf(row);
  if (!known) return null;
  const flips = known.paid !== (tierOf({ ...row, provenAt }) === 'paid');
  return flips ? afterProof(known, row.statusAt, at) : known;
}

/**
 * What is known of a row's paid time once it says what no snapshot said: that the customer was deleted, or what Stripe
 * answered when asked. An answer that names no end counts from the instant of asking; one that says "paid", from the
 * newest snapshot or from the trial's end, whichever is later.
 */
function settle({ now }: Unit, known: Known | null, after: Subscription): Known {
  const paid = tierOf(after) === 'paid';
  if (known?.paid === paid) return known;
  const trialEnd = after.trialEnd && after.trialEnd <= now ? after.trialEnd : null;
  const at = paid ? later(after.snapshotAt ?? now, trialEnd) : (after.endedAt ?? now);
  return afterSnapshot(known, { paid, at }, true);
}

/** The columns to write; none when the row says the same. */
function paidTimeOf(row: Subscription, known: Known | null): Partial<PaidTime> {
  if (!known) return {};
  const { givesSince, gaveOtherwiseAt } = known;
  const same =
    givesSince?.getTime() === row.givesSince?.getTime() &&
    gaveOtherwiseAt?.getTime() === row.gaveOtherwiseAt?.getTime();
  return same ? {} : { givesSince, gaveOtherwiseAt };
}

type Proof = Pick<Subscription, 'provenAt' | 'firstPaidAt'>;

/** What the facts say of the payment; null when the row says the same. */
function deriveProof({ rows, now }: Unit, row: Subscription): Proof | null {
  const invoices = [...rows.invoices.values()].filter(({ subscriptionId }) => subscriptionId === row.id);
  const first = firstPaymentOf([{ invoices }])?.paidAt ?? null;
  // Not every invoice is loaded once the first payment is known: only an earlier one is news.
  const firstPaidAt =
    row.firstPaidAt && (first === null || row.firstPaidAt < first) ? row.firstPaidAt : first;
  const proven = provesPayment({ ...row, invoices }) || (row.counted && firstPaidAt !== null);
  const same = proven === (row.provenAt !== null) && firstPaidAt?.getTime() === row.firstPaidAt?.getTime();
  return same ? null : { provenAt: proven ? (row.provenAt ?? now) : null, firstPaidAt };
}

/** Writes changes on what the unit of work holds now; nothing when there are none. */
function put({ rows }: Unit, { id }: Subscription, changes: Partial<Subscription>): void {
  const row = rows.subscriptions.get(id);
  if (row && Object.keys(changes).length > 0) rows.subscriptions.set(id, { ...row, ...changes });
}

type Lessons = Partial<Pick<Subscription, 'activeAt' | 'doubtAt' | 'counted'>>;

/** Earliest instants only: they come out the same in whatever order the snapshots are heard. */
function teach(row: Subscription, snapshot: SubscriptionSnapshot, created: Date): Lessons | null {
  const earlier = (known: Date | null): boolean => known === null || created < known;
  const lessons: Lessons = {};
  if (snapshot.state.status === 'active' && earlier(row.activeAt)) lessons.activeAt = created;
  if (snapshot.doubtful && earlier(row.doubtAt)) lessons.doubtAt = created;
  if (snapshot.state.counts && !row.counted) lessons.counted = true;
  return Object.keys(lessons).length > 0 ? lessons : null;
}

/** What the row takes over; null when it holds something later. */
function nextState(
  tx: Unit,
  row: Subscription,
  state: SubscriptionState,
  event: StripeEvent,
  tieBreaker: TieBreaker | null,
): Partial<Subscription> | null {
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
  const order = breakTie(snapshotEvent(tx, row.snapshotEventId), event, tx.programme.products);
  if (order === 'later') return takeOver;
  if (order === 'earlier') return null;
  if (tieBreaker === null) throw new UndecidedTie(row.id);
  if (tieBreaker === 'unavailable') return { ...takeOver, needsReconcile: true };
  // Fetched: newer than both, and of no event. It sets the row and teaches nothing.
  const counted = row.counted || tieBreaker.state.counts;
  return { ...tieBreaker.state, counted, snapshotEventId: null, needsReconcile: false };
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
    counts: row.counts,
  };
}

function snapshotEvent(tx: Unit, eventId: string | null): StripeEvent | null {
  const kept = eventId === null ? null : ask(tx, 'events', eventId);
  return kept?.payload ? readEvent(JSON.parse(kept.payload), kept.created) : null;
}
