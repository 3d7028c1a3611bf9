import { ensureCustomerRow, noteCustomerKnown } from '../../access/customers.ts';
import { follow } from '../../access/follow.ts';
import { isOver } from '../../access/live.ts';
import { afterSnapshot } from '../../access/paid-time.ts';
import {
  deriveProof,
  ensureSubscription,
  paidTimeNow,
  paidTimeOf,
  changeSubscription,
  withProof,
} from '../../access/subscriptions.ts';
import { tierOf } from '../../access/tier.ts';
import { ask } from '../../db/answers.ts';
import type { Customer, Subscription } from '../../db/generated/client.ts';
import type { Unit } from '../../db/unit-of-work.ts';
import { readEvent } from './event.ts';
import type { StripeEvent } from './event.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';
import { breakTie, differingFields, orderSnapshot, UndecidedTie } from './snapshot-order.ts';
import type { TieBreaker } from './snapshot-order.ts';
import { readSubscription } from './subscription-shape.ts';
import type { Products, SubscriptionSnapshot, SubscriptionState } from './subscription-shape.ts';

/**
 * `customer.subscription.created`, `updated`, `deleted`, `paused` and `resumed`: each carries a whole snapshot of the
 * subscription, so all are handled alike.
 */
export const onSubscriptionChanged: EventHandler = (event, { products }) => {
  const snapshot = readSnapshot(event, products);
  const { id, customerId } = snapshot;
  if (customerId === null) return ignored('the subscription has no customer');
  return {
    wants: { customers: [customerId], subscriptions: [id] },
    apply: (tx, tieBreaker) => {
      const customer = ensureCustomerRow(tx, customerId);
      noteCustomerKnown(tx, customer);
      const { current, changed, isEvidence, proofChanged } = storeSnapshot(
        tx,
        customer,
        snapshot,
        event,
        tieBreaker,
      );
      if (!current && !isEvidence) return ignored('a later snapshot of the subscription is already known');
      if (customer.userId && (changed || proofChanged))
        follow(tx, customer.userId, causeOf(event), proofChanged);
      return OK;
    },
  };
};

function readSnapshot(event: StripeEvent, products: Products): SubscriptionSnapshot {
  const snapshot = readSubscription(event.object, products);
  const over = event.type === 'customer.subscription.deleted' && !isOver(snapshot.state.status);
  return over ? { ...snapshot, state: { ...snapshot.state, status: 'canceled' } } : snapshot;
}

/** The effect of a snapshot. */
interface StoredSnapshot {
  /** Its state became the row's, or already was. */
  current: boolean;
  /** The status, or whether it counts, changed. */
  changed: boolean;
  /** It shows something new about payment. */
  isEvidence: boolean;
  /** As a result, the proof of payment changed. */
  proofChanged: boolean;
}

/**
 * Stores a snapshot of a subscription (design: rule 7): its state, unless the row holds a later one, and always what
 * it shows about payment. The unit of work must hold the customer's lock.
 *
 * @param tieBreaker Stripe's answer, on the second attempt after an UndecidedTie; else null
 * @throws UndecidedTie when only Stripe can tell which of two snapshots is current
 */
function storeSnapshot(
  tx: Unit,
  customer: Customer,
  snapshot: SubscriptionSnapshot,
  event: StripeEvent,
  tieBreaker: TieBreaker | null,
): StoredSnapshot {
  const row = ensureSubscription(tx, snapshot.id, customer.id);
  const state = customer.deletedAt ? ended(snapshot.state, customer.deletedAt) : snapshot.state;
  const evidence = newEvidence(row, snapshot, event.created);
  const next = nextState(tx, row, state, event, tieBreaker);
  const statusChanged = next?.status !== undefined && next.status !== row.status;
  const changes = { ...next, ...(statusChanged && { statusAt: event.created }), ...evidence };
  const mayBeProof = evidence !== null || changes.counted === true;
  const proof = mayBeProof ? deriveProof(tx, { ...row, ...changes }) : null;
  const after = { ...row, ...changes, ...proof };

  const isNewest = next?.snapshotEventId === event.id;
  const heard = afterSnapshot(
    withProof(row, after.provenAt, event.created),
    { paid: givesPaid(snapshot.state, after.provenAt), at: event.created },
    isNewest,
  );
  changeSubscription(tx, row, { ...changes, ...proof, ...paidTimeOf(row, paidTimeNow(tx, heard, after)) });
  return {
    current: next !== null,
    changed: statusChanged || after.counts !== row.counts,
    isEvidence: evidence !== null,
    proofChanged: proof !== null,
  };
}

/**
 * Sets a subscription's row to Stripe's current answer. The row keeps the time of the newest event seen, because our
 * own clock never orders Stripe's events. The answer shows nothing about payment, except that the subscription
 * counts (design: rules 6 and 7). The unit of work must hold the customer's lock.
 *
 * @param before the row as it was before Stripe was asked; null when there was none
 * @returns null when the row has changed since, so that it may be newer than the answer
 */
export function storeFetched(
  tx: Unit,
  customer: Customer,
  snapshot: SubscriptionSnapshot,
  before: Subscription | null,
): Pick<StoredSnapshot, 'changed' | 'proofChanged'> | null {
  const row = ensureSubscription(tx, snapshot.id, customer.id);
  const same =
    row.snapshotAt?.getTime() === before?.snapshotAt?.getTime() &&
    row.snapshotEventId === (before?.snapshotEventId ?? null);
  if (!same) return null;
  const state = customer.deletedAt ? ended(snapshot.state, customer.deletedAt) : snapshot.state;
  const snapshotAt = row.snapshotAt ?? state.createdAt ?? tx.now;
  const statusChanged = state.status !== row.status;
  const countsNow = state.counts && !row.counted;
  const changes = {
    ...state,
    snapshotAt,
    snapshotEventId: null,
    needsReconcile: false,
    missingAt: null,
    ...(statusChanged && { statusAt: state.endedAt ?? snapshotAt }),
    ...(countsNow && { counted: true }),
  };
  const proof = countsNow ? deriveProof(tx, { ...row, ...changes }) : null;
  const after = { ...row, ...changes, ...proof };
  const known = paidTimeNow(tx, withProof(row, after.provenAt, tx.now), after);
  changeSubscription(tx, row, { ...changes, ...proof, ...paidTimeOf(row, known) });
  return { changed: statusChanged || after.counts !== row.counts, proofChanged: proof !== null };
}

/** The fields in which our row and Stripe differ, each with both values. */
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

function ended(state: SubscriptionState, at: Date): SubscriptionState {
  const status = isOver(state.status) ? state.status : 'canceled';
  return { ...state, status, endedAt: state.endedAt ?? at };
}

function givesPaid(state: SubscriptionState, provenAt: Date | null): boolean {
  // A refused trial makes no difference to whether the subscription is paid.
  return tierOf({ ...state, provenAt, trialRefused: false }) === 'paid';
}

type Evidence = Partial<Pick<Subscription, 'activeAt' | 'doubtAt' | 'counted'>>;

/** Only the earliest instants are kept, so that the order of snapshots does not matter. */
function newEvidence(row: Subscription, snapshot: SubscriptionSnapshot, created: Date): Evidence | null {
  const earlier = (known: Date | null): boolean => known === null || created < known;
  const evidence: Evidence = {};
  if (snapshot.state.status === 'active' && earlier(row.activeAt)) evidence.activeAt = created;
  if (snapshot.doubtful && earlier(row.doubtAt)) evidence.doubtAt = created;
  if (snapshot.state.counts && !row.counted) evidence.counted = true;
  return Object.keys(evidence).length > 0 ? evidence : null;
}

/** What a snapshot changes in the row; null when the row holds something later. */
function nextState(
  tx: Unit,
  row: Subscription,
  state: SubscriptionState,
  event: StripeEvent,
  tieBreaker: TieBreaker | null,
): Partial<Subscription> | null {
  const { created, id } = event;
  const changes = {
    ...state,
    snapshotAt: created,
    snapshotEventId: id,
    needsReconcile: false,
    missingAt: null,
  };
  if (row.status === null || row.snapshotAt === null) return changes;

  const held = { state: stateOf(row, row.status), at: row.snapshotAt };
  switch (orderSnapshot(held, state, event.created)) {
    case 'earlier':
      return null;
    case 'same':
      return row.missingAt === null ? {} : { missingAt: null };
    case 'later':
      // A final status can come from an older snapshot than the row's; the row keeps its newer time.
      return created < row.snapshotAt ? { ...changes, snapshotAt: row.snapshotAt } : changes;
    case 'tie':
      break;
  }
  const order = breakTie(snapshotEvent(tx, row.snapshotEventId), event, tx.programme.products);
  if (order === 'later') return changes;
  if (order === 'earlier') return null;
  if (tieBreaker === null) throw new UndecidedTie(row.id);
  if (tieBreaker === 'unavailable') return { ...changes, needsReconcile: true };
  // A fetched state is newer than both events and belongs to neither. It sets the row and shows nothing about payment.
  const counted = row.counted || tieBreaker.state.counts;
  return { ...tieBreaker.state, counted, snapshotEventId: null, needsReconcile: false, missingAt: null };
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
    endReason: row.endReason,
    counts: row.counts,
  };
}

function snapshotEvent(tx: Unit, eventId: string | null): StripeEvent | null {
  const kept = eventId === null ? null : ask(tx, 'events', eventId);
  return kept?.payload ? readEvent(JSON.parse(kept.payload), kept.created) : null;
}
