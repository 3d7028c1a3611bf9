import { ask, countTrialsByAnother } from '../db/answers.ts';
import type { Subscription, User } from '../db/generated/client.ts';
import type { UserRow } from '../db/rows.ts';
import type { Db } from '../db/transaction.ts';
import type { Unit } from '../db/unit-of-work.ts';

/**
 * Whether a checkout may offer this user a trial. A trial is offered once per address (design: rule 11): neither this
 * account nor another one with the same address may have had one. A trial released by a claim does not count, and a refused
 * one counts only against its own account.
 */
export async function isTrialAvailable(db: Db, user: User): Promise<boolean> {
  const own = await db.subscription.count({
    where: {
      trialEnd: { not: null },
      counted: true,
      customer: { userId: user.id },
      trialReleased: false,
    },
  });
  return own === 0 && (await countTrialsByAnother(db, user.id, user.emailHash)) === 0;
}

/**
 * Decides, under the user's lock, whether a trial that has just started gives access. A checkout opened earlier can be
 * completed after another account with the same address had its trial, and a payment link can give this account a second
 * trial. Such a trial gives no access; the plan begins with its first payment.
 *
 * @returns the subscriptions with the decisions applied
 */
export function admitTrials(
  tx: Unit,
  user: UserRow,
  subscriptions: readonly Subscription[],
): readonly Subscription[] {
  const undecided = subscriptions.filter(isUndecided);
  const began = ({ createdAt }: Subscription): number => createdAt?.getTime() ?? 0;
  // The oldest first, so that of two trials of one account the later one counts as the second.
  for (const one of undecided.toSorted((a, b) => began(a) - began(b)))
    tx.rows.subscriptions.set(one.id, decide(tx, user, one));
  return subscriptions.map((one) => tx.rows.subscriptions.get(one.id) ?? one);
}

function isUndecided({ status, counts, trialHash, trialRefused, trialReleased }: Subscription): boolean {
  return counts && status === 'trialing' && trialHash === null && !trialRefused && !trialReleased;
}

function decide(tx: Unit, user: UserRow, subscription: Subscription): Subscription {
  const { byAnother, held } = ask(tx, 'trials', user.id);
  const given = [...tx.rows.subscriptions.values()].filter(({ trialHash }) => trialHash !== null);
  if (byAnother > 0 || given.some((one) => isOfAnother(tx, user, one)))
    return { ...subscription, trialRefused: true };
  // A second trial counts only on a customer that we created, where an operator gave it at Stripe, or on one that an
  // operator moved here (`relink`). A payment link with a trial would give one each time. A checkout of ours that was
  // open before the trial of a payment link still gives one, and no checkout offers a third.
  if (hadTrial(tx, user, subscription) && tx.rows.customers.get(subscription.customerId)?.ours !== true)
    return { ...subscription, trialRefused: true };
  const again = held > 0 || given.some(({ trialHash }) => trialHash === user.emailHash);
  return again ? subscription : { ...subscription, trialHash: user.emailHash };
}

/** Whether another of the user's subscriptions has, or had, a trial that counts: neither refused nor released. */
function hadTrial({ rows }: Unit, { id }: UserRow, subscription: Subscription): boolean {
  return [...rows.subscriptions.values()].some((one) => {
    const isOwn = rows.customers.get(one.customerId)?.userId === id;
    const began =
      one.trialHash !== null ||
      (one.trialEnd !== null && one.status !== 'trialing' && one.counted && !one.trialRefused);
    return isOwn && one.id !== subscription.id && began && !one.trialReleased;
  });
}

/**
 * Whether the subscription belongs to another account that has or had this address. It may have got its trial in this
 * batch.
 */
function isOfAnother({ rows }: Unit, { id, emailHash }: UserRow, { customerId }: Subscription): boolean {
  const owner = rows.users.get(rows.customers.get(customerId)?.userId ?? '');
  if (owner === undefined || owner.id === id) return false;
  return owner.emailHash === emailHash || owner.formerHashes.includes(emailHash);
}
