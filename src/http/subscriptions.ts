import type { FastifyRequest } from 'fastify';

import { subscriptionsOf } from '../access/subscriptions.ts';
import type { Subscription, User } from '../db/generated/client.ts';
import type { AppContext } from './context.ts';

/** Reads the user's subscriptions, once per request. */
export async function readSubscriptions(
  { db }: Pick<AppContext, 'db'>,
  request: FastifyRequest,
  user: User,
): Promise<readonly Subscription[]> {
  request.subscriptions ??= await subscriptionsOf(db, user.id);
  return request.subscriptions;
}

declare module 'fastify' {
  interface FastifyRequest {
    /** The user's subscriptions, once they have been read. */
    subscriptions: readonly Subscription[] | null;
  }
}
