import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import * as z from 'zod';

import { emailAddress } from '../../accounts/email.ts';
import { logIn } from '../../accounts/log-in.ts';
import type { LogIn } from '../../accounts/log-in.ts';
import { typedPassword } from '../../accounts/passwords.ts';
import { closeSession } from '../../accounts/sessions.ts';
import { inTransaction } from '../../db/transaction.ts';
import { accountForm } from '../account-form.ts';
import { continueToPlan } from '../billing/billing.ts';
import type { AppContext } from '../context.ts';
import { clearSession, sessionToken, setFlash, setSession } from '../cookies.ts';
import { BAD_EMAIL, errorsFor } from '../forms.ts';
import type { FormErrors } from '../forms.ts';
import { TOO_MANY_ATTEMPTS, tryPassword } from '../limits.ts';
import { HASHES_PASSWORD } from '../requests-under-way.ts';

const NO_PASSWORD = 'Enter your password.';

const logInForm = z.object({ email: emailAddress, password: typedPassword });

/** Login and logout. */
export function logInRoutes(app: FastifyInstance, context: AppContext): void {
  const { db, sessionSecret, now } = context;

  app.get('/login', (request, reply) =>
    request.user ? reply.redirect('/settings', 303) : accountForm(request, reply, 'login', {}),
  );

  app.post('/login', HASHES_PASSWORD, async (request, reply) => {
    const again = (status: number, errors: FormErrors): FastifyReply =>
      accountForm(request, reply.status(status), 'login', errors);
    const form = logInForm.safeParse(request.body ?? {});
    if (!form.success) return again(400, errorsFor(form.error, { email: BAD_EMAIL, password: NO_PASSWORD }));

    const token = await tryLogIn(context, request, reply, { ...form.data, oldToken: sessionToken(request) });
    if (token === undefined) return again(429, { form: TOO_MANY_ATTEMPTS });
    if (token === null) return again(401, { form: 'The email address or the password is wrong.' });
    setSession(request, reply, token);
    return continueToPlan(context, request, reply, token);
  });

  app.post('/logout', async (request, reply) => {
    const token = sessionToken(request);
    // A cookie without a session is cleared without a write, because anybody can make one up.
    if (token !== null && request.user)
      await inTransaction(db, now(), (tx) => closeSession(tx, sessionSecret, token));
    clearSession(request, reply);
    setFlash(request, reply, 'logged-out');
    return reply.redirect('/', 303);
  });
}

/**
 * @returns the session token; null when the address or password is wrong, undefined when no tries are left
 */
export function tryLogIn(
  { db, sessionSecret, now }: AppContext,
  request: FastifyRequest,
  reply: FastifyReply,
  input: LogIn,
): Promise<string | null | undefined> {
  return tryPassword(
    request,
    reply,
    input.email,
    () => logIn(db, sessionSecret, input, now()),
    (opened) => opened === null,
  );
}
