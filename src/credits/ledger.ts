import { writeAudit } from '../audit.ts';
import type { Cause } from '../audit.ts';
import type { CreditEntry, User } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import { granted, held, resumed, taken } from './balance.ts';
import type { CreditBalance } from './balance.ts';
import { unspentOfReferral } from './fold.ts';
import { later } from '../instants.ts';

/** What a user's row must take on, once the entry is in the ledger. */
export type CreditColumns = CreditBalance & { creditEntryCount: number; creditEntryAt: Date };

/**
 * Credit stands still from now on: the user turns paid. The caller writes the columns together with the tier.
 *
 * @param tx the open transaction
 * @param user the locked user
 * @param causeId what made them paid
 * @returns the columns to write
 */
export async function holdCredit(tx: Tx, user: User, causeId: string): Promise<CreditColumns> {
  const at = momentOf(tx, user);
  return append(tx, user, { kind: 'hold', at, causeId }, held(user, at));
}

/**
 * Held credit runs again: the user ceases to be paid. The caller writes the columns together with the tier.
 *
 * @param tx the open transaction
 * @param user the locked user, whose credit is held
 * @param causeId what ended it
 * @param endedAt when the paid time ended; clamped between the last ledger entry and now (design: rule 8)
 * @returns the columns to write
 */
export async function resumeCredit(
  tx: Tx,
  user: User,
  causeId: string,
  endedAt: Date,
): Promise<CreditColumns> {
  const latest = momentOf(tx, user);
  const notBefore = later(endedAt, user.creditEntryAt);
  const at = notBefore > latest ? latest : notBefore;
  return append(tx, user, { kind: 'resume', at, causeId }, resumed(user, at));
}

/**
 * Grants credit: to one side of a conversion, or by an operator.
 *
 * @param tx the open transaction
 * @param user the locked user
 * @param seconds how much, more than 0
 * @param cause who grants it and why; one cause grants a user once
 * @param referralId the conversion it belongs to; null for none
 * @returns the user's row with the grant in it
 */
export async function grantCredit(
  tx: Tx,
  user: User,
  seconds: number,
  cause: Cause,
  referralId: string | null,
): Promise<User> {
  const at = momentOf(tx, user);
  return move(tx, user, { kind: 'grant', at, seconds, referralId }, granted(user, at, seconds), cause);
}

/**
 * Takes back what is unspent of a conversion's credit. Nothing left is an entry too, of 0 seconds: a later
 * restoration gives back exactly what the last reversal took.
 *
 * @param tx the open transaction
 * @param user the locked user
 * @param referralId the conversion
 * @param cause what reversed it
 * @returns the user's row without that credit
 */
export async function reverseCredit(tx: Tx, user: User, referralId: string, cause: Cause): Promise<User> {
  const at = momentOf(tx, user);
  const seconds = unspentOfReferral(await ledgerOf(tx, user.id), referralId, at);
  return move(tx, user, { kind: 'reversal', at, seconds, referralId }, taken(user, at, seconds), cause);
}

/**
 * Gives back exactly what the last reversal of a conversion took, as a grant of its own moment.
 *
 * @param tx the open transaction
 * @param user the locked user
 * @param referralId the conversion
 * @param cause what ended the reversal
 * @returns the user's row with that credit
 */
export async function restoreCredit(tx: Tx, user: User, referralId: string, cause: Cause): Promise<User> {
  const reversal = await tx.creditEntry.findFirstOrThrow({
    where: { userId: user.id, referralId, kind: 'reversal' },
    orderBy: { seq: 'desc' },
  });
  const at = momentOf(tx, user);
  const { seconds } = reversal;
  return move(tx, user, { kind: 'restoration', at, seconds, referralId }, granted(user, at, seconds), cause);
}

/**
 * @param tx the open transaction
 * @param userId whose ledger
 * @returns all its entries, in order
 */
export async function ledgerOf(tx: Tx, userId: string): Promise<CreditEntry[]> {
  return tx.creditEntry.findMany({ where: { userId }, orderBy: { seq: 'asc' } });
}

/**
 * The instant at which an entry is made: now, but never before the last entry. Another process that took its `now` later
 * can have been first at the lock.
 */
function momentOf(tx: Tx, user: User): Date {
  return later(tx.now, user.creditEntryAt);
}

interface Move {
  kind: 'grant' | 'reversal' | 'restoration';
  at: Date;
  seconds: number;
  referralId: string | null;
}

async function move(tx: Tx, user: User, entry: Move, balance: CreditBalance, cause: Cause): Promise<User> {
  const columns = await append(tx, user, { ...entry, causeId: cause.id }, balance);
  const seconds = entry.kind === 'reversal' ? -entry.seconds : entry.seconds;
  await writeAudit(tx, user.id, cause, { kind: 'credit', seconds });
  return tx.user.update({ where: { id: user.id }, data: columns });
}

type NewEntry = Pick<CreditEntry, 'kind' | 'at' | 'causeId'> & Partial<Pick<Move, 'seconds' | 'referralId'>>;

async function append(tx: Tx, user: User, entry: NewEntry, balance: CreditBalance): Promise<CreditColumns> {
  const seq = user.creditEntryCount + 1;
  await tx.creditEntry.create({ data: { userId: user.id, seq, seconds: 0, ...entry } });
  return { ...balance, creditEntryCount: seq, creditEntryAt: entry.at };
}
