import * as z from 'zod';

import { customerOf, noteCustomerKnown } from '../../access/customers.ts';
import { follow } from '../../access/follow.ts';
import { TERMINAL_STATUSES } from '../../access/live.ts';
import { afterSnapshot } from '../../access/paid-time.ts';
import {
  deriveProof,
  ensureSubscription,
  paidTimeOf,
  put,
  settle,
  withProof,
} from '../../access/subscriptions.ts';
import { tierOf } from '../../access/tier.ts';
import type { Customer, Subscription } from '../../db/generated/client.ts';
import { ask } from '../../db/unit-of-work.ts';
import type { Unit } from '../../db/unit-of-work.ts';
import { dateOf, idOf, instant, optionalReference, optionalText, text } from './common.ts';
import { readEvent } from './event.ts';
import type { StripeEvent } from './event.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';
import { breakTie, differingFields, orderSnapshot } from './snapshot-order.ts';

const discount = z.union([z.string(), z.object({ id: z.string().nullish() })]).nullish();

const item = z.object({
  price: z
    .object({ id: optionalText, product: optionalReference, unit_amount: z.number().nullish() })
    .nullish(),
  /** Since API 2025-03 (basil) the period is the item's. */
  current_period_end: instant.nullish(),
  discounts: z.array(discount).nullish(),
});

export const subscriptionShape = z.object({
  id: text,
  customer: optionalReference,
  status: text,
  created: instant.nullish(),
  items: z.object({ data: z.array(item) }).nullish(),
  current_period_end: instant.nullish(),
  trial_end: instant.nullish(),
  cancel_at: instant.nullish(),
  cancel_at_period_end: z.boolean().nullish(),
  pause_collection: z.object({ resumes_at: instant.nullish() }).nullish(),
  ended_at: instant.nullish(),
  collection_method: z.string().nullish(),
  /** Until API 2025-03 (basil). */
  discount,
  discounts: z.array(discount).nullish(),
  test_clock: optionalReference,
});

/** What the row of a subscription takes over from its newest snapshot. */
export interface SubscriptionState {
  status: string;
  createdAt: Date | null;
  priceId: string | null;
  currentPeriodEnd: Date | null;
  /** Its items after the first, as `itemsOf` reads them; null when it has no more than one. */
  otherItems: string | null;
  trialEnd: Date | null;
  cancelAt: Date | null;
  cancelAtPeriodEnd: boolean;
  /** No payment is collected, until `collectionResumesAt` if that is set. */
  collectionPaused: boolean;
  collectionResumesAt: Date | null;
  endedAt: Date | null;
  /** It sells a product that counts (design: rule 6). */
  counts: boolean;
}

/** The products whose subscriptions count (STRIPE_PRODUCTS); null: every one. */
export type Products = readonly string[] | null;

/** A subscription as one event, or Stripe's answer, shows it. */
export interface SubscriptionSnapshot {
  id: string;
  customerId: string | null;
  state: SubscriptionState;
  /** Being active need not mean that money moved (design: rule 9). */
  doubtful: boolean;
  /** Its time is a simulation. https://docs.stripe.com/billing/testing/test-clocks */
  testClock: boolean;
}

/**
 * Reads a subscription in today's API shape and in those before 2025-03 (basil).
 * https://docs.stripe.com/api/subscriptions/object
 *
 * @param object the JSON object
 * @param products the products whose subscriptions count
 * @returns what we keep of it
 * @throws ZodError when it is no subscription in any of these shapes
 */
export function readSubscription(object: unknown, products: Products): SubscriptionSnapshot {
  const raw = subscriptionShape.parse(object);
  const items = raw.items?.data ?? [];
  const [first, ...others] = items.map((one) => ({
    priceId: one.price?.id ?? null,
    currentPeriodEnd: one.current_period_end ?? raw.current_period_end ?? null,
  }));
  return {
    id: raw.id,
    customerId: idOf(raw.customer),
    state: {
      status: raw.status,
      createdAt: dateOf(raw.created),
      priceId: first?.priceId ?? null,
      currentPeriodEnd: dateOf(first?.currentPeriodEnd ?? raw.current_period_end),
      otherItems: others.length > 0 ? JSON.stringify(others) : null,
      trialEnd: dateOf(raw.trial_end),
      cancelAt: dateOf(raw.cancel_at),
      cancelAtPeriodEnd: raw.cancel_at_period_end ?? false,
      collectionPaused: (raw.pause_collection ?? null) !== null,
      collectionResumesAt: dateOf(raw.pause_collection?.resumes_at),
      endedAt: dateOf(raw.ended_at),
      counts: products === null || items.some(({ price }) => products.includes(idOf(price?.product) ?? '')),
    },
    doubtful:
      raw.status === 'trialing' ||
      typeof raw.trial_end === 'number' ||
      raw.collection_method === 'send_invoice' ||
      [raw.discount, ...[raw, ...items].flatMap((part) => part.discounts ?? [])].some(isDiscount) ||
      (items.length > 0 && items.every((part) => part.price?.unit_amount === 0)),
    testClock: idOf(raw.test_clock) !== null,
  };
}

/** An id that is empty counts as none. */
function isDiscount(one: z.infer<typeof discount>): boolean {
  return (one ?? '') !== '';
}

/**
 * `customer.subscription.created`, `updated`, `deleted`, `paused` and `resumed`: each carries a whole snapshot of the
 * subscription, and all are handled alike.
 */
export const onSubscriptionChanged: EventHandler = (event, { products }) => {
  const snapshot = readSnapshot(event, products);
  const { id, customerId } = snapshot;
  if (customerId === null) return ignored('the subscription has no customer');
  return {
    wants: { customers: [customerId], subscriptions: [id] },
    apply: (tx, tieBreaker) => {
      const customer = customerOf(tx, customerId);
      noteCustomerKnown(tx, customer);
      const { current, changed, taught, onProof } = storeSnapshot(tx, customer, snapshot, event, tieBreaker);
      if (!current && !taught) return ignored('a later snapshot of the subscription is known');
      if (customer.userId && (changed || onProof)) follow(tx, customer.userId, causeOf(event), onProof);
      return OK;
    },
  };
};

function readSnapshot(event: StripeEvent, products: Products): SubscriptionSnapshot {
  const snapshot = readSubscription(event.object, products);
  const over =
    event.type === 'customer.subscription.deleted' && !TERMINAL_STATUSES.has(snapshot.state.status);
  return over ? { ...snapshot, state: { ...snapshot.state, status: 'canceled' } } : snapshot;
}

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

function ended(state: SubscriptionState, at: Date): SubscriptionState {
  const status = TERMINAL_STATUSES.has(state.status) ? state.status : 'canceled';
  return { ...state, status, endedAt: state.endedAt ?? at };
}

function givesPaid(state: SubscriptionState, provenAt: Date | null): boolean {
  // Whether a trial is refused makes nobody paid or unpaid.
  return tierOf({ ...state, provenAt, trialRefused: false }) === 'paid';
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
