import type { FastifyInstance, FastifyReply } from 'fastify';
import * as z from 'zod';

import { changePassword } from '../../accounts/change-password.ts';
import { BAD_PASSWORD, newPassword, typedPassword } from '../../accounts/passwords.ts';
import { pendingAddress } from '../../outbox/links.ts';
import type { AppContext } from '../context.ts';
import { setFlash, setSession } from '../cookies.ts';
import { errorsFor } from '../forms.ts';
import { takeReturnable, TOO_MANY_ATTEMPTS } from '../limits.ts';
import { redirectToLogIn } from '../log-in-first.ts';
import { HASHES_PASSWORD } from '../requests-under-way.ts';
import { NO_PASSWORD, tryCurrentPassword, WRONG_PASSWORD } from './current-password.ts';
import { sendSettings } from './settings-page.ts';

/** Changing the password. */
export function passwordRoute(app: FastifyInstance, context: AppContext): void {
  const { config, db, sessionSecret, now } = context;

  app.post('/settings/password', HASHES_PASSWORD, async (request, reply) => {
    if (!request.user) return redirectToLogIn(request, reply);
    const { user } = request;
    const again = (
      status: number,
      errors: { currentPassword?: string; newPassword?: string },
    ): Promise<FastifyReply> =>
      sendSettings(context, request, reply.status(status), user, { password: { errors } });

    const form = z.object({ currentPassword: typedPassword, newPassword }).safeParse(request.body ?? {});
    if (!form.success) {
      return again(400, errorsFor(form.error, { currentPassword: NO_PASSWORD, newPassword: BAD_PASSWORD }));
    }
    const giveBack = await takeReturnable(request, reply, 'passwordChangesOfAccount', user.id);
    if (!giveBack) return again(429, { newPassword: TOO_MANY_ATTEMPTS });
    let token: string | null | undefined;
    try {
      token = await tryCurrentPassword(
        request,
        reply,
        user,
        () => {
          const typed = { ...form.data, mail: config.mail !== null };
          return changePassword(db, sessionSecret, user.id, typed, now());
        },
        (outcome) => outcome === null,
      );
    } finally {
      if (!token) await giveBack();
    }
    if (token === undefined) return again(429, { currentPassword: TOO_MANY_ATTEMPTS });
    if (token === null) return again(403, { currentPassword: WRONG_PASSWORD });
    setSession(request, reply, token);
    const cancelsChange = pendingAddress(user, now()) !== null;
    setFlash(request, reply, cancelsChange ? 'password-changed-change-cancelled' : 'password-changed');
    return reply.redirect('/settings', 303);
  });
}
