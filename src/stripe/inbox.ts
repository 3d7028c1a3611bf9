import { claimEvents, recordVerdicts } from './event-ledger.ts';
import type { Verdict } from './event-ledger.ts';
import { describeError } from './describe-error.ts';
import { UndecidedTie } from './objects/subscription.ts';
import type { TieBreaker } from './objects/subscription.ts';
import type { HandlerOutcome, Ignored, ReadEvent } from './objects/handler.ts';
import type { StripeEvent } from './objects/event.ts';
import { createGroups } from '../db/group-commit.ts';
import { engineOf, inTransaction, isRefused } from '../db/transaction.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { dropEmptyRows, union } from '../db/load.ts';
import type { Wanted } from '../db/load.ts';
import { decideAll } from '../db/unit-of-work.ts';
import type { Decided, Programme } from '../db/unit-of-work.ts';
import { later } from '../instants.ts';

/** An event that was verified and read, and waits for its turn. */
export interface Waiting {
  event: StripeEvent;
  /** Its body, as received. */
  payload: string;
  /** When it was received, UTC. */
  now: Date;
  /** What it does, or why it is ignored. */
  read: ReadEvent | Ignored;
  tieBreaker: TieBreaker | null;
}

/** What came of it: durable; or the subscription of which Stripe must be asked first, and nothing else. */
export type InboxOutcome = HandlerOutcome | { status: 'duplicate' } | { tieOf: string };

export type Inbox = (waiting: Waiting) => Promise<InboxOutcome>;

/** It failed, and that is recorded. */
export class Recorded extends Error {
  override name = 'Recorded';
}

const ASKING = 'Stripe was to be asked which of two snapshots of one second holds, and was not heard.';

/** So many transactions may run at once where the database can: more only wait for each other. */
const BATCHES_AT_ONCE = { sqlite: 1, postgresql: 4 };

/**
 * Handles events as they come: those that wait for a transaction are handled together in the next one. There they are
 * claimed, loaded, decided one by one in memory, and written, each in a number of statements that does not depend on how
 * many they are. An event that fails spoils nothing but itself; when the database refuses a write, each is tried alone.
 *
 * @param db the database
 * @param programme the programme's settings
 * @returns takes one event; what came of it, once that is committed
 */
export function openInbox(db: Db, programme: Programme): Inbox {
  const commit = (batch: readonly Waiting[]) => handleBatch(db, programme, batch);
  const atOnce = BATCHES_AT_ONCE[engineOf(db)];
  const submit = createGroups<Waiting>(commit, isRefused, {
    atOnce,
    sizeOf: ({ payload }) => payload.length,
  });
  return async (waiting) => {
    const decided = (await submit(waiting)) as Decided<InboxOutcome>;
    if ('value' in decided) return decided.value;
    throw new Recorded('The event failed, and that is recorded.', { cause: decided.error });
  };
}

async function handleBatch(
  db: Db,
  programme: Programme,
  batch: readonly Waiting[],
): Promise<Decided<InboxOutcome>[]> {
  const now = batch.map((waiting) => waiting.now).reduce(later);
  return inTransaction(db, now, async (tx) => {
    const first = new Map(batch.toReversed().map((waiting) => [waiting.event.id, waiting]));
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
    const outcomes = await decideFresh(tx, programme, fresh);
    return batch.map(
      (waiting): Decided<InboxOutcome> =>
        outcomes.get(waiting) ?? repeated(outcomes.get(first.get(waiting.event.id) ?? waiting)),
    );
  });
}

/** The same event twice in one batch: the second is a duplicate, unless the first one is not done. */
function repeated(first: Decided<InboxOutcome> | undefined): Decided<InboxOutcome> {
  return first && ('error' in first || 'tieOf' in first.value) ? first : { value: { status: 'duplicate' } };
}

async function decideFresh(
  tx: Tx,
  programme: Programme,
  fresh: readonly Waiting[],
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
      toDecide.map(({ waiting: { tieBreaker }, read: { wants, apply } }) => ({
        wants,
        decide: (unit): HandlerOutcome => apply(unit, tieBreaker),
      })),
    );
    toDecide.forEach(({ waiting }, index) => {
      const one = decided[index];
      if (one) outcomes.set(waiting, tieFrom(one));
    });
  }
  const verdicts: Verdict[] = [];
  const inVain: Wanted[] = [];
  for (const { waiting, read } of toDecide) {
    const outcome = outcomes.get(waiting);
    const { id } = waiting.event;
    if (!outcome) continue;
    if ('error' in outcome) verdicts.push({ id, status: 'failed', why: describeError(outcome.error) });
    // Until Stripe has answered: should this process end before, `replay` and Stripe's next delivery find it.
    else if ('tieOf' in outcome.value) verdicts.push({ id, status: 'failed', why: ASKING });
    else if (outcome.value.status === 'ignored')
      verdicts.push({ id, status: 'ignored', why: outcome.value.reason });
    if ('error' in outcome || 'tieOf' in outcome.value || outcome.value.status === 'ignored')
      inVain.push(read.wants);
  }
  await recordVerdicts(tx, verdicts);
  await dropEmptyRows(tx, union(inVain));
  return outcomes;
}

function tieFrom(decided: Decided<HandlerOutcome>): Decided<InboxOutcome> {
  if ('error' in decided && decided.error instanceof UndecidedTie)
    return { value: { tieOf: decided.error.subscriptionId } };
  return decided;
}
