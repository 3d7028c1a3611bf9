import { randomUUID } from 'node:crypto';

import type { User } from '../db/generated/client.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { addSeconds } from '../instants.ts';
import { captureReferral } from '../referrals/capture.ts';
import { newReferralCode } from '../referrals/codes.ts';
import { hasTooManySpellings, reserveAddress } from './addresses.ts';
import { proofMail } from './change-address.ts';
import { hashEmail } from './email.ts';
import { queueMail } from './mail-limit.ts';
import { hashPassword } from './passwords.ts';
import { takeResetLinks } from './reset-links-of-address.ts';
import { closeSession, openSession } from './sessions.ts';

export interface SignUp {
  /** In lower case. */
  email: string;
  password: string;
  /** The referral code they came with. */
  code: string | null;
  /** The token of the browser's previous session, which ends. */
  oldToken: string | null;
  /** Whether mail is on. If so, an email that proves the address is sent there, unless `queueMail` refuses. */
  mail: boolean;
}

/** A double click submits a form twice within this time, s. */
const SENT_TWICE_SECONDS = 60;

/**
 * Creates an account, its referral and its first session in one transaction.
 *
 * @param input validated
 * @returns the session token; or why no account was created
 */
export async function signUp(
  db: Db,
  secret: string,
  input: SignUp,
  now: Date,
): Promise<{ token: string } | 'address-taken' | 'too-many-spellings'> {
  const passwordHash = await hashPassword(input.password);
  return inTransaction(db, now, async (tx) => {
    if ((await reserveAddress(tx, input.email)) !== null) return 'address-taken';
    if (await hasTooManySpellings(tx, input.email, null)) return 'too-many-spellings';
    const user = await createUser(tx, input.email, passwordHash);
    await captureReferral(tx, user, input.code);
    if (input.oldToken !== null) await closeSession(tx, secret, input.oldToken);
    const token = await openSession(tx, secret, user.id);
    if (input.mail) await queueMail(tx, user, proofMail({ address: input.email, isChange: false }));
    return { token };
  });
}

/**
 * Whether an account is so new that this may be the same form again. A double click submits it twice and the
 * browser shows the second answer, so that request must log in.
 *
 * @param email the address that has an account, in lower case
 */
export async function wasJustMade(db: Db, email: string, now: Date): Promise<boolean> {
  const since = addSeconds(now, -SENT_TWICE_SECONDS);
  return (await db.user.count({ where: { email, createdAt: { gt: since } } })) > 0;
}

/**
 * Creates an account with tier `free` and without credit, and gives it the reset links that wait for its address.
 *
 * @param email in lower case
 */
export async function createUser(tx: Tx, email: string, passwordHash: string): Promise<User> {
  const user = await tx.user.create({
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
  await takeResetLinks(tx, user.id, email);
  return user;
}
