import type { User } from '../db/generated/client.ts';
import { lockUser } from '../db/lock-user.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { hashEmail } from './email.ts';

/** A migration leaves this setting when addresses must be hashed again. */
const TO_REHASH = 'rehashAddresses';

/** Accounts per transaction: few enough that other writers need not wait long. */
const PAGE = 100;

/** Addresses that an earlier version hashed differently: at Gmail with their dots, and without what follows a leading +. */
const CHANGED = [
  { email: { endsWith: '@gmail.com' } },
  { email: { endsWith: '@googlemail.com' } },
  { email: { startsWith: '+' } },
];

/**
 * Hashes the addresses in CHANGED again, once, after a migration that changes how addresses are hashed. If two accounts
 * turn out to have the same address, only one referral and one trial get the new hash: those of the account that had it
 * already, otherwise those of the older account. The others keep the old hash, and nothing is taken back. A former
 * address gets the new hash only if it has the same old hash as the current one. All other former addresses, and those
 * of deleted accounts, are no longer known, so their hashes stay.
 *
 * @param db migrated
 */
export async function rehashAddresses(db: Db, now: Date): Promise<void> {
  if (!(await db.setting.findUnique({ where: { key: TO_REHASH } }))) return;
  const users = await db.user.findMany({
    where: { OR: CHANGED },
    orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
    select: { id: true, email: true, emailHash: true },
  });
  for (let from = 0; from < users.length; from += PAGE) {
    await inTransaction(db, now, async (tx) => {
      // Locks the setting: servers that start together take turns.
      const { count } = await tx.setting.updateMany({ where: { key: TO_REHASH }, data: { key: TO_REHASH } });
      if (count > 0) for (const user of users.slice(from, from + PAGE)) await rehash(tx, user);
    });
  }
  await db.setting.deleteMany({ where: { key: TO_REHASH } });
}

async function rehash(
  tx: Tx,
  { id, email, emailHash: old }: Pick<User, 'id' | 'email' | 'emailHash'>,
): Promise<void> {
  if (email === null) return;
  const emailHash = await hashEmail(tx, email);
  if (emailHash === old) return;
  // If another server has changed the address meanwhile, it has hashed it as well.
  if ((await lockUser(tx, id))?.email !== email) return;
  await tx.user.update({ where: { id }, data: { emailHash } });
  // An owner who removed a dot from the address and put it back has both hashes.
  const isKnown = (await tx.formerAddress.count({ where: { userId: id, emailHash } })) > 0;
  const former = { where: { userId: id, emailHash: old } };
  if (isKnown) await tx.formerAddress.deleteMany(former);
  else await tx.formerAddress.updateMany({ ...former, data: { emailHash } });
  if ((await tx.referral.count({ where: { referredHash: emailHash } })) === 0) {
    await tx.referral.updateMany({
      where: { referredId: id, referredHash: old },
      data: { referredHash: emailHash },
    });
  }
  if ((await tx.subscription.count({ where: { trialHash: emailHash } })) === 0) {
    await tx.subscription.updateMany({
      where: { trialHash: old, customer: { userId: id } },
      data: { trialHash: emailHash },
    });
  }
}
