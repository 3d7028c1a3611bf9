import type { FastifyInstance } from 'fastify';

import type { Subscription } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { isInvitationOpen } from '../referrals/capture.ts';
import type { AppContext } from './context.ts';
import { setFlash } from './cookies.ts';
import { followInvitation } from './visitor.ts';

/** Whether to remind a user of the invitation that they signed up with. The days come with the first payment. */
export async function awaitsFirstPayment(
  db: Db,
  userId: string,
  subscriptions: readonly Pick<Subscription, 'provenAt'>[],
): Promise<boolean> {
  const hasPaid = subscriptions.some(({ provenAt }) => provenAt !== null);
  return !hasPaid && isInvitationOpen(db, userId);
}

/** `GET /r/CODE`: a referral link. */
export function invitationRoute(app: FastifyInstance, context: AppContext): void {
  // A wildcard, because a pasted link can have a slash or other text after its code.
  app.get<{ Params: { '*': string } }>('/r/*', async (request, reply) => {
    await followInvitation(context, request, reply, request.params['*']);
    if (request.flash) setFlash(request, reply, request.flash);
    return reply.redirect('/pricing', 303);
  });
}
