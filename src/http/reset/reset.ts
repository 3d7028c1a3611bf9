import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import * as z from 'zod';

import { BAD_PASSWORD, checkPassword, newPassword } from '../../accounts/passwords.ts';
import type { WorkingResetLink } from '../../accounts/reset-link.ts';
import { findJustReset, findResetLink, resetPassword } from '../../accounts/reset-link.ts';
import { programmeOf } from '../../programme.ts';
import { askStripe } from '../ask-stripe.ts';
import type { AppContext } from '../context.ts';
import { clearSession, setFlash } from '../cookies.ts';
import { errorsFor, typedText } from '../forms.ts';
import type { FormErrors } from '../forms.ts';
import { forgetFailedLogIns, takeForNetwork, TOO_MANY_ATTEMPTS, tryPassword } from '../limits.ts';
import { sendPage } from '../page.ts';
import { HASHES_PASSWORD } from '../requests-under-way.ts';

const NOT_RESET = {
  'payment-pending':
    'Your password was not changed: a payment for this account is still being processed. Try again in a few minutes.',
  'payments-not-set-up':
    'Your password was not changed: somebody may have started a subscription with this account, and we cannot cancel it because payments are not set up on this server.',
  conflict:
    'Your password was not changed: a payment for this account was started just now. Please try again.',
};

/** Setting a new password with a reset link. */
export function resetRoutes(app: FastifyInstance, context: AppContext): void {
  const { config, db, stripe, sessionSecret, now } = context;

  app.get<{ Params: { token: string } }>('/reset/:token', async (request, reply) => {
    const link = await findResetLink(db, sessionSecret, request.params.token, now());
    return resetForm(request, reply.status(link ? 200 : 404), link, {});
  });

  app.post<{ Params: { token: string } }>('/reset/:token', HASHES_PASSWORD, async (request, reply) => {
    const { token } = request.params;
    const isAllowed = await takeForNetwork(request, reply, 'resetsOfNetwork');
    // Check the link first: errors about the password are of no use when the link does not work.
    const link = await findResetLink(db, sessionSecret, token, now());
    if (!isAllowed) return resetForm(request, reply.status(429), link, { form: TOO_MANY_ATTEMPTS });
    if (!link) return answerSpentLink(request, reply);
    const form = z.object({ password: newPassword }).safeParse(request.body ?? {});
    if (!form.success) {
      return resetForm(request, reply.status(400), link, errorsFor(form.error, { password: BAD_PASSWORD }));
    }
    const parts = { db, stripe, programme: programmeOf(config) };
    const typed = { ...form.data, mail: config.mail !== null, code: request.invitationCode };
    const outcome = await askStripe('Your password was not changed.', () =>
      resetPassword(parts, sessionSecret, token, typed, now()),
    );
    if (outcome === 'done') {
      await forgetFailedLogIns(request, link.user.email ?? '');
      return toLogIn(request, reply);
    }
    if (outcome === 'link-gone') return answerSpentLink(request, reply);
    return resetForm(request, reply.status(409), link, { form: NOT_RESET[outcome] });
  });

  /** Answers the second request of a double click like the first. For anyone else, the link no longer works. */
  async function answerSpentLink(
    request: FastifyRequest<{ Params: { token: string } }>,
    reply: FastifyReply,
  ): Promise<FastifyReply> {
    const user = await findJustReset(db, sessionSecret, request.params.token, now());
    const typed = typedText(request.body, 'password');
    const verdict =
      user &&
      (await tryPassword(
        request,
        null,
        user.email ?? '',
        () => checkPassword(user.passwordHash, typed),
        (outcome) => outcome === 'wrong',
      ));
    return verdict === 'right' ? toLogIn(request, reply) : resetForm(request, reply.status(404), null, {});
  }
}

function toLogIn(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  clearSession(request, reply);
  setFlash(request, reply, 'password-reset');
  return reply.redirect('/login', 303);
}

function resetForm(
  request: FastifyRequest<{ Params: { token: string } }>,
  reply: FastifyReply,
  link: Pick<WorkingResetLink, 'startsAfresh'> | null,
  errors: FormErrors,
): FastifyReply {
  const { token } = request.params;
  return sendPage(request, reply, 'reset', {
    title: 'Set a new password',
    token,
    valid: link !== null,
    startsAfresh: link?.startsAfresh ?? false,
    errors,
  });
}
