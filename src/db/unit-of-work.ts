import type { Programme } from '../programme.ts';
import { answer, NO_ANSWERS, Question } from './answers.ts';
import type { Answers } from './answers.ts';
import { load, union } from './load.ts';
import type { Wanted } from './load.ts';
import { fork } from './rows.ts';
import type { Rows } from './rows.ts';
import type { Tx } from './transaction.ts';
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
    if (questions.length === 0) {
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
