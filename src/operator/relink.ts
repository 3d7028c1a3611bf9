import { randomUUID } from 'node:crypto';

import { Stripe } from 'stripe';

import { anyLive } from '../access/live.ts';
import { followMove, moveCustomer } from '../access/move-customer.ts';
import { subscriptionsOf } from '../access/subscriptions.ts';
import type { AuditRow, Subscription, User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { inUnit } from '../db/unit-of-work.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { closeCheckout } from '../stripe/close-checkout.ts';
import { endUnfinished, expire } from '../stripe/end-payments.ts';
import { PlainError } from '../plain-error.ts';
import { programmeOf } from '../programme.ts';
import { describeChange } from './audit.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { accountOf, nameOf } from './who.ts';

/** A change that follows from a move. */
type Consequence = Pick<AuditRow, 'userId' | 'kind' | 'fromTier' | 'toTier' | 'seconds'>;

/**
 * `relink`: moves a Stripe customer that was linked to the wrong account, or to none, with everything that follows for
 * both accounts, in one transaction.
 *
 * @param note the reason, for the audit of both accounts
 * @throws PlainError when there is no such customer or account, the account was deleted, or it has the customer already
 */
export async function relink(
  context: CommandContext,
  customerId: string,
  who: string,
  note: string | undefined,
): Promise<CommandResult> {
  const { db, config, stripe, now } = context;
  const to = await accountOf(context, who);
  const cause = { id: randomUUID(), actor: 'operator' as const, ...(note !== undefined && { note }) };
  const programme = programmeOf(config);
  const { fromId, changes, closed } = await inTransaction(db, now, async (tx) => {
    const wants = { customers: [customerId], users: [to.id] };
    const { owner, isLive } = await inUnit(tx, programme, wants, (unit) => {
      const { customer, userId } = movable(unit, customerId, to);
      moveCustomer(unit, customer, userId, to.id, cause);
      const subscriptions = [...unit.rows.subscriptions.values()];
      return {
        owner: userId,
        isLive: anyLive(subscriptions.filter((one) => one.customerId === customerId)),
      };
    });
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
  const isClosed = await unlessStripeFails(() => closeNow(stripe, sessionIds));
  const second = await secondSubscriptions(db, to.id);
  const isEnded = await unlessStripeFails(() => endNow(context, second));
  const { text, json } = await report(db, { customerId, fromId, to, changes });
  const ids = second.map(({ id }) => id).join(', ');
  return {
    text: [text, ...(isClosed ? [] : [STILL_OPEN]), ...(isEnded ? [] : [stillPending(ids)])].join('\n'),
    json: { ...json, checkoutsClosed: isClosed, toCancelAtStripe: isEnded ? [] : second.map(({ id }) => id) },
  };
}

const STILL_OPEN = 'The open checkout could not be closed at Stripe yet. A server will try again.';

const stillPending = (ids: string): string =>
  `A first payment still awaits its bank's approval, and would make this account pay twice. Cancel it at Stripe: ${ids}.`;

/** How long Stripe may take to close a checkout, ms. The move is committed by then. */
const TIMEOUT_MS = 5_000;

/** Closes checkouts at Stripe without waiting for the server's outbox, which tries again if this fails. */
async function closeNow(stripe: Stripe | null, sessionIds: readonly string[]): Promise<boolean> {
  for (const id of sessionIds) {
    if (!stripe) return false;
    await expire(stripe, id, { timeout: TIMEOUT_MS, maxNetworkRetries: 0 });
  }
  return true;
}

/** Subscriptions that an approval of their first payment would make a user's second ones. */
async function secondSubscriptions(db: Db, userId: string): Promise<Subscription[]> {
  const subscriptions = await subscriptionsOf(db, userId);
  if (!anyLive(subscriptions)) return [];
  return subscriptions.filter(({ status, counts }) => counts && status === 'incomplete');
}

/** Ends first payments that await the bank's approval. False when one is left. */
async function endNow(
  { stripe, config }: CommandContext,
  subscriptions: readonly Subscription[],
): Promise<boolean> {
  for (const customer of new Set(subscriptions.map(({ customerId }) => customerId))) {
    if (!stripe || (await endUnfinished(stripe, customer, config.stripe.products)) === 'pending')
      return false;
  }
  return true;
}

/** False when Stripe refuses or cannot be reached. */
async function unlessStripeFails(work: () => Promise<boolean>): Promise<boolean> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Stripe.errors.StripeError)) throw error;
    return false;
  }
}

/**
 * The customer and whom it belongs to, under their locks.
 *
 * @throws PlainError when it cannot be moved to this account
 */
function movable({ rows }: Unit, customerId: string, to: User) {
  const customer = rows.customers.get(customerId);
  // PostgreSQL has inserted an empty row to lock it.
  const isKnown =
    customer &&
    (customer.userId !== null ||
      customer.deletedAt !== null ||
      [...rows.subscriptions.values()].some((one) => one.customerId === customerId));
  if (!isKnown) {
    throw new PlainError(
      `No customer has the id ${customerId}. Check the id; \`reconcile\` fetches what never arrived from Stripe.`,
      'not_found',
    );
  }
  const user = rows.users.get(to.id);
  if (!user || user.deletedAt)
    throw new PlainError(`The account ${to.id} was deleted, so no customer can be linked to it.`);
  if (customer.userId === to.id) throw new PlainError(`${customerId} already belongs to ${nameOf(to)}.`);
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
  const before = from ? ` It belonged to ${nameOf(from)} before.` : ' It belonged to nobody before.';
  const lines = changes.map((change) => {
    const user = byId.get(change.userId);
    return `${user ? nameOf(user) : change.userId}: ${describeChange(change)}`;
  });
  return {
    text: [`${customerId} now belongs to ${nameOf(to)}.${before}`, ...lines].join('\n'),
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
