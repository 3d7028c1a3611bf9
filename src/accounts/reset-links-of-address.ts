import type { User } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import { isUnclaimed } from './addresses.ts';
import { hashExactly } from './email.ts';

// A reset link mailed to an address lets its owner claim an account that a stranger created with that address (design:
// rule 12). The stranger must not be able to void the link, either by changing the password or by leaving the address
// and signing up again. So such a link stays with the address. All other reset links belong to the account.

/**
 * Ends an account's reset links, except those by which the owner of the address can still claim the account.
 *
 * @param user locked
 */
export async function endResetLinks(tx: Tx, user: User): Promise<void> {
  const keepsMailed = await isUnclaimed(tx, user);
  await tx.resetLink.deleteMany({ where: { userId: user.id, ...(keepsMailed && { mailed: false }) } });
}

/**
 * Ends the reset links of an account that leaves its address. Links by which the owner of the address could have claimed
 * the account wait for the next account that signs up with that address.
 *
 * @param user locked, still with that address
 */
export async function releaseResetLinks(tx: Tx, user: User): Promise<void> {
  if (user.email !== null && (await isUnclaimed(tx, user))) {
    await tx.resetLink.updateMany({
      where: { userId: user.id, mailed: true, used: false, expiresAt: { gt: tx.now } },
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
export async function takeResetLinks(tx: Tx, userId: string, email: string): Promise<void> {
  await tx.resetLink.updateMany({
    where: { addressHash: await hashExactly(tx, email) },
    data: { userId, addressHash: null },
  });
}
