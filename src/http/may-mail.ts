import type { FastifyInstance, FastifyRequest } from 'fastify';

import { personOf } from '../accounts/email.ts';
import type { User } from '../db/generated/client.ts';
import type { AppContext } from './context.ts';
import { giveBackToMailbox, takeOfMailbox } from './limits.ts';

/**
 * Of the mails a day to an unproven address, this many are kept for links that reset the password of one account (see
 * `isFirstOfMailbox`). Otherwise a stranger who signs up with variants of the address could keep its owner out.
 */
const KEPT_FOR_RESETS = 2;

/**
 * Whether one more mail may be sent to an address. Mail must be on, and a person whose address is unproven
 * gets at most five a day (design: rule 12), counting all +tags together. A call that allows the mail counts it.
 * @param address in lower case
 * @param kept how many of the day's mails must be left afterwards; 0 for the mails that are kept
 */
export async function mayMail(
  { config }: AppContext,
  request: FastifyRequest,
  address: string,
  isProven: boolean,
  kept = KEPT_FOR_RESETS,
): Promise<boolean> {
  if (config.mail === null || isProven) return config.mail !== null;
  const mailbox = personOf(address);
  const isLeft = await takeOfMailbox(request, 'mailsToUnprovenMailbox', mailbox, kept);
  if (isLeft) (request.mailsCounted ??= []).push(mailbox);
  return isLeft;
}

/** The same for an account's address. */
export async function mayMailTo(
  context: AppContext,
  request: FastifyRequest,
  { email, emailProvenAt }: Pick<User, 'email' | 'emailProvenAt'>,
  kept = KEPT_FOR_RESETS,
): Promise<boolean> {
  return email !== null && (await mayMail(context, request, email, emailProvenAt !== null, kept));
}

/** Gives back what `mayMail` counted for a request that queued no mail. */
export async function uncountMails(request: FastifyRequest): Promise<void> {
  const mailboxes = request.mailsCounted ?? [];
  request.mailsCounted = null;
  for (const mailbox of mailboxes) await giveBackToMailbox(request, 'mailsToUnprovenMailbox', mailbox);
}

/**
 * Counts no mails for requests that fail, because they queue none. Otherwise anybody could use up the mails
 * of somebody else's address, and its owner would never see one.
 */
export function countOnlySentMails(app: FastifyInstance): void {
  app.decorateRequest('mailsCounted', null);
  app.addHook('onSend', async function uncountMailsOfFailure(request, reply) {
    if (reply.statusCode >= 400) await uncountMails(request);
  });
}

declare module 'fastify' {
  interface FastifyRequest {
    /** The mailboxes of the mails that `mayMail` counted for this request. */
    mailsCounted: string[] | null;
  }
}
