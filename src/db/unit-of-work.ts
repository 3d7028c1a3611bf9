import { Prisma } from './generated/client.ts';
import type { CreditEntry } from './generated/client.ts';
import { load, loadLedgers, union } from './load.ts';
import type { Wanted } from './load.ts';
import { fork } from './rows.ts';
import type { Rows } from './rows.ts';
import type { Reader, Tx } from './transaction.ts';
import type { Programme } from '../programme.ts';
import { write } from './write.ts';

/**
 * What a decision works on: rows in memory. Rules call it `tx`, like the database transaction that it is loaded and
 * written in, but they read and change `rows` synchronously; nothing reaches the database until all of it is written.
 */
export interface Unit {
  readonly now: Date;
  readonly programme: Programme;
  readonly rows: Rows;
  readonly answers: Answers;
  /** Runs `work` once after the commit, for example to count in a metric. */
  readonly afterCommit: (work: () => void) => void;
}

/** Trials of a user's address. */
export interface TrialsHad {
  /** Started by other accounts that have, or had, the address. */
  byAnother: number;
  /** Subscriptions whose trial was given to the address. */
  held: number;
}

/** The part of a stored event that deciding a tie needs. */
export interface KeptEvent {
  payload: string | null;
  created: Date;
}

/** Data that is rarely needed, so it is loaded only when a decision asks for it. */
export interface Answers {
  /** By user id. */
  ledgers: ReadonlyMap<string, readonly CreditEntry[]>;
  trials: ReadonlyMap<string, TrialsHad>;
  events: ReadonlyMap<string, KeptEvent | null>;
}

const NO_ANSWERS: Answers = { ledgers: new Map(), trials: new Map(), events: new Map() };

/** Thrown by a decision that needs more data. The data is loaded and the decision runs again from the start. */
class Question extends Error {
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
export function need({ answers }: Pick<Unit, 'answers'>, about: keyof Answers, ids: readonly string[]): void {
  const missing = ids.filter((id) => !answers[about].has(id));
  if (missing.length > 0) throw new Question(about, missing);
}

/** @throws Question when the answer is not loaded yet */
export function ask<About extends keyof Answers>(
  { answers }: Pick<Unit, 'answers'>,
  about: About,
  id: string,
): Answers[About] extends ReadonlyMap<string, infer Answer> ? Answer : never {
  const answer = answers[about].get(id);
  if (answer === undefined) throw new Question(about, [id]);
  return answer as never;
}

/** The value a decision returned, or what it threw. If it threw, none of its changes are kept. */
export type Decided<T> = { value: T } | { error: unknown };

export interface Decision<T> {
  wants: Wanted;
  decide: (tx: Unit) => T;
}

/**
 * Loads and locks the rows of all decisions, runs the decisions in order and writes what they changed. The number of
 * statements does not depend on the number of decisions, with two exceptions: trials take one statement for each user,
 * and a question that follows from the answer to another one takes a further round.
 *
 * @returns the outcome of each decision, in the same order
 */
export async function decideAll<T>(
  tx: Tx,
  programme: Programme,
  decisions: readonly Decision<T>[],
): Promise<Decided<T>[]> {
  const loaded = await load(tx, union(decisions.map(({ wants }) => wants)));
  let answers = NO_ANSWERS;
  for (;;) {
    const { rows, decided, questions, afterCommit } = decideOnce(tx, programme, loaded, answers, decisions);
    // No question is new, so another round would end the same way.
    const isAnswered = questions.every(({ about, ids }) => ids.every((id) => answers[about].has(id)));
    if (isAnswered) {
      await write(tx, loaded, rows);
      afterCommit.forEach(tx.afterCommit);
      return decided;
    }
    answers = await answer(tx, questions, answers, loaded);
  }
}

/**
 * Runs one decision on rows of its own and writes what it changed.
 *
 * @param decide may run more than once
 * @throws what `decide` threw; nothing is written then
 */
export async function inUnit<T>(
  tx: Tx,
  programme: Programme,
  wants: Wanted,
  decide: (tx: Unit) => T,
): Promise<T> {
  const [decided] = await decideAll(tx, programme, [{ wants, decide }]);
  if (!decided || 'error' in decided) throw decided?.error;
  return decided.value;
}

function decideOnce<T>(
  { now }: Tx,
  programme: Programme,
  loaded: Rows,
  answers: Answers,
  decisions: readonly Decision<T>[],
) {
  let rows = loaded;
  const decided: Decided<T>[] = [];
  const questions: Question[] = [];
  const afterCommit: (() => void)[] = [];
  for (const { decide } of decisions) {
    const draft = fork(rows);
    const after: (() => void)[] = [];
    try {
      const value = decide({ now, programme, rows: draft, answers, afterCommit: (work) => after.push(work) });
      decided.push({ value });
      afterCommit.push(...after);
      rows = draft;
    } catch (error) {
      if (error instanceof Question) questions.push(error);
      decided.push({ error });
    }
  }
  return { rows, decided, questions, afterCommit };
}

async function answer(tx: Tx, questions: readonly Question[], known: Answers, rows: Rows): Promise<Answers> {
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

/**
 * Counts in one statement for each user, which sees one state of the database: between two statements, another server
 * could give the trial to somebody else.
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

/** How many trials were started by other accounts that have, or had, this address. */
export async function countTrialsByAnother(db: Reader, userId: string, emailHash: string): Promise<number> {
  const [{ count }] = await db.$queryRaw<[{ count: number | bigint }]>`
    SELECT (${trialsByAnother(userId, emailHash)}) AS "count"`;
  return Number(count);
}

function trialsByAnother(userId: string, emailHash: string): Prisma.Sql {
  return Prisma.sql`
    SELECT COUNT(*) FROM "Subscription" AS s JOIN "Customer" AS c ON c."id" = s."customerId"
    WHERE s."trialEnd" IS NOT NULL AND s."counted" AND NOT s."trialRefused" AND c."userId" <> ${userId} AND c."userId" IN (
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
