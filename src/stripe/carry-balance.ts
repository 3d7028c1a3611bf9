import { Stripe } from 'stripe';

import type { Prisma } from '../db/generated/client.ts';
import { lockCustomersOf, lockUser } from '../db/lock-user.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { isoText, wholeSeconds } from '../instants.ts';
import { noteCustomerMissing, unlessGone } from './missing.ts';
import { isStored } from './stored-answer.ts';

/**
 * Moves the credit at Stripe of a user's retired customers (for unused time, say) to the customer that the next plan is
 * sold to, so that its first invoice uses it. Each balance moves once: its target is chosen under the user's lock, before
 * anything changes at Stripe. After a failure, the next call finishes the move.
 *
 * @param to Stripe's id of the user's customer for new checkouts
 * @throws StripeError when Stripe cannot be reached or answers with an error
 */
export async function carryBalances(
  { db, stripe }: { db: Db; stripe: Stripe },
  userId: string,
  to: string,
  now: Date,
): Promise<void> {
  // The second round gives `to` what an earlier target could not take, because it is gone or has another currency.
  for (let round = 1; round <= 2; round += 1) {
    for (const move of await decideMoves(db, userId, to, now)) {
      const { from, target, tries } = move;
      const note = (data: Prisma.CustomerUpdateManyMutationInput): Promise<void> =>
        inTransaction(db, now, async (tx) => {
          await lockCustomersOf(tx, userId);
          const where = { id: from, balanceTo: target, balanceMovedAt: null, balanceTries: tries };
          await tx.customer.updateMany({ where, data });
        });
      const moved = await moveBalance(stripe, move, () => note({ balanceTries: tries + 1 }));
      if (moved === 'target-gone') await noteCustomerMissing(db, target, now);
      else if (moved === 'moved') await note({ balanceMovedAt: wholeSeconds(now) });
      // The second round, or a later checkout, chooses the target anew.
      else await note({ balanceTo: null });
    }
  }
}

interface Move {
  from: string;
  target: string;
  /** Identifies this retirement: a customer that an operator moved away and back can be retired again. */
  mark: string;
  /** How many errors Stripe may have stored as its answer. */
  tries: number;
}

/**
 * Balances still to be moved, in the order in which their customers were retired: a customer can be the target of one that
 * was retired before it.
 */
async function decideMoves(db: Db, userId: string, to: string, now: Date): Promise<Move[]> {
  const unmoved = { userId, deletedAt: null, retiredAt: { not: null }, balanceMovedAt: null };
  if ((await db.customer.count({ where: unmoved })) === 0) return [];
  return inTransaction(db, now, async (tx) => {
    await lockCustomersOf(tx, userId);
    await lockUser(tx, userId);
    // A reset link may have retired it meanwhile.
    const own = await tx.customer.findMany({ where: { userId, deletedAt: null, missingAt: null } });
    const ids = own.map(({ id }) => id);
    if (own.some(({ id, retiredAt }) => id === to && retiredAt === null)) {
      // The target may be gone, or an operator may have moved it to another account.
      const open = [{ balanceTo: null }, { balanceTo: { notIn: ids } }];
      await tx.customer.updateMany({ where: { ...unmoved, OR: open }, data: { balanceTo: to } });
    }
    const decided = await tx.customer.findMany({
      where: { ...unmoved, balanceTo: { in: ids } },
      orderBy: [{ retiredAt: 'asc' }, { id: 'asc' }],
    });
    return decided.flatMap(({ id: from, balanceTo: target, retiredAt, balanceTries: tries }) =>
      target && retiredAt ? [{ from, target, mark: markOf(from, retiredAt), tries }] : [],
    );
  });
}

/**
 * Takes a customer's credit and gives it to another one. Stripe forgets idempotency keys after a day, so each half also
 * leaves the mark in its metadata, by which a later call sees what was done.
 * https://docs.stripe.com/billing/customer/balance
 *
 * @param noteRefusal called when Stripe may have stored an error as its answer to a half: the next try needs a new key
 * @returns `kept` when the target has another currency and nothing was taken yet; `stuck` when it has another currency
 *   and the credit was taken
 */
async function moveBalance(
  stripe: Stripe,
  { from, target, mark, tries }: Move,
  noteRefusal: () => Promise<void>,
): Promise<'moved' | 'kept' | 'stuck' | 'target-gone'> {
  const add = (customer: string, amount: number, currency: string, half: string) =>
    stripe.customers
      .createBalanceTransaction(
        customer,
        { amount, currency, metadata: { balanceMove: mark } },
        { idempotencyKey: `balance-${half}-${mark}-${tries}` },
      )
      .catch(async (error: unknown) => {
        // With another amount, the key was used a moment ago by a request that is moving this balance.
        const isTaken = error instanceof Stripe.errors.StripeIdempotencyError;
        if (isStored(error) && !isTaken) await noteRefusal();
        throw error;
      });
  const receiver = await unlessGone(() => stripe.customers.retrieve(target));
  if (!receiver || receiver.deleted) return 'target-gone';
  // Read the balance before the transactions: if another request takes the credit in between, the list shows it.
  const customer = await unlessGone(() => stripe.customers.retrieve(from));
  if (!customer || customer.deleted) return 'moved';
  const { balance, currency } = customer;
  let taken = await markedTransaction(stripe, from, mark);
  // A negative balance is credit.
  if (!taken && (balance >= 0 || !currency)) return 'moved';
  if (taken && (await markedTransaction(stripe, target, mark))) return 'moved';
  if (receiver.currency && receiver.currency !== (taken?.currency ?? currency))
    return taken ? 'stuck' : 'kept';
  taken ??= await add(from, -balance, currency ?? '', 'from');
  await add(target, -taken.amount, taken.currency, `to-${target}-from`);
  return 'moved';
}

/**
 * Settles balance moves from and to a customer that is about to get another owner. If its credit has been taken, the move is
 * finished, because no checkout of the new owner would finish it. If it has been given another customer's credit, that move
 * is noted as done; otherwise the old owner's next checkout would give the same credit again. Any other move to it is left
 * to that checkout, which chooses another target. Any other move from it does not happen.
 *
 * @returns false when the customer's credit has been taken and could not be given to the other one
 * @throws StripeError when Stripe cannot be reached or answers with an error
 */
export async function settleBalances(
  parts: { db: Db; stripe: Stripe },
  customerId: string,
  now: Date,
): Promise<boolean> {
  const { db, stripe } = parts;
  const unmoved = { retiredAt: { not: null }, balanceMovedAt: null };
  for (const { id, retiredAt } of await db.customer.findMany({
    where: { ...unmoved, balanceTo: customerId },
  })) {
    const mark = retiredAt && markOf(id, retiredAt);
    if (mark && (await unlessGone(() => markedTransaction(stripe, customerId, mark))))
      await inTransaction(db, now, async (tx) => {
        const where = { ...unmoved, id, balanceTo: customerId };
        await tx.customer.updateMany({ where, data: { balanceMovedAt: tx.now } });
      });
  }
  if (!(await isHalfMoved(parts, customerId))) return true;
  const { userId, balanceTo } = await db.customer.findUniqueOrThrow({ where: { id: customerId } });
  if (userId !== null && balanceTo !== null) await carryBalances(parts, userId, balanceTo, now);
  return !(await isHalfMoved(parts, customerId));
}

/** Whether what Stripe owed a retired customer was taken from it, and is still to be given to another one. */
async function isHalfMoved({ db, stripe }: { db: Db; stripe: Stripe }, customerId: string): Promise<boolean> {
  const { retiredAt, balanceMovedAt } = await db.customer.findUniqueOrThrow({ where: { id: customerId } });
  if (!retiredAt || balanceMovedAt) return false;
  const mark = markOf(customerId, retiredAt);
  return Boolean(await unlessGone(() => markedTransaction(stripe, customerId, mark)));
}

function markOf(customerId: string, retiredAt: Date): string {
  return `${customerId}-${isoText(retiredAt)}`;
}

/** The customer's balance transaction that bears this mark, among its newest 100: its half of the move. */
async function markedTransaction(stripe: Stripe, customer: string, mark: string) {
  const { data } = await stripe.customers.listBalanceTransactions(customer, { limit: 100 });
  return data.find(({ metadata }) => metadata?.['balanceMove'] === mark);
}
