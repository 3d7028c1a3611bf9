import type { User } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import { isUnclaimed } from './addresses.ts';
import { hashExactly } from './email.ts';

// Whoever owns an address claims an account that a stranger created with it by a reset link mailed there (design: rule
// 12). Such a link belongs to the address, so the stranger cannot void it: neither by another password, nor by leaving the
// address and signing up with it again. All other reset links belong to the account.

/**
 * Ends an account's reset links, except those by which the owner of the address can still claim it.
 *
 * @param user locked
 */
export async function endLinks(tx: Tx, user: User): Promise<void> {
  const keepsMailed = await isUnclaimed(tx, user);
  await tx.resetLink.deleteMany({ where: { userId: user.id, ...(keepsMailed && { mailed: false }) } });
}

/**
 * Ends the reset links of an account that leaves its address. Those by which the owner of the address could have
 * claimed it wait for the address's next account.
 *
 * @param user locked, still with that address
 */
export async function leaveLinks(tx: Tx, user: User): Promise<void> {
  if (user.email !== null && (await isUnclaimed(tx, user))) {
    await tx.resetLink.updateMany({
      where: { userId: user.id, mailed: true, used: false },
      data: { userId: null, addressHash: await hashExactly(tx, user.email) },
    });
  }
  await tx.resetLink.deleteMany({ where: { userId: user.id } });
}

/**
 * Gives a new account the reset links that were mailed to its address when another account had it.
 *
 * @param email in lower case
 */
export async function takeLinks(tx: Tx, userId: string, email: string): Promise<void> {
  await tx.resetLink.updateMany({
    where: { addressHash: await hashExactly(tx, email) },
    data: { userId, addressHash: null },
  });
}
