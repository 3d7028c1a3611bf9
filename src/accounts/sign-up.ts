import { randomUUID } from 'node:crypto';

import type { User } from '../db/generated/client.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction, isUniqueViolation } from '../db/transaction.ts';
import { addSeconds } from '../instants.ts';
import { queueNow } from '../outbox/queue.ts';
import { captureReferral } from '../referrals/capture.ts';
import { newReferralCode } from '../referrals/codes.ts';
import { hashEmail } from './email.ts';
import { hashPassword } from './passwords.ts';
import { closeSession, openSession } from './sessions.ts';

export interface SignUp {
  /** In lower case. */
  email: string;
  password: string;
  /** The referral code they came with. */
  code: string | null;
  /** The token of the session that the browser had before; it ends. */
  oldToken: string | null;
  /** Whether a link that proves the address may be mailed there. */
  mail: boolean;
}

/** A form that is sent twice arrives within this time, s. */
const SENT_TWICE_SECONDS = 60;

/**
 * Makes an account, its referral and its first session, in one transaction.
 *
 * @param db the database
 * @param secret SESSION_SECRET
 * @param input what was asked for, checked
 * @param now the instant, UTC
 * @returns the session's token, or null when the address has an account already
 */
export async function signUp(db: Db, secret: string, input: SignUp, now: Date): Promise<string | null> {
  const passwordHash = await hashPassword(input.password);
  try {
    return await inTransaction(db, now, async (tx) => {
      const user = await createUser(tx, input.email, passwordHash);
      await captureReferral(tx, user, input.code);
      if (input.mail) await queueNow(tx, [{ kind: 'mail.prove-address', userId: user.id, data: null }]);
      if (input.oldToken !== null) await closeSession(tx, secret, input.oldToken);
      return openSession(tx, secret, user.id);
    });
  } catch (error) {
    if (isUniqueViolation(error)) return null;
    throw error;
  }
}

/**
 * A double click sends the form twice, and the browser shows the answer to the second: that one must log in.
 *
 * @param db the database
 * @param email the address that has an account, in lower case
 * @param now the instant, UTC
 * @returns whether the account was made so recently that this can be the same form
 */
export async function wasJustMade(db: Db, email: string, now: Date): Promise<boolean> {
  const since = addSeconds(now, -SENT_TWICE_SECONDS);
  return (await db.user.count({ where: { email, createdAt: { gt: since } } })) > 0;
}

/**
 * Makes an account, free and without credit.
 *
 * @param tx the open transaction
 * @param email its address, in lower case
 * @param passwordHash the hash of its password
 * @returns its row
 */
export async function createUser(tx: Tx, email: string, passwordHash: string): Promise<User> {
  return tx.user.create({
    data: {
      id: randomUUID(),
      email,
      emailHash: await hashEmail(tx, email),
      passwordHash,
      code: await newReferralCode(tx),
      tier: 'free',
      creditEntryCount: 0,
      createdAt: tx.now,
    },
  });
}
