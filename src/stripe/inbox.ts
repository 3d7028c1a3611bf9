import { createGroups } from '../db/group-commit.ts';
import { dropEmptyRows, union } from '../db/load.ts';
import type { Wanted } from '../db/load.ts';
import type { Rows } from '../db/rows.ts';
import { engineOf, inTransaction, isBusyOrUnreachable } from '../db/transaction.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { decideAll } from '../db/unit-of-work.ts';
import type { Decided } from '../db/unit-of-work.ts';
import { later } from '../instants.ts';
import type { Programme } from '../programme.ts';
import { describeError } from './describe-error.ts';
import { claimEvents, recordVerdicts, thinEvents } from './event-ledger.ts';
import type { Verdict } from './event-ledger.ts';
import type { StripeEvent } from './objects/event.ts';
import type { HandlerOutcome, Ignored, ReadEvent } from './objects/handler.ts';
import { UndecidedTie } from './objects/snapshot-order.ts';
import type { TieBreaker } from './objects/snapshot-order.ts';

/** A verified and parsed event that waits to be handled. */
export interface Waiting {
  event: StripeEvent;
  /** The body as received. */
  payload: string;
  /** When it was received, UTC. */
  now: Date;
  /** What it does, or why it is ignored. */
  read: ReadEvent | Ignored;
  tieBreaker: TieBreaker | null;
}

/** The committed outcome; or the subscription whose tie Stripe must break first. */
export type InboxOutcome = HandlerOutcome | { status: 'duplicate' } | { tieOf: string };

export type Inbox = (waiting: Waiting) => Promise<InboxOutcome>;

/** The event failed, and its failure is recorded. */
export class RecordedFailure extends Error {
  override name = 'RecordedFailure';
}

const ASKING =
  'Two snapshots were created in the same second, and Stripe has not yet said which one is current.';

/** How many transactions may run concurrently; more would only wait for each other. */
const BATCHES_AT_ONCE = { sqlite: 1, postgresql: 4 };

/**
 * Handles events in batches: events that wait for a transaction share the next one, up to the limits of `createGroups`.
 * They are claimed, loaded, decided one by one in memory and written. The number of statements does not depend on the
 * size of the batch, apart from the exceptions named at `decideAll` and two statements when some of its events are
 * about deleted accounts. A failing event does not affect the others. If a statement fails, each event is tried alone.
 * If the database is busy or unreachable, the whole batch is rejected. (On SQLite, `inTransaction` may also group a batch
 * with other waiting transactions, such as sign-ups.)
 *
 * @returns a function that takes one event and resolves to its committed outcome
 */
export function openInbox(db: Db, programme: Programme): Inbox {
  const commit = (batch: readonly Waiting[]) => handleBatch(db, programme, batch);
  const atOnce = BATCHES_AT_ONCE[engineOf(db)];
  const submit = createGroups<Waiting>(commit, isBusyOrUnreachable, {
    atOnce,
    sizeOf: ({ payload }) => payload.length,
  });
  return async (waiting) => {
    const decided = (await submit(waiting)) as Decided<InboxOutcome>;
    if ('value' in decided) return decided.value;
    throw new RecordedFailure('The event failed and was recorded.', { cause: decided.error });
  };
}

async function handleBatch(
  db: Db,
  programme: Programme,
  batch: readonly Waiting[],
): Promise<Decided<InboxOutcome>[]> {
  const now = batch.map((waiting) => waiting.now).reduce(later);
  return inTransaction(db, now, async (tx) => {
    // If an event is in the batch twice, handle the one for which Stripe has been asked, otherwise the first.
    const inOrder = [...batch].sort((a, b) => Number(b.tieBreaker !== null) - Number(a.tieBreaker !== null));
    const first = new Map(inOrder.toReversed().map((waiting) => [waiting.event.id, waiting]));
    const claimed = await claimEvents(
      tx,
      [...first.values()].map(({ event, payload, read }) => ({
        event,
        payload,
        reason: 'status' in read ? read.reason : null,
      })),
    );
    const fresh = batch.filter(
      (waiting) => first.get(waiting.event.id) === waiting && claimed.has(waiting.event.id),
    );
    const ofDeleted = new Set([...claimed].flatMap(([id, isOfDeleted]) => (isOfDeleted ? [id] : [])));
    const outcomes = await decideFresh(tx, programme, fresh, ofDeleted);
    // No personal data is stored again for somebody who deleted their account (design: rule 11).
    if (ofDeleted.size > 0) await thinEvents(tx, { id: { in: [...ofDeleted] } });
    return batch.map(
      (waiting): Decided<InboxOutcome> =>
        outcomes.get(waiting) ?? repeated(outcomes.get(first.get(waiting.event.id) ?? waiting)),
    );
  });
}

/** The same event twice in one batch: the second is a duplicate, unless the first failed or is undecided. */
function repeated(first: Decided<InboxOutcome> | undefined): Decided<InboxOutcome> {
  return first && ('error' in first || 'tieOf' in first.value) ? first : { value: { status: 'duplicate' } };
}

/** @param ofDeleted receives the ids of further events that turn out to be about deleted accounts */
async function decideFresh(
  tx: Tx,
  programme: Programme,
  fresh: readonly Waiting[],
  ofDeleted: Set<string>,
): Promise<ReadonlyMap<Waiting, Decided<InboxOutcome>>> {
  const outcomes = new Map<Waiting, Decided<InboxOutcome>>();
  const toDecide: { waiting: Waiting; read: ReadEvent }[] = [];
  for (const waiting of fresh) {
    const { read } = waiting;
    if ('status' in read) outcomes.set(waiting, { value: read });
    else toDecide.push({ waiting, read });
  }
  if (toDecide.length > 0) {
    const decided = await decideAll(
      tx,
      programme,
      toDecide.map(({ waiting: { event, tieBreaker }, read: { wants, apply } }) => ({
        wants,
        decide: (unit): HandlerOutcome => {
          if (isOfDeleted(unit.rows, wants)) ofDeleted.add(event.id);
          return apply(unit, tieBreaker);
        },
      })),
    );
    toDecide.forEach(({ waiting }, index) => {
      const one = decided[index];
      if (one) outcomes.set(waiting, tieFrom(one));
    });
  }
  await recordOutcomes(tx, toDecide, outcomes);
  return outcomes;
}

/**
 * Whether rows that an event is about belong to a deleted account. If another event of the same batch makes the
 * connection, the claim could not see it yet.
 */
function isOfDeleted(
  { users, customers, subscriptions, invoices, payments, disputes }: Rows,
  wants: Wanted,
): boolean {
  const known = <T>(ids: readonly (T | null | undefined)[]): T[] =>
    ids.filter((id): id is T => id !== null && id !== undefined);
  const paymentIds = [
    ...(wants.payments ?? []),
    ...known((wants.disputes ?? []).map((id) => disputes.get(id)?.paymentId)),
  ];
  const invoiceIds = [
    ...(wants.invoices ?? []),
    ...known(paymentIds.map((id) => payments.get(id)?.invoiceId)),
  ];
  const subscriptionIds = [
    ...(wants.subscriptions ?? []),
    ...known(invoiceIds.map((id) => invoices.get(id)?.subscriptionId)),
  ];
  const customerIds = [
    ...(wants.customers ?? []),
    ...known(subscriptionIds.map((id) => subscriptions.get(id)?.customerId)),
  ];
  const userIds = [...(wants.users ?? []), ...known(customerIds.map((id) => customers.get(id)?.userId))];
  return userIds.some((id) => users.get(id)?.deletedAt);
}

async function recordOutcomes(
  tx: Tx,
  decided: readonly { waiting: Waiting; read: ReadEvent }[],
  outcomes: ReadonlyMap<Waiting, Decided<InboxOutcome>>,
): Promise<void> {
  const verdicts: Verdict[] = [];
  const nothingKept: Wanted[] = [];
  for (const { waiting, read } of decided) {
    const outcome = outcomes.get(waiting);
    const verdict = outcome && verdictOf(waiting.event.id, outcome);
    if (!verdict) continue;
    verdicts.push(verdict);
    nothingKept.push(read.wants);
  }
  await recordVerdicts(tx, verdicts);
  await dropEmptyRows(tx, union(nothingKept));
}

/** Null when the event was applied. */
function verdictOf(id: string, outcome: Decided<InboxOutcome>): Verdict | null {
  if ('error' in outcome) return { id, status: 'failed', why: describeError(outcome.error) };
  // If this process dies before Stripe has answered, Stripe's next delivery or `replay` picks the event up.
  if ('tieOf' in outcome.value) return { id, status: 'failed', why: ASKING };
  return outcome.value.status === 'ignored' ? { id, status: 'ignored', why: outcome.value.reason } : null;
}

function tieFrom(decided: Decided<HandlerOutcome>): Decided<InboxOutcome> {
  if ('error' in decided && decided.error instanceof UndecidedTie)
    return { value: { tieOf: decided.error.subscriptionId } };
  return decided;
}
