import type { FastifyInstance, FastifyRequest } from 'fastify';

import { hasPaid, isFirstOfMailbox } from '../accounts/addresses.ts';
import { canonicalAddress } from '../accounts/email.ts';
import type { User } from '../db/generated/client.ts';
import { RESERVED_FOR_SECURITY } from '../outbox/unproven-limit.ts';
import type { AppContext } from './context.ts';
import { giveBackToMailbox, takeForMailbox } from './limits.ts';

/**
 * Whether one more email may be sent to an address. Mail must be on, and a person whose address is unproven
 * gets at most five a day (design: rule 12), counting all +tags together. A call that allows the email counts it.
 * `still-true.ts` checks the five again when the email is sent, if the account still has the address.
 *
 * @param address in lower case
 * @param mayUseReserve whether it may be one of the day's last emails, which are reserved for security
 */
export async function mayMail(
  { config }: AppContext,
  request: FastifyRequest,
  address: string,
  isProven: boolean,
  mayUseReserve = false,
): Promise<boolean> {
  if (config.mail === null || isProven) return config.mail !== null;
  const mailbox = canonicalAddress(address);
  const reserved = mayUseReserve ? 0 : RESERVED_FOR_SECURITY;
  return take(request, 'mailsToUnprovenMailbox', mailbox, reserved);
}

/**
 * Whether one more email may be sent to an address that an account wants to change to. Only a few of the day's emails
 * may be of this kind: otherwise a stranger could use up the day's emails, and the owner would not get the one that
 * proves the address.
 */
export async function mayMailChange(
  context: AppContext,
  request: FastifyRequest,
  address: string,
): Promise<boolean> {
  const isLeft = await take(request, 'changeMailsToMailbox', canonicalAddress(address), 0);
  return isLeft && (await mayMail(context, request, address, false));
}

async function take(
  request: FastifyRequest,
  name: CountedMail['name'],
  mailbox: string,
  reserved: number,
): Promise<boolean> {
  const isLeft = await takeForMailbox(request, name, mailbox, reserved);
  if (isLeft) (request.mailsCounted ??= []).push({ name, mailbox });
  return isLeft;
}

/** `mayMail` for an account's own address. */
export async function mayMailTo(
  context: AppContext,
  request: FastifyRequest,
  { email, emailProvenAt }: Pick<User, 'email' | 'emailProvenAt'>,
  mayUseReserve: boolean,
): Promise<boolean> {
  return email !== null && (await mayMail(context, request, email, emailProvenAt !== null, mayUseReserve));
}

/**
 * `mayMailTo` with the reserve, if the account may use it.
 *
 * @param mayUseReserve is asked only when nothing else is left, because the answer takes a long time for a mailbox
 *   with many accounts
 */
export async function mayMailFromReserve(
  context: AppContext,
  request: FastifyRequest,
  user: User,
  mayUseReserve: () => Promise<boolean>,
): Promise<boolean> {
  if (context.config.mail === null || user.email === null) return false;
  if (user.emailProvenAt !== null) return true;
  const { left } = await request.server.limits.mailsToUnprovenMailbox.look(canonicalAddress(user.email));
  if (left === 0) return false;
  return (
    (left > RESERVED_FOR_SECURITY && (await mayMailTo(context, request, user, false))) ||
    ((await mayUseReserve()) && (await mayMailTo(context, request, user, true)))
  );
}

/**
 * Whether we may send a notice about a change that a thief could have made. A paid account that is the first of its
 * mailbox may use the reserved emails, because it is worth stealing. Call it where attempts are limited, because it
 * can read all accounts of the mailbox: inside `tryPassword`, or after `takeForNetwork`.
 */
export async function mayNotify(context: AppContext, request: FastifyRequest, user: User): Promise<boolean> {
  const { db } = context;
  return mayMailFromReserve(
    context,
    request,
    user,
    async () => (await hasPaid(db, user.id, null)) && (await isFirstOfMailbox(db, user)),
  );
}

interface CountedMail {
  name: 'mailsToUnprovenMailbox' | 'changeMailsToMailbox';
  mailbox: string;
}

/** Gives back what `mayMail` and `mayMailChange` counted for a request that queued no mail. */
export async function uncountMails(request: FastifyRequest): Promise<void> {
  const counted = request.mailsCounted ?? [];
  request.mailsCounted = null;
  for (const { name, mailbox } of counted) await giveBackToMailbox(request, name, mailbox);
}

/**
 * Counts no emails for requests that fail, because they queue none. Otherwise anybody could use up the emails
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
    /** The emails that `mayMail` and `mayMailChange` counted for this request. */
    mailsCounted: CountedMail[] | null;
  }
}
