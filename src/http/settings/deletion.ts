import type { FastifyInstance, FastifyReply } from 'fastify';
import * as z from 'zod';

import { deleteAccount } from '../../accounts/delete-account.ts';
import { typedPassword } from '../../accounts/passwords.ts';
import { programmeOf } from '../../programme.ts';
import { askStripe } from '../ask-stripe.ts';
import type { AppContext } from '../context.ts';
import { clearSession, setFlash } from '../cookies.ts';
import { limitedByAccount, TOO_MANY_ATTEMPTS } from '../limits.ts';
import { redirectToLogIn } from '../log-in-first.ts';
import { HASHES_PASSWORD } from '../requests-under-way.ts';
import { NO_PASSWORD, tryCurrentPassword, WRONG_PASSWORD } from './current-password.ts';
import { sendSettings } from './settings-page.ts';

const NOT_DELETED = {
  'payments-not-set-up':
    'Your account was not deleted: payments are not set up on this server, so we cannot cancel any subscription you may have.',
  'payment-pending':
    'Your account was not deleted: a payment is still being processed. Try again in a few minutes.',
  'account-changed':
    'Your account was not deleted: it was changed in another window just now. If you had a plan, it may already have been cancelled. Please log in and try again.',
  conflict:
    'Your account was not deleted: a payment was started in another window just now. If you had a plan, it may already have been cancelled. Please try again.',
};

/** Deleting the account. */
export function deletionRoute(app: FastifyInstance, context: AppContext): void {
  const { config, db, stripe, now } = context;
  const programme = programmeOf(config);

  // Limited because each deletion can call Stripe.
  app.post(
    '/settings/delete',
    { ...HASHES_PASSWORD, onRequest: limitedByAccount('deletionsOfAccount') },
    async (request, reply) => {
      if (!request.user) return redirectToLogIn(request, reply);
      const { user } = request;
      const again = (status: number, problem: string): Promise<FastifyReply> =>
        sendSettings(context, request, reply.status(status), user, {
          deletion: { errors: { currentPassword: problem } },
        });

      const form = z.object({ currentPassword: typedPassword }).safeParse(request.body ?? {});
      if (!form.success) return again(400, NO_PASSWORD);
      const refusal = await askStripe(
        'Your account was not deleted, but if you had a plan, it may already have been cancelled.',
        () =>
          tryCurrentPassword(
            request,
            reply,
            user,
            () => {
              const typed = { ...form.data, mail: config.mail !== null };
              return deleteAccount({ db, stripe, programme }, user.id, typed, now());
            },
            (outcome) => outcome === 'wrong-password',
          ),
      );
      if (refusal === undefined) return again(429, TOO_MANY_ATTEMPTS);
      if (refusal === 'wrong-password') return again(403, WRONG_PASSWORD);
      if (refusal !== null) return again(409, NOT_DELETED[refusal]);
      clearSession(request, reply);
      setFlash(request, reply, 'account-deleted');
      return reply.redirect('/', 303);
    },
  );
}
