import { randomUUID } from 'node:crypto';

import type { User } from '../db/generated/client.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction, isUniqueViolation } from '../db/transaction.ts';
import { captureReferral } from '../referrals/capture.ts';
import { newReferralCode } from '../referrals/codes.ts';
import { hashEmail } from './email.ts';
import { hashPassword } from './passwords.ts';
import { openSession } from './sessions.ts';

export interface SignUp {
  /** In lower case. */
  email: string;
  password: string;
  /** The referral code they came with. */
  code: string | null;
}

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
      return openSession(tx, secret, user.id);
    });
  } catch (error) {
    if (isUniqueViolation(error)) return null;
    throw error;
  }
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
