import type { FastifyRequest } from 'fastify';

import type { User } from '../db/generated/client.ts';
import type { AppContext } from './context.ts';
import { takeOfMailbox } from './limits.ts';

/**
 * Whether one more mail may go to an address: mail is on, and the address is proven or has had fewer than five mails today
 * (design: rule 12). It counts as sent.
 *
 * @param context what the server is built from
 * @param address in lower case
 */
export async function mayMail(
  { config }: AppContext,
  request: FastifyRequest,
  address: string,
  isProven: boolean,
): Promise<boolean> {
  return (
    config.mail !== null && (isProven || (await takeOfMailbox(request, 'mailsToUnprovenMailbox', address)))
  );
}

/** The same, for the address of an account. */
export async function mayMailTo(
  context: AppContext,
  request: FastifyRequest,
  { email, emailProvenAt }: Pick<User, 'email' | 'emailProvenAt'>,
): Promise<boolean> {
  return email !== null && (await mayMail(context, request, email, emailProvenAt !== null));
}
