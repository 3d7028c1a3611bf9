import type { FastifyReply, FastifyRequest } from 'fastify';

import type { User } from '../../db/generated/client.ts';
import { tryPassword } from '../limits.ts';

export const NO_PASSWORD = 'Enter your current password.';
export const WRONG_PASSWORD = 'This is not your current password.';

/** Like `tryPassword`, for a logged-in user. */
export async function tryCurrentPassword<T>(
  request: FastifyRequest,
  reply: FastifyReply,
  { email }: User,
  compare: () => Promise<T>,
  isFailure: (outcome: T) => boolean,
): Promise<T | undefined> {
  // A logged-in user always has an address: a tombstone has no sessions.
  return tryPassword(request, reply, email ?? '', compare, isFailure);
}
