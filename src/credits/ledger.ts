import { writeAudit } from '../audit.ts';
import type { Cause } from '../audit.ts';
import { ask } from '../db/answers.ts';
import type { CreditEntry } from '../db/generated/client.ts';
import type { UserRow } from '../db/rows.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { DAY_SECONDS, later } from '../instants.ts';
import { creditDaysGranted } from '../metrics.ts';
import { granted, held, resumed, taken } from './balance.ts';
import type { CreditBalance } from './balance.ts';
import { unspentOfReferral } from './fold.ts';

/**
 * Holds a user's credit because they have become paid. The unit of work must hold the user's lock, as in all functions
 * of this file.
 *
 * @param since when they began to pay; clamped between the last ledger entry and now (design: rule 8)
 */
export function holdCredit(tx: Unit, user: UserRow, causeId: string, since: Date): UserRow {
  const at = clamped(tx, user, since);
  return append(tx, user, { kind: 'hold', at, causeId }, held(user, at));
}

/**
 * Lets held credit run again because the user is no longer paid.
 *
 * @param endedAt when they stopped paying; clamped between the last ledger entry and now (design: rule 8)
 */
export function resumeCredit(tx: Unit, user: UserRow, causeId: string, endedAt: Date): UserRow {
  const at = clamped(tx, user, endedAt);
  return append(tx, user, { kind: 'resume', at, causeId }, resumed(user, at));
}

/**
 * Grants credit.
 *
 * @param seconds more than 0
 * @param cause the same cause can grant a user credit only once
 * @param referralId the conversion; null for an operator's grant
 */
export function grantCredit(
  tx: Unit,
  user: UserRow,
  seconds: number,
  cause: Cause,
  referralId: string | null = null,
): UserRow {
  tx.afterCommit(() => {
    creditDaysGranted.inc(seconds / DAY_SECONDS);
  });
  return move(tx, user, 'grant', seconds, referralId, cause);
}

/**
 * Takes back what is unspent of a conversion's credit, and returns how much, in seconds. If nothing is left, it writes
 * an entry of 0 seconds, because a later restoration returns exactly what the last reversal took.
 */
export function reverseCredit(tx: Unit, user: UserRow, referralId: string, cause: Cause): number {
  const seconds = unspentOfReferral(ledgerOf(tx, user.id), referralId, momentOf(tx, user));
  move(tx, user, 'reversal', seconds, referralId, cause);
  return seconds;
}

/**
 * Returns exactly what the last reversal of a conversion took, as a grant made now.
 *
 * @returns how much, in seconds
 * @throws Error when there is no such reversal
 */
export function restoreCredit(tx: Unit, user: UserRow, referralId: string, cause: Cause): number {
  const reversal = ledgerOf(tx, user.id).findLast(
    (entry) => entry.kind === 'reversal' && entry.referralId === referralId,
  );
  if (!reversal) throw new Error(`The conversion ${referralId} was never reversed for the user ${user.id}.`);
  move(tx, user, 'restoration', reversal.seconds, referralId, cause);
  return reversal.seconds;
}

/** The loaded ledger, and what this unit of work has appended. */
function ledgerOf(tx: Unit, userId: string): CreditEntry[] {
  const appended = tx.rows.entries.filter((entry) => entry.userId === userId);
  return [...ask(tx, 'ledgers', userId), ...appended];
}

/**
 * The instant of a new entry: now, but never before the last entry. A process with a later `now` may have had the
 * lock first.
 */
function momentOf({ now }: Unit, user: UserRow): Date {
  return later(now, user.creditEntryAt);
}

/** Clamps an instant between the last entry and now, because entries are in order of time. */
function clamped(tx: Unit, user: UserRow, at: Date): Date {
  const latest = momentOf(tx, user);
  const notBefore = later(at, user.creditEntryAt);
  return notBefore > latest ? latest : notBefore;
}

function move(
  tx: Unit,
  user: UserRow,
  kind: 'grant' | 'reversal' | 'restoration',
  seconds: number,
  referralId: string | null,
  cause: Cause,
): UserRow {
  const at = momentOf(tx, user);
  const balance = kind === 'reversal' ? taken(user, at, seconds) : granted(user, at, seconds);
  const change = kind === 'reversal' ? -seconds : seconds;
  writeAudit(tx, cause, { userId: user.id, kind: 'credit', seconds: change });
  return append(tx, user, { kind, at, seconds, referralId, causeId: cause.id }, balance);
}

type NewEntry = Pick<CreditEntry, 'kind' | 'at' | 'causeId'> &
  Partial<Pick<CreditEntry, 'seconds' | 'referralId'>>;

function append({ rows }: Unit, user: UserRow, entry: NewEntry, balance: CreditBalance): UserRow {
  const seq = user.creditEntryCount + 1;
  rows.entries.push({ seconds: 0, referralId: null, ...entry, userId: user.id, seq });
  const after = { ...user, ...balance, creditEntryCount: seq, creditEntryAt: entry.at };
  rows.users.set(user.id, after);
  return after;
}
