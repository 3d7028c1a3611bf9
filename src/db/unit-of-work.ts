import type { CreditEntry } from './generated/client.ts';
import { load, loadLedgers, union } from './load.ts';
import type { Wanted } from './load.ts';
import { fork } from './rows.ts';
import type { Rows } from './rows.ts';
import type { Db, Tx } from './transaction.ts';
import { write } from './write.ts';

/** The programme's settings, as far as rules depend on them. */
export interface Programme {
  /** REFERRAL_CLAWBACK_DAYS. */
  clawbackDays: number;
  /** STRIPE_PRODUCTS; null: every product counts. */
  products: readonly string[] | null;
  /** Whether mail can be sent; otherwise none is queued. */
  mail: boolean;
}

/**
 * What a decision works on: the rows of the open transaction, and its instant. Rules read and change it without waiting
 * for anything; nothing outside of it changes until all of it is written.
 */
export interface Unit {
  readonly now: Date;
  readonly programme: Programme;
  readonly rows: Rows;
  readonly answers: Answers;
  /** Has something done once, after the commit: counting, say. */
  readonly afterCommit: (work: () => void) => void;
}

/** How often trials were had with the address of a user: by another account, and by this one. */
export interface TrialsHad {
  byAnother: number;
  own: number;
}

/** An event of the ledger, as far as a tie needs it. */
export interface KeptEvent {
  payload: string | null;
  created: Date;
}

/** What was asked for, because it is rarely needed and not loaded with the rest. */
export interface Answers {
  /** The credit ledgers of users. */
  ledgers: ReadonlyMap<string, readonly CreditEntry[]>;
  trials: ReadonlyMap<string, TrialsHad>;
  events: ReadonlyMap<string, KeptEvent | null>;
}

const NO_ANSWERS: Answers = { ledgers: new Map(), trials: new Map(), events: new Map() };

/** Thrown by a decision that lacks something: it is loaded, and the decision is made again from its start. */
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
 * Asks for several things at once, so that they are loaded together.
 *
 * @param tx the unit of work
 * @param about what kind of thing is asked for
 * @param ids whose
 * @throws Question when any of them is not loaded yet
 */
export function need({ answers }: Pick<Unit, 'answers'>, about: keyof Answers, ids: readonly string[]): void {
  const missing = ids.filter((id) => !answers[about].has(id));
  if (missing.length > 0) throw new Question(about, missing);
}

/**
 * @param tx the unit of work
 * @param about what kind of thing is asked for
 * @param id whose
 * @returns it
 * @throws Question when it is not loaded yet
 */
export function ask<About extends keyof Answers>(
  { answers }: Pick<Unit, 'answers'>,
  about: About,
  id: string,
): Answers[About] extends ReadonlyMap<string, infer Answer> ? Answer : never {
  const answer = answers[about].get(id);
  if (answer === undefined) throw new Question(about, [id]);
  return answer as never;
}

/** What became of one decision: what it returned, or what it threw; then nothing that it changed is kept. */
export type Decided<T> = { value: T } | { error: unknown };

/** One decision, and the ids that it is about. */
export interface Decision<T> {
  wants: Wanted;
  decide: (tx: Unit) => T;
}

/** Questions lead to questions, but not for long: a ledger, a trial and a tie at the most. */
const MAX_ROUNDS = 5;

/**
 * Makes decisions one after the other on rows that are locked and loaded together, and writes what they change. The number
 * of statements does not depend on the number of decisions.
 *
 * @param tx the open transaction
 * @param programme the programme's settings
 * @param decisions in their order
 * @returns what became of each
 */
export async function decideAll<T>(
  tx: Tx,
  programme: Programme,
  decisions: readonly Decision<T>[],
): Promise<Decided<T>[]> {
  const loaded = await load(tx, union(decisions.map(({ wants }) => wants)));
  let answers = NO_ANSWERS;
  for (let round = 1; ; round += 1) {
    const { rows, decided, questions, afterCommit } = decideOnce(tx, programme, loaded, answers, decisions);
    if (questions.length === 0 || round === MAX_ROUNDS) {
      await write(tx, loaded, rows);
      afterCommit.forEach(tx.afterCommit);
      return decided;
    }
    answers = await answer(tx, questions, answers, loaded);
  }
}

/**
 * Makes one decision on rows of its own, and writes what it changes.
 *
 * @param tx the open transaction
 * @param programme the programme's settings
 * @param wants the ids that it is about
 * @param decide changes the rows; it may be called again from its start
 * @returns what it returned
 * @throws what it threw; nothing is written then
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

async function loadTrials(tx: Tx, users: readonly string[], rows: Rows): Promise<[string, TrialsHad][]> {
  const had: [string, TrialsHad][] = [];
  for (const id of users) {
    const emailHash = rows.users.get(id)?.emailHash ?? '';
    const byAnother = await countTrialsByAnother(tx, id, emailHash);
    had.push([id, { byAnother, own: await tx.subscription.count({ where: { trialHash: emailHash } }) }]);
  }
  return had;
}

/**
 * @param db the database, or the open transaction
 * @param userId a user
 * @param emailHash the hash of their address
 * @returns how many trials other accounts had that have, or had, this address
 */
export function countTrialsByAnother(db: Db | Tx, userId: string, emailHash: string): Promise<number> {
  return db.subscription.count({
    where: {
      trialEnd: { not: null },
      counted: true,
      trialRefused: false,
      customer: {
        user: { id: { not: userId }, OR: [{ emailHash }, { formerAddresses: { some: { emailHash } } }] },
      },
    },
  });
}

async function loadEvents(tx: Tx, ids: readonly string[]): Promise<[string, KeptEvent | null][]> {
  const events = await tx.event.findMany({
    where: { id: { in: [...ids] } },
    select: { id: true, payload: true, created: true },
  });
  return ids.map((id) => [id, events.find((event) => event.id === id) ?? null]);
}
