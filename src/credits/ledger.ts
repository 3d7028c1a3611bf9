import { writeAudit } from '../audit.ts';
import type { Cause } from '../audit.ts';
import type { CreditEntry } from '../db/generated/client.ts';
import type { UserRow } from '../db/rows.ts';
import { ask } from '../db/unit-of-work.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { DAY_SECONDS, later } from '../instants.ts';
import { creditDaysGranted } from '../metrics.ts';
import { granted, held, resumed, taken } from './balance.ts';
import type { CreditBalance } from './balance.ts';
import { unspentOfReferral } from './fold.ts';

/**
 * Credit stands still: the user turns paid.
 *
 * @param tx the unit of work, which holds the user's lock
 * @param user the user
 * @param causeId what made them paid
 * @param since when they began to pay; clamped between the last ledger entry and now (design: rule 8)
 * @returns the user as they are now
 */
export function holdCredit(tx: Unit, user: UserRow, causeId: string, since: Date): UserRow {
  const at = clamped(tx, user, since);
  return append(tx, user, { kind: 'hold', at, causeId }, held(user, at));
}

/**
 * Held credit runs again: the user ceases to be paid.
 *
 * @param tx the unit of work, which holds the user's lock
 * @param user the user, whose credit is held
 * @param causeId what ended it
 * @param endedAt when they stopped paying; clamped between the last ledger entry and now (design: rule 8)
 * @returns the user as they are now
 */
export function resumeCredit(tx: Unit, user: UserRow, causeId: string, endedAt: Date): UserRow {
  const at = clamped(tx, user, endedAt);
  return append(tx, user, { kind: 'resume', at, causeId }, resumed(user, at));
}

/**
 * Grants credit.
 *
 * @param tx the unit of work, which holds the user's lock
 * @param user the user
 * @param seconds how much, more than 0
 * @param cause who grants it and why; one cause grants a user once
 * @param referralId the conversion that it is for; null: an operator grants it
 * @returns the user as they are now
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
 * Takes back what is unspent of a conversion's credit. Nothing left is an entry too, of 0 seconds: a later
 * restoration gives back exactly what the last reversal took.
 *
 * @param tx the unit of work, which holds the user's lock
 * @param user the user
 * @param referralId the conversion
 * @param cause what reversed it
 * @returns how much, s
 */
export function reverseCredit(tx: Unit, user: UserRow, referralId: string, cause: Cause): number {
  const seconds = unspentOfReferral(ledgerOf(tx, user.id), referralId, momentOf(tx, user));
  move(tx, user, 'reversal', seconds, referralId, cause);
  return seconds;
}

/**
 * Gives back exactly what the last reversal of a conversion took, as a grant of its own moment.
 *
 * @param tx the unit of work, which holds the user's lock
 * @param user the user
 * @param referralId the conversion
 * @param cause what ended the reversal
 * @returns how much, s
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

/** What is loaded of a ledger, and what this unit of work has appended. */
function ledgerOf(tx: Unit, userId: string): CreditEntry[] {
  const appended = tx.rows.entries.filter((entry) => entry.userId === userId);
  return [...ask(tx, 'ledgers', userId), ...appended];
}

/**
 * The instant at which an entry is made: now, but never before the last entry. Another process that took its `now` later
 * can have been first at the lock.
 */
function momentOf({ now }: Unit, user: UserRow): Date {
  return later(now, user.creditEntryAt);
}

/** An instant that we were told, between the last entry and now: entries are in the order of their instants. */
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
  writeAudit(tx, cause, [{ userId: user.id, kind: 'credit', seconds: change }]);
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
