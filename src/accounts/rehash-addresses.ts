import type { User } from '../db/generated/client.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { hashEmail } from './email.ts';

/** A migration leaves this setting when a provider's addresses must be hashed again. */
const TO_REHASH = 'rehashAddresses';

/**
 * Hashes Gmail addresses again, once, after the migration that ignores their dots. If two accounts turn out
 * to have the same address, the first keeps its referral and trial. Former addresses and those of deleted
 * accounts are no longer known, so their hashes stay.
 * @param db migrated
 */
export async function rehashAddresses(db: Db, now: Date): Promise<void> {
  if (!(await db.setting.findUnique({ where: { key: TO_REHASH } }))) return;
  await inTransaction(db, now, async (tx) => {
    // Deleting the setting claims the work: several servers may start at once.
    const { count } = await tx.setting.deleteMany({ where: { key: TO_REHASH } });
    if (count === 0) return;
    const atGmail = [{ email: { endsWith: '@gmail.com' } }, { email: { endsWith: '@googlemail.com' } }];
    const users = await tx.user.findMany({
      where: { OR: atGmail },
      orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
    });
    for (const user of users) await rehash(tx, user);
  });
}

async function rehash(tx: Tx, { id, email, emailHash: old }: User): Promise<void> {
  const emailHash = await hashEmail(tx, email ?? '');
  if (emailHash === old) return;
  await tx.user.update({ where: { id }, data: { emailHash } });
  // An owner who removed a dot from the address and put it back has both hashes.
  const isKnown = (await tx.formerAddress.count({ where: { userId: id, emailHash } })) > 0;
  const former = { where: { userId: id, emailHash: old } };
  if (isKnown) await tx.formerAddress.deleteMany(former);
  else await tx.formerAddress.updateMany({ ...former, data: { emailHash } });
  const isTaken = await tx.referral.count({ where: { referredHash: emailHash } });
  if (isTaken === 0) {
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
