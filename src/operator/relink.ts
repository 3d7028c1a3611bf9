import { randomUUID } from 'node:crypto';

import { Stripe } from 'stripe';

import { ensureCustomerRow } from '../access/customers.ts';
import { anyLiveAndKnown, isOver } from '../access/live.ts';
import { followMove, moveCustomer } from '../access/move-customer.ts';
import { subscriptionsOf } from '../access/subscriptions.ts';
import type { AuditRow, User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { inUnit } from '../db/unit-of-work.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { PlainError } from '../plain-error.ts';
import { programmeOf } from '../programme.ts';
import { settleBalances } from '../stripe/carry-balance.ts';
import { closeCheckout } from '../stripe/close-checkout.ts';
import { endFirstPayment, expire } from '../stripe/end-payments.ts';
import { unlessGone } from '../stripe/missing.ts';
import { sentence } from '../wording.ts';
import { describeChange } from './audit.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { accountOf, nameOf } from './who.ts';

/** A change that follows from a move. */
type Consequence = Pick<AuditRow, 'userId' | 'kind' | 'fromTier' | 'toTier' | 'seconds'>;

/**
 * `relink`: moves a Stripe customer that was linked to the wrong account, or to none, with everything that follows for
 * both accounts, in one transaction. Before that, it settles balance moves from and to the customer at Stripe.
 * Afterwards it closes open checkouts there, and ends unapproved first payments that would make a second subscription.
 * Nothing else would end them if the command died after the transaction, so when the account has the customer already, only
 * this last step is done.
 *
 * @param note the reason, for the audit of both accounts
 * @throws PlainError when there is no such customer or account, the account was deleted, or the customer's
 *   credit at Stripe may have been moved only halfway, and that cannot be settled
 */
export async function relink(
  context: CommandContext,
  customerId: string,
  who: string,
  note: string | undefined,
): Promise<CommandResult> {
  const { db, config, stripe, now } = context;
  const to = await accountOf(context, who);
  const known = await db.customer.findUnique({ where: { id: customerId }, select: { userId: true } });
  if (!to.deletedAt && known?.userId !== to.id) await settleMoves(context, customerId);
  const cause = { id: randomUUID(), actor: 'operator' as const, ...(note !== undefined && { note }) };
  const programme = programmeOf(config);
  const { fromId, changes, closed } = await inTransaction(db, now, async (tx) => {
    // Ask before the load, because on PostgreSQL it inserts an unknown customer to lock it.
    if ((await tx.customer.count({ where: { id: customerId } })) === 0) {
      throw new PlainError(
        `No customer has the id ${customerId}. Check the id; \`reconcile\` fetches what never arrived from Stripe.`,
        'not_found',
      );
    }
    const wants = { customers: [customerId], users: [to.id] };
    const { owner, isLive } = await inUnit(tx, programme, wants, (unit) => {
      const { customer, userId } = movable(unit, customerId, to);
      if (userId !== to.id) moveCustomer(unit, customer, userId, to.id, cause);
      const subscriptions = [...unit.rows.subscriptions.values()];
      return {
        owner: userId,
        isLive: anyLiveAndKnown(subscriptions.filter((one) => one.customerId === customerId)),
      };
    });
    if (owner === to.id) return { fromId: owner, changes: [], closed: [] };
    const closed = [
      // A payment in it would still go to the customer that was moved.
      owner === null ? null : await closeCheckout(tx, owner),
      // A payment in it would be for a second subscription.
      isLive ? await closeCheckout(tx, to.id) : null,
    ];
    const users = owner === null ? [to.id] : [owner, to.id];
    const followed = await inUnit(tx, programme, { customers: [customerId], users }, (unit) => {
      followMove(unit, owner, to.id, cause);
      return unit.rows.audit;
    });
    return { fromId: owner, changes: followed, closed };
  });
  const sessionIds = closed.filter((id) => id !== null);
  const open = await leftOver(sessionIds, (id) => closeNow(stripe, id));
  const second = await secondSubscriptions(db, to.id);
  const mayPayTwice = await leftOver(second, (id) => endNow(stripe, id));
  const stopped = second.filter((id) => !mayPayTwice.includes(id));
  const { text, json } = await report(db, { customerId, fromId, to, changes });
  const hadIt = fromId === to.id;
  return {
    text: [
      hadIt && second.length === 0 ? `${text} Nothing was changed.` : text,
      ...(open.length > 0 ? [STILL_OPEN] : []),
      ...stopped.map(wasStopped),
      ...mayPayTwice.map(notStopped),
    ].join('\n'),
    json: {
      ...json,
      // The run that moved the customer queued the checkouts to close. A server closes them.
      checkoutsClosed: hadIt ? null : open.length === 0,
      firstPaymentsStopped: stopped,
      mayPayTwice,
    },
  };
}

/**
 * Settles balance moves from and to a customer (`settleBalances`) before it gets another owner.
 *
 * @throws PlainError when that fails
 */
async function settleMoves({ db, config, stripe, now }: CommandContext, id: string): Promise<void> {
  const unsettled = await db.customer.count({
    where: {
      // Its credit may have been taken even if it has no target now: an earlier one may have had another currency.
      OR: [{ id }, { balanceTo: id }],
      retiredAt: { not: null },
      balanceMovedAt: null,
    },
  });
  if (unsettled === 0) return;
  let why = config.sandbox
    ? 'Start the server, so that its sandbox can be asked, then try again.'
    : 'Set STRIPE_API_KEY, then try again.';
  try {
    if (stripe && (await settleBalances({ db, stripe }, id, now))) return;
    if (stripe)
      why =
        "The customer that was to get the credit is gone, or has another currency. Try again after the account's next checkout, which gives the credit to the customer that it uses.";
  } catch (error) {
    if (!(error instanceof Stripe.errors.StripeError)) throw error;
    why = `${sentence(error.message)} Try again later.`;
  }
  throw new PlainError(
    `${id} was not moved, because credit may have been taken from it or given to it at Stripe, and that could not be settled. ${why}`,
  );
}

const STILL_OPEN = 'The open checkout could not be closed at Stripe yet. A server will try again.';

const wasStopped = (id: string): string =>
  `The first payment of ${id} can no longer go through: this account has a live subscription.`;

const notStopped = (id: string): string =>
  `This account may pay twice: the first payment of ${id} could not be stopped. At Stripe, void its open invoice, or refund it if it has been paid; then cancel the subscription.`;

/** Used after the commit, while the operator waits. A server retries what is queued; the report names the rest. */
const AFTER_COMMIT: Stripe.RequestOptions = { timeout: 5_000, maxNetworkRetries: 0 };

/** Closes a checkout at Stripe without waiting for the server's outbox, which tries again if this fails. */
async function closeNow(stripe: Stripe | null, sessionId: string): Promise<boolean> {
  return stripe !== null && (await expire(stripe, sessionId, AFTER_COMMIT));
}

/** Subscriptions that would be a user's second if the bank approved their first payment. */
async function secondSubscriptions(db: Db, userId: string): Promise<string[]> {
  const subscriptions = await subscriptionsOf(db, userId);
  if (!anyLiveAndKnown(subscriptions)) return [];
  return subscriptions.filter(({ status, counts }) => counts && status === 'incomplete').map(({ id }) => id);
}

/** Ends a subscription whose first payment awaits the bank's approval. False when it may still be paid, or has been. */
async function endNow(stripe: Stripe | null, id: string): Promise<boolean> {
  if (!stripe) return false;
  const subscription = await unlessGone(() => stripe.subscriptions.retrieve(id, {}, AFTER_COMMIT));
  if (subscription?.status === 'incomplete')
    return (await endFirstPayment(stripe, subscription, AFTER_COMMIT)) === 'ended';
  return subscription === null || isOver(subscription.status);
}

/** Returns the ids for which the work was not done, or Stripe failed. */
async function leftOver(ids: readonly string[], work: (id: string) => Promise<boolean>): Promise<string[]> {
  const left: string[] = [];
  for (const id of ids) {
    try {
      if (!(await work(id))) left.push(id);
    } catch (error) {
      if (!(error instanceof Stripe.errors.StripeError)) throw error;
      left.push(id);
    }
  }
  return left;
}

/**
 * The customer and whom it belongs to, under their locks.
 *
 * @throws PlainError when it cannot be moved to this account
 */
function movable(unit: Unit, customerId: string, to: User) {
  const customer = ensureCustomerRow(unit, customerId);
  const user = unit.rows.users.get(to.id);
  if (!user || user.deletedAt)
    throw new PlainError(`The account ${to.id} was deleted, so no customer can be linked to it.`);
  return { customer, userId: customer.userId };
}

async function report(
  db: Db,
  moved: { customerId: string; fromId: string | null; to: User; changes: readonly Consequence[] },
) {
  const { customerId, fromId, to, changes } = moved;
  const ids = [to.id, ...changes.map(({ userId }) => userId), ...(fromId === null ? [] : [fromId])];
  const users = await db.user.findMany({ where: { id: { in: ids } }, select: { id: true, email: true } });
  const byId = new Map(users.map((user) => [user.id, user]));
  const from = fromId === null ? null : (byId.get(fromId) ?? null);
  const before = from ? `It belonged to ${nameOf(from)} before.` : 'It belonged to nobody before.';
  const whose =
    fromId === to.id
      ? `${customerId} already belongs to ${nameOf(to)}.`
      : `${customerId} now belongs to ${nameOf(to)}. ${before}`;
  const lines = changes.map((change) => {
    const user = byId.get(change.userId);
    return `${user ? nameOf(user) : change.userId}: ${describeChange(change)}`;
  });
  return {
    text: [whose, ...lines].join('\n'),
    json: {
      customerId,
      from,
      to: { id: to.id, email: to.email },
      changes: changes.map(({ userId, kind, fromTier, toTier, seconds }) => ({
        id: userId,
        email: byId.get(userId)?.email ?? null,
        kind,
        fromTier,
        toTier,
        seconds,
      })),
    },
  };
}
