import type { Stripe } from 'stripe';

import type { Prisma } from '../db/generated/client.ts';
import { lockCustomersOf, lockUser } from '../db/lock-user.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { isoText, wholeSeconds } from '../instants.ts';
import { unlessGone } from './missing.ts';
import { isStored } from './stored-answer.ts';

/**
 * Moves what Stripe owes a user's retired customers (credit for unused time, say) to the customer that the next plan is
 * sold to, so that its first invoice uses it. Each balance moves once: its target is chosen under the user's lock, before
 * anything changes at Stripe. After a failure, the next call finishes the move.
 *
 * @param to Stripe's id of the user's customer for new checkouts
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function carryBalances(
  { db, stripe }: { db: Db; stripe: Stripe },
  userId: string,
  to: string,
  now: Date,
): Promise<void> {
  // A target that is gone leaves the balance to `to`.
  for (let round = 1; round <= 2; round += 1) {
    for (const move of await decideMoves(db, userId, to, now)) {
      const { from, target, tries } = move;
      const note = (data: Prisma.CustomerUpdateManyMutationInput): Promise<void> =>
        inTransaction(db, now, async (tx) => {
          await lockCustomersOf(tx, userId);
          const where = { id: from, balanceTo: target, balanceMovedAt: null, balanceTries: tries };
          await tx.customer.updateMany({ where, data });
        });
      try {
        const moved = await moveBalance(stripe, move);
        await note(moved === 'target-gone' ? { balanceTo: null } : { balanceMovedAt: wholeSeconds(now) });
      } catch (error) {
        if (isStored(error)) await note({ balanceTries: tries + 1 });
        throw error;
      }
    }
  }
}

interface Move {
  from: string;
  target: string;
  /** Names this retirement of the customer: an operator can move the customer on and back. */
  mark: string;
  /** Times that Stripe refused it. */
  tries: number;
}

/** Balances still to be moved, in the order in which their customers were retired: one can be the target of an earlier one. */
async function decideMoves(db: Db, userId: string, to: string, now: Date): Promise<Move[]> {
  const unmoved = { userId, deletedAt: null, retiredAt: { not: null }, balanceMovedAt: null };
  if ((await db.customer.count({ where: unmoved })) === 0) return [];
  return inTransaction(db, now, async (tx) => {
    await lockCustomersOf(tx, userId);
    await lockUser(tx, userId);
    // A reset link may have retired it meanwhile.
    const own = await tx.customer.findMany({ where: { userId, deletedAt: null } });
    const ids = own.map(({ id }) => id);
    if (own.some(({ id, retiredAt }) => id === to && retiredAt === null)) {
      // An operator may have moved the target to another account.
      const open = [{ balanceTo: null }, { balanceTo: { notIn: ids } }];
      await tx.customer.updateMany({ where: { ...unmoved, OR: open }, data: { balanceTo: to } });
    }
    const decided = await tx.customer.findMany({
      where: { ...unmoved, balanceTo: { in: ids } },
      orderBy: [{ retiredAt: 'asc' }, { id: 'asc' }],
    });
    return decided.flatMap(({ id: from, balanceTo: target, retiredAt, balanceTries: tries }) =>
      target && retiredAt ? [{ from, target, mark: `${from}-${isoText(retiredAt)}`, tries }] : [],
    );
  });
}

/**
 * Takes a customer's credit and gives it to another one. Stripe forgets idempotency keys after a day, so each half also
 * leaves the mark in its metadata, by which a later call sees what was done.
 * https://docs.stripe.com/billing/customer/balance
 */
async function moveBalance(
  stripe: Stripe,
  { from, target, mark, tries }: Move,
): Promise<'moved' | 'target-gone'> {
  const isMarked = ({ metadata }: Stripe.CustomerBalanceTransaction) => metadata?.['balanceMove'] === mark;
  const metadata = { balanceMove: mark };
  const received = await unlessGone(() => newestTransactions(stripe, target));
  if (!received) return 'target-gone';
  // Before the list: another request may take the credit in between.
  const customer = await unlessGone(() => stripe.customers.retrieve(from));
  if (!customer || customer.deleted) return 'moved';
  const { balance, currency } = customer;
  let taken = (await newestTransactions(stripe, from)).find(isMarked);
  // A negative balance is credit.
  if (!taken && (balance >= 0 || !currency)) return 'moved';
  taken ??= await stripe.customers.createBalanceTransaction(
    from,
    { amount: -balance, currency: currency ?? '', metadata },
    { idempotencyKey: `balance-from-${mark}-${tries}` },
  );
  if (received.some(isMarked)) return 'moved';
  await stripe.customers.createBalanceTransaction(
    target,
    { amount: -taken.amount, currency: taken.currency, metadata },
    { idempotencyKey: `balance-to-${target}-from-${mark}-${tries}` },
  );
  return 'moved';
}

async function newestTransactions(
  stripe: Stripe,
  customer: string,
): Promise<Stripe.CustomerBalanceTransaction[]> {
  return (await stripe.customers.listBalanceTransactions(customer, { limit: 100 })).data;
}
