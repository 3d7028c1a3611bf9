import type { User } from '../db/generated/client.ts';
import { lockUser } from '../db/lock-user.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { claimedUser, provenBy } from '../outbox/links.ts';
import type { ToProve } from '../outbox/links.ts';
import { hasPaidAtStripe } from '../stripe/has-paid.ts';
import { isUnclaimed, reserveAddress } from './addresses.ts';
import { switchAddress } from './change-address.ts';
import type { KeptSession } from './change-address.ts';
import { cancelSubscriptions, eraseAccount, thinRest } from './delete-account.ts';
import type { EndedAtStripe } from './delete-account.ts';
import { queueMail } from './mail-limit.ts';
import { letIn, shutOut } from './shut-out.ts';
import { retryOnConflict, stopPayments } from './stop-payments.ts';
import type { PaymentParts } from './stop-payments.ts';

/** What a link proves. */
export interface Proof extends ToProve {
  user: User;
  /** It is the account's own address, and already proven. */
  isDone: boolean;
  /**
   * Who has the new address of a pending change. An `unclaimed` account loses it to the proof and is deleted;
   * a `claimed` one keeps it.
   */
  holder: 'none' | 'unclaimed' | 'claimed';
}

/** Why an address was not proven. */
export type ProofRefusal =
  | 'link-gone'
  | 'address-taken'
  | 'payments-not-set-up'
  | 'payment-pending'
  | 'conflict';

/** Returns what a link proves; null when the link is invalid or no longer works. */
export async function readProof(db: Db, secret: string, token: string, now: Date): Promise<Proof | null> {
  const userId = claimedUser(token);
  const user = userId === null ? null : await db.user.findUnique({ where: { id: userId } });
  const toProve = user && provenBy(secret, token, user, now);
  if (!user || !toProve) return null;
  const found = toProve.isChange ? await db.user.findUnique({ where: { email: toProve.address } }) : null;
  const holder = found ? ((await isUnclaimed(db, found)) ? 'unclaimed' : 'claimed') : 'none';
  return { ...toProve, user, isDone: !toProve.isChange && user.emailProvenAt !== null, holder };
}

/**
 * Uses a link that proves an address: the account's own, or the pending one, which then takes effect. An unclaimed
 * account that has the pending address is shut out first (see `shutOut`).
 *
 * @param parts used to delete an unclaimed account that has the pending address
 * @param kept the session that stays when the address changes
 * @param mail whether mail is on. If so, the old address of a change is notified, unless `queueMail` refuses
 * @returns why it was refused, or null when the address is proven, now or before
 * @throws StripeError when Stripe cannot be reached or refuses to end what the other account has there
 */
export async function proveAddress(
  parts: PaymentParts,
  kept: KeptSession,
  token: string,
  mail: boolean,
  now: Date,
): Promise<ProofRefusal | null> {
  return retryOnConflict(() => tryProof(parts, kept, token, mail, now));
}

async function tryProof(
  parts: PaymentParts,
  kept: KeptSession,
  token: string,
  mail: boolean,
  now: Date,
): Promise<ProofRefusal | null> {
  const { db } = parts;
  const proof = await readProof(db, kept.secret, token, now);
  if (!proof) return 'link-gone';
  const { user: prover, isChange, address } = proof;
  if (!isChange) return inTransaction(db, now, (tx) => proveOwn(tx, kept.secret, prover.id, token));

  const holder =
    proof.holder === 'unclaimed' ? await db.user.findUnique({ where: { email: address } }) : null;
  if (holder && !(await shutOutHolder(db, holder.id, address, now))) return 'conflict';
  const stopped = holder && (await stopPayments(parts, holder.id));
  if (stopped?.state === 'pending') return 'payment-pending';
  const ended =
    holder && stopped?.state === 'none'
      ? await cancelSubscriptions(parts, holder.id, stopped.checkout)
      : null;
  if (typeof ended === 'string') return ended;
  // An account that was paid for is not unclaimed, even if we have not heard of the payment yet. A trial may have been
  // charged just before it was cancelled.
  if (holder && (stopped?.state === 'paid' || (await hasPaidAtStripe(parts, holder.id)))) {
    await inTransaction(db, now, (tx) => letIn(tx, holder.id));
    return 'address-taken';
  }
  const outcome = await inTransaction(db, now, async (tx): Promise<Freed> => {
    const other = await reserveAddress(tx, address);
    // Lock users in order of their ids, to avoid deadlocks.
    const locked = new Map<string, User>();
    for (const id of [prover.id, ...(other === null ? [] : [other])].toSorted()) {
      const row = await lockUser(tx, id);
      if (row) locked.set(id, row);
    }
    const user = locked.get(prover.id);
    const toProve = user && provenBy(kept.secret, token, user, tx.now);
    if (!toProve) return 'link-gone';
    if (!toProve.isChange) return null;
    const freed = await freeAddress(tx, locked.get(other ?? ''), address, ended);
    if (typeof freed === 'string') return freed;
    await switchAddress(tx, user, { email: address, isProven: true }, kept);
    if (mail && user.email !== null)
      await queueMail(tx, user, { kind: 'mail.address-changed', data: null, address: user.email });
    return freed;
  });
  if (outcome === null || typeof outcome === 'string') return outcome;
  await thinRest(db, outcome.erased, now);
  return null;
}

/** Why an address could not be freed, or the account that was erased for it; null when it was free. */
type Freed = ProofRefusal | { erased: string } | null;

async function proveOwn(tx: Tx, secret: string, userId: string, token: string): Promise<ProofRefusal | null> {
  const user = await lockUser(tx, userId);
  const toProve = user && provenBy(secret, token, user, tx.now);
  if (!toProve || toProve.isChange) return 'link-gone';
  if (user.emailProvenAt === null)
    await tx.user.update({ where: { id: userId }, data: { emailProvenAt: tx.now, shutOutUntil: null } });
  return null;
}

/**
 * Shuts out the unclaimed account that has the address. Returns false, with nothing changed, when the account no longer
 * has the address or has been claimed.
 */
async function shutOutHolder(db: Db, userId: string, address: string, now: Date): Promise<boolean> {
  return inTransaction(db, now, async (tx) => {
    const holder = await lockUser(tx, userId);
    if (holder?.email !== address || !(await isUnclaimed(tx, holder))) return false;
    await shutOut(tx, userId);
    return true;
  });
}

/** Frees the address to be proven, by erasing the unclaimed account that has it. */
async function freeAddress(
  tx: Tx,
  holder: User | undefined,
  address: string,
  ended: EndedAtStripe | null,
): Promise<Freed> {
  // Nobody has the address, or the account left it while we waited for its lock.
  if (holder?.email !== address) return null;
  if (!(await isUnclaimed(tx, holder))) {
    // It may have been paid for after it was shut out.
    await letIn(tx, holder.id);
    return 'address-taken';
  }
  return (await eraseAccount(tx, holder, ended)) ? { erased: holder.id } : 'conflict';
}
