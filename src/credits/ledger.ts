import { writeAudit } from '../audit.ts';
import type { Cause } from '../audit.ts';
import { Prisma } from '../db/generated/client.ts';
import type { CreditEntry, User } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import { granted, held, resumed, taken } from './balance.ts';
import type { CreditBalance } from './balance.ts';
import { unspentOfReferral } from './fold.ts';
import { DAY_SECONDS, later } from '../instants.ts';
import { creditDaysGranted } from '../metrics.ts';

/** What a user's row must take on, once the entry is in the ledger. */
export type CreditColumns = CreditBalance & { creditEntryCount: number; creditEntryAt: Date };

/**
 * Credit stands still: the user turns paid. The caller writes the columns together with the tier.
 *
 * @param tx the open transaction
 * @param user the locked user
 * @param causeId what made them paid
 * @param since when they began to pay; clamped between the last ledger entry and now (design: rule 8)
 * @returns the columns to write
 */
export async function holdCredit(tx: Tx, user: User, causeId: string, since: Date): Promise<CreditColumns> {
  const at = clamped(tx, user, since);
  return appendOne(tx, { user, kind: 'hold', at, causeId, balance: held(user, at) });
}

/**
 * Held credit runs again: the user ceases to be paid. The caller writes the columns together with the tier.
 *
 * @param tx the open transaction
 * @param user the locked user, whose credit is held
 * @param causeId what ended it
 * @param endedAt when they stopped paying; clamped between the last ledger entry and now (design: rule 8)
 * @returns the columns to write
 */
export async function resumeCredit(
  tx: Tx,
  user: User,
  causeId: string,
  endedAt: Date,
): Promise<CreditColumns> {
  const at = clamped(tx, user, endedAt);
  return appendOne(tx, { user, kind: 'resume', at, causeId, balance: resumed(user, at) });
}

/**
 * Grants credit to one user: by an operator.
 *
 * @param tx the open transaction
 * @param user the locked user
 * @param seconds how much, more than 0
 * @param cause who grants it and why; one cause grants a user once
 * @returns the user's row with the grant in it
 */
export async function grantCredit(tx: Tx, user: User, seconds: number, cause: Cause): Promise<User> {
  const grant = grantOf(tx, user, seconds, null);
  await write(tx, [grant], cause);
  return { ...user, ...columnsAfter(grant) };
}

/**
 * Grants a conversion's credit: the same to both sides.
 *
 * @param tx the open transaction
 * @param users both of them, locked; the buyer alone when the referrer is gone
 * @param seconds how much, more than 0
 * @param cause who grants it and why; one cause grants a user once
 * @param referralId the conversion
 */
export async function grantConversionCredit(
  tx: Tx,
  users: readonly User[],
  seconds: number,
  cause: Cause,
  referralId: string,
): Promise<void> {
  const grants = users.map((user) => grantOf(tx, user, seconds, referralId));
  await write(tx, grants, cause);
}

/**
 * Takes back what is unspent of a conversion's credit. Nothing left is an entry too, of 0 seconds: a later
 * restoration gives back exactly what the last reversal took.
 *
 * @param tx the open transaction
 * @param user the locked user
 * @param referralId the conversion
 * @param cause what reversed it
 */
export async function reverseCredit(tx: Tx, user: User, referralId: string, cause: Cause): Promise<void> {
  const at = momentOf(tx, user);
  const seconds = unspentOfReferral(await ledgerOf(tx, user.id), referralId, at);
  const balance = taken(user, at, seconds);
  await write(tx, [{ user, kind: 'reversal', at, seconds, referralId, balance }], cause);
}

/**
 * Gives back exactly what the last reversal of a conversion took, as a grant of its own moment.
 *
 * @param tx the open transaction
 * @param user the locked user
 * @param referralId the conversion
 * @param cause what ended the reversal
 */
export async function restoreCredit(tx: Tx, user: User, referralId: string, cause: Cause): Promise<void> {
  const reversal = await tx.creditEntry.findFirstOrThrow({
    where: { userId: user.id, referralId, kind: 'reversal' },
    orderBy: { seq: 'desc' },
  });
  const at = momentOf(tx, user);
  const { seconds } = reversal;
  const balance = granted(user, at, seconds);
  await write(tx, [{ user, kind: 'restoration', at, seconds, referralId, balance }], cause);
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

/** An instant that we were told, between the last entry and now: entries are in the order of their instants. */
function clamped(tx: Tx, user: User, at: Date): Date {
  const latest = momentOf(tx, user);
  const notBefore = later(at, user.creditEntryAt);
  return notBefore > latest ? latest : notBefore;
}

interface Move {
  user: User;
  kind: 'grant' | 'reversal' | 'restoration';
  at: Date;
  seconds: number;
  referralId: string | null;
  /** What is left with it. */
  balance: CreditBalance;
}

function grantOf(tx: Tx, user: User, seconds: number, referralId: string | null): Move {
  const at = momentOf(tx, user);
  return { user, kind: 'grant', at, seconds, referralId, balance: granted(user, at, seconds) };
}

/** Writes moves of credit of one cause, at most one a user: ledger, audit, and the users' columns. */
async function write(tx: Tx, moves: readonly Move[], cause: Cause): Promise<void> {
  await append(
    tx,
    moves.map((entry) => ({ ...entry, causeId: cause.id })),
  );
  await writeAudit(
    tx,
    cause,
    moves.map(({ user, kind, seconds }) => {
      return { userId: user.id, kind: 'credit', seconds: kind === 'reversal' ? -seconds : seconds };
    }),
  );
  for (const entry of moves) {
    const { creditUntil, creditHeldAt, creditEntryCount, creditEntryAt } = columnsAfter(entry);
    await tx.$executeRaw`
      UPDATE "User" SET "creditUntil" = ${creditUntil}, "creditHeldAt" = ${creditHeldAt},
        "creditEntryCount" = ${creditEntryCount}, "creditEntryAt" = ${creditEntryAt}
      WHERE "id" = ${entry.user.id}`;
    if (entry.kind === 'grant') {
      tx.afterCommit(() => {
        creditDaysGranted.inc(entry.seconds / DAY_SECONDS);
      });
    }
  }
}

async function appendOne(tx: Tx, entry: NewEntry): Promise<CreditColumns> {
  const columns = columnsAfter(entry);
  await append(tx, [entry]);
  return columns;
}

type NewEntry = Pick<Move, 'user' | 'balance'> &
  Pick<CreditEntry, 'kind' | 'at' | 'causeId'> &
  Partial<Pick<Move, 'seconds' | 'referralId'>>;

/** Appends entries to the ledgers of different users. */
async function append(tx: Tx, entries: readonly NewEntry[]): Promise<void> {
  const rows = entries.map(({ user, at, kind, seconds = 0, referralId = null, causeId }) => {
    const seq = user.creditEntryCount + 1;
    return Prisma.sql`(${user.id}, ${seq}, ${at}, ${kind}, ${seconds}, ${referralId}, ${causeId})`;
  });
  await tx.$executeRaw`
    INSERT INTO "CreditEntry" ("userId", "seq", "at", "kind", "seconds", "referralId", "causeId")
    VALUES ${Prisma.join(rows)}`;
}

function columnsAfter({ user, balance, at }: Pick<NewEntry, 'user' | 'balance' | 'at'>): CreditColumns {
  return { ...balance, creditEntryCount: user.creditEntryCount + 1, creditEntryAt: at };
}
