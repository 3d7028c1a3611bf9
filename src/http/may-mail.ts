import type { FastifyRequest } from 'fastify';

import type { User } from '../db/generated/client.ts';
import type { AppContext } from './context.ts';
import { takeOfMailbox } from './limits.ts';

/**
 * Whether one more mail may be sent to an address. Mail must be on, and an unproven address gets at most five
 * a day (design: rule 12). A call that allows the mail counts it.
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

/** The same for an account's address. */
export async function mayMailTo(
  context: AppContext,
  request: FastifyRequest,
  { email, emailProvenAt }: Pick<User, 'email' | 'emailProvenAt'>,
): Promise<boolean> {
  return email !== null && (await mayMail(context, request, email, emailProvenAt !== null));
}
