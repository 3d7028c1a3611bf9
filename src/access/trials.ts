import type { Subscription, User } from '../db/generated/client.ts';
import type { UserRow } from '../db/rows.ts';
import type { Db } from '../db/transaction.ts';
import { ask, countTrialsByAnother } from '../db/unit-of-work.ts';
import type { Unit } from '../db/unit-of-work.ts';

/**
 * A trial is offered once per address (design: rule 11): to an account that had none, and whose address is not that of
 * another account which had one.
 *
 * @param db the database
 * @param user who buys
 * @returns whether their checkout may offer a trial
 */
export async function mayTry(db: Db, user: User): Promise<boolean> {
  const own = await db.subscription.count({
    where: { trialEnd: { not: null }, counted: true, customer: { userId: user.id } },
  });
  return own === 0 && !(await wasTriedByAnother(db, user));
}

/**
 * Decides about trials when they start, under the user's lock: a checkout that was opened earlier can be completed after
 * another account of the same address had its trial. Such a trial gives no access; the plan starts with its first payment.
 *
 * @param tx the unit of work, which holds the user's lock
 * @param user the user
 * @param subscriptions all of theirs
 * @returns the same, with what was decided now
 */
export function admitTrials(
  tx: Unit,
  user: UserRow,
  subscriptions: readonly Subscription[],
): readonly Subscription[] {
  if (!subscriptions.some(isUndecided)) return subscriptions;
  return subscriptions.map((one) => {
    if (!isUndecided(one)) return one;
    const decided = decide(tx, user, one);
    tx.rows.subscriptions.set(one.id, decided);
    return decided;
  });
}

function isUndecided({ status, counts, trialHash, trialRefused }: Subscription): boolean {
  return counts && status === 'trialing' && trialHash === null && !trialRefused;
}

function decide(tx: Unit, user: UserRow, subscription: Subscription): Subscription {
  const { byAnother, own } = ask(tx, 'trials', user.id);
  if (byAnother > 0) return { ...subscription, trialRefused: true };
  // Somebody with two trials of their own was given the second one by an operator, at Stripe.
  const again =
    own > 0 || [...tx.rows.subscriptions.values()].some((one) => one.trialHash === user.emailHash);
  return again ? subscription : { ...subscription, trialHash: user.emailHash };
}

async function wasTriedByAnother(db: Db, { id, emailHash }: User): Promise<boolean> {
  return (await countTrialsByAnother(db, id, emailHash)) > 0;
}
