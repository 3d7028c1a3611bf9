import type { Subscription, User } from '../db/generated/client.ts';
import { isUniqueViolation, LostRace } from '../db/transaction.ts';
import type { Db, Tx } from '../db/transaction.ts';

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
 * @param tx the open transaction
 * @param user the locked user
 * @param subscriptions all of theirs
 * @returns the same, with what was decided now
 */
export async function admitTrials(
  tx: Tx,
  user: User,
  subscriptions: readonly Subscription[],
): Promise<Subscription[]> {
  const decided: Subscription[] = [];
  for (const one of subscriptions) decided.push(isUndecided(one) ? await decide(tx, user, one) : one);
  return decided;
}

function isUndecided({ status, counts, trialHash, trialRefused }: Subscription): boolean {
  return counts && status === 'trialing' && trialHash === null && !trialRefused;
}

async function decide(tx: Tx, user: User, subscription: Subscription): Promise<Subscription> {
  const { id } = subscription;
  if (await wasTriedByAnother(tx, user)) {
    return tx.subscription.update({ where: { id }, data: { trialRefused: true } });
  }
  // Somebody with two trials of their own was given the second one by an operator, at Stripe.
  const own = await tx.subscription.count({ where: { trialHash: user.emailHash } });
  if (own > 0) return subscription;
  try {
    return await tx.subscription.update({ where: { id }, data: { trialHash: user.emailHash } });
  } catch (error) {
    throw isUniqueViolation(error) ? new LostRace(error) : error;
  }
}

async function wasTriedByAnother(db: Db | Tx, { id, emailHash }: User): Promise<boolean> {
  const tried = await db.subscription.count({
    where: {
      trialEnd: { not: null },
      counted: true,
      trialRefused: false,
      customer: {
        user: { id: { not: id }, OR: [{ emailHash }, { formerAddresses: { some: { emailHash } } }] },
      },
    },
  });
  return tried > 0;
}
