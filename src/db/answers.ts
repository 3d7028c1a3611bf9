import { Prisma } from './generated/client.ts';
import type { CreditEntry } from './generated/client.ts';
import type { Rows } from './rows.ts';
import type { Reader, Tx } from './transaction.ts';

/** Trials of a user's address. */
interface TrialsHad {
  /** Started by other accounts that have, or had, the address. */
  byAnother: number;
  /** Subscriptions whose trial was given to the address. */
  held: number;
}

/** The part of a stored event that deciding a tie needs. */
interface KeptEvent {
  payload: string | null;
  created: Date;
}

/** Data that is rarely needed, so it is loaded only when a decision asks for it. */
export interface Answers {
  /** By user id. */
  ledgers: ReadonlyMap<string, readonly CreditEntry[]>;
  /** By user id. */
  trials: ReadonlyMap<string, TrialsHad>;
  /** By event id. */
  events: ReadonlyMap<string, KeptEvent | null>;
}

export const NO_ANSWERS: Answers = { ledgers: new Map(), trials: new Map(), events: new Map() };

/** Thrown by a decision that needs more data. The data is loaded and the decision runs again from the start. */
export class Question extends Error {
  override name = 'Question';
  readonly about: keyof Answers;
  readonly ids: readonly string[];
  constructor(about: keyof Answers, ids: readonly string[]) {
    super(`The ${about} of ${ids.join(', ')} are not loaded.`);
    this.about = about;
    this.ids = ids;
  }
}

/**
 * Requires several answers at once, so that they are loaded together.
 *
 * @throws Question when one of them is not loaded yet
 */
export function need({ answers }: { answers: Answers }, about: keyof Answers, ids: readonly string[]): void {
  const missing = ids.filter((id) => !answers[about].has(id));
  if (missing.length > 0) throw new Question(about, missing);
}

/** @throws Question when the answer is not loaded yet */
export function ask<About extends keyof Answers>(
  { answers }: { answers: Answers },
  about: About,
  id: string,
): Answers[About] extends ReadonlyMap<string, infer Answer> ? Answer : never {
  const answer = answers[about].get(id);
  if (answer === undefined) throw new Question(about, [id]);
  return answer as never;
}

/** Loads what the questions ask for, and keeps what is known already. */
export async function answer(
  tx: Tx,
  questions: readonly Question[],
  known: Answers,
  rows: Rows,
): Promise<Answers> {
  const about = (kind: keyof Answers): string[] => [
    ...new Set(questions.filter((question) => question.about === kind).flatMap(({ ids }) => ids)),
  ];
  const [ledgers, trials, events] = [about('ledgers'), about('trials'), about('events')];
  return {
    ledgers: new Map([...known.ledgers, ...(ledgers.length > 0 ? await loadLedgers(tx, ledgers) : [])]),
    trials: new Map([...known.trials, ...(await loadTrials(tx, trials, rows))]),
    events: new Map([...known.events, ...(events.length > 0 ? await loadEvents(tx, events) : [])]),
  };
}

/** @returns by user id, all entries in order of their sequence numbers */
async function loadLedgers(
  tx: Tx,
  users: readonly string[],
): Promise<ReadonlyMap<string, readonly CreditEntry[]>> {
  const entries = await tx.creditEntry.findMany({
    where: { userId: { in: [...users] } },
    orderBy: [{ userId: 'asc' }, { seq: 'asc' }],
  });
  return new Map(users.map((id) => [id, entries.filter(({ userId }) => userId === id)]));
}

/**
 * One statement for each user makes both counts, so that both see the same state of the database: between two statements,
 * another server could give the trial to somebody else.
 */
async function loadTrials(tx: Tx, users: readonly string[], rows: Rows): Promise<[string, TrialsHad][]> {
  const had: [string, TrialsHad][] = [];
  for (const id of users) {
    const hash = rows.users.get(id)?.emailHash ?? '';
    const [counts] = await tx.$queryRaw<[Record<keyof TrialsHad, number | bigint>]>`
      SELECT (${trialsByAnother(id, hash)}) AS "byAnother",
        (SELECT COUNT(*) FROM "Subscription" WHERE "trialHash" = ${hash}) AS "held"`;
    had.push([id, { byAnother: Number(counts.byAnother), held: Number(counts.held) }]);
  }
  return had;
}

/**
 * How many trials were started by other accounts that have, or had, this address. Trials that were refused, or released
 * when the owner of the address claimed the account (`releaseTrials`), do not count.
 */
export async function countTrialsByAnother(db: Reader, userId: string, emailHash: string): Promise<number> {
  const [{ count }] = await db.$queryRaw<[{ count: number | bigint }]>`
    SELECT (${trialsByAnother(userId, emailHash)}) AS "count"`;
  return Number(count);
}

function trialsByAnother(userId: string, emailHash: string): Prisma.Sql {
  return Prisma.sql`
    SELECT COUNT(*) FROM "Subscription" AS s JOIN "Customer" AS c ON c."id" = s."customerId"
    WHERE s."trialEnd" IS NOT NULL AND s."counted" AND NOT s."trialRefused"
      AND NOT s."trialReleased"
      AND c."userId" <> ${userId} AND c."userId" IN (
        SELECT "id" FROM "User" WHERE "emailHash" = ${emailHash} UNION ALL
        SELECT "userId" FROM "FormerAddress" WHERE "emailHash" = ${emailHash})`;
}

async function loadEvents(tx: Tx, ids: readonly string[]): Promise<[string, KeptEvent | null][]> {
  const events = await tx.event.findMany({
    where: { id: { in: [...ids] } },
    select: { id: true, payload: true, created: true },
  });
  return ids.map((id) => [id, events.find((event) => event.id === id) ?? null]);
}
