import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import * as z from 'zod';

import { inTransaction } from '../../db/transaction.ts';
import type { AppContext } from '../context.ts';
import { clearInvitation, clearSession, sessionToken, setFlash, setSession } from '../cookies.ts';
import { BAD_EMAIL, errorsFor, typedText } from '../forms.ts';
import { takeOfAddress, TOO_MANY_TRIES, tryPassword } from '../limits.ts';
import { sendPage } from '../page.ts';
import { emailAddress } from '../../accounts/email.ts';
import { logIn } from '../../accounts/log-in.ts';
import type { LogIn } from '../../accounts/log-in.ts';
import { BAD_PASSWORD, newPassword } from '../../accounts/passwords.ts';
import { resetLinkWorks, resetPassword } from '../../accounts/reset-link.ts';
import { closeSession } from '../../accounts/sessions.ts';
import { signUp, wasJustMade } from '../../accounts/sign-up.ts';

const NO_PASSWORD = 'Enter your password.';

const signUpForm = z.object({ email: emailAddress, password: newPassword });
const logInForm = z.object({ email: emailAddress, password: z.string().min(1).max(200) });

/** What a form shows when it is rendered again. */
interface FormErrors {
  email?: string;
  password?: string;
  form?: string;
}

/**
 * Sign-up, log-in, log-out and the reset of a password.
 *
 * @param app the scope of the pages
 * @param context what the server is built from
 */
export function accountRoutes(app: FastifyInstance, context: AppContext): void {
  const { db, sessionSecret, now } = context;

  /** The session's token; null when the address or the password is wrong, undefined when there are no tries left. */
  function tryLogIn(
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

  app.get('/signup', (request, reply) =>
    request.user ? reply.redirect('/settings', 303) : accountForm(request, reply, 'signup', {}),
  );

  app.post('/signup', async (request, reply) => {
    const again = (status: number, errors: FormErrors): FastifyReply =>
      accountForm(request, reply.status(status), 'signup', errors);
    if (!(await takeOfAddress(request, reply, 'signUpsOfAddress')))
      return again(429, { form: TOO_MANY_TRIES });
    const form = signUpForm.safeParse(request.body ?? {});
    if (!form.success) return again(400, errorsFor(form.error, { email: BAD_EMAIL, password: BAD_PASSWORD }));

    const input = { ...form.data, code: request.invitationCode, oldToken: sessionToken(request) };
    let token: string | null | undefined = await signUp(db, sessionSecret, input, now());
    if (token === null && (await wasJustMade(db, input.email, now()))) {
      token = await tryLogIn(request, reply, input);
    }
    if (token === undefined) return again(429, { form: TOO_MANY_TRIES });
    if (token === null) return again(409, { email: 'This address has an account already. Log in instead.' });
    clearInvitation(request, reply);
    setSession(request, reply, token);
    return reply.redirect('/settings', 303);
  });

  app.get('/login', (request, reply) =>
    request.user ? reply.redirect('/settings', 303) : accountForm(request, reply, 'login', {}),
  );

  app.post('/login', async (request, reply) => {
    const again = (status: number, errors: FormErrors): FastifyReply =>
      accountForm(request, reply.status(status), 'login', errors);
    const form = logInForm.safeParse(request.body ?? {});
    if (!form.success) return again(400, errorsFor(form.error, { email: BAD_EMAIL, password: NO_PASSWORD }));

    const token = await tryLogIn(request, reply, { ...form.data, oldToken: sessionToken(request) });
    if (token === undefined) return again(429, { form: TOO_MANY_TRIES });
    if (token === null) return again(401, { form: 'The e-mail address or the password is wrong.' });
    setSession(request, reply, token);
    return reply.redirect('/settings', 303);
  });

  app.post('/logout', async (request, reply) => {
    const token = sessionToken(request);
    if (token !== null) await inTransaction(db, now(), (tx) => closeSession(tx, sessionSecret, token));
    clearSession(request, reply);
    return reply.redirect('/', 303);
  });

  app.get<{ Params: { token: string } }>('/reset/:token', async (request, reply) => {
    const works = await resetLinkWorks(db, sessionSecret, request.params.token, now());
    return resetForm(request, reply.status(works ? 200 : 404), works, {});
  });

  app.post<{ Params: { token: string } }>('/reset/:token', async (request, reply) => {
    if (!(await takeOfAddress(request, reply, 'resetsOfAddress'))) {
      return resetForm(request, reply.status(429), true, { form: TOO_MANY_TRIES });
    }
    const { token } = request.params;
    // The link first: what is wrong with the password helps nobody whose link does not work.
    if (!(await resetLinkWorks(db, sessionSecret, token, now()))) {
      return resetForm(request, reply.status(404), false, {});
    }
    const form = z.object({ password: newPassword }).safeParse(request.body ?? {});
    if (!form.success) {
      return resetForm(request, reply.status(400), true, errorsFor(form.error, { password: BAD_PASSWORD }));
    }
    const done = await resetPassword(db, sessionSecret, token, form.data.password, now());
    if (!done) return resetForm(request, reply.status(404), false, {});
    clearSession(request, reply);
    setFlash(request, reply, 'password-reset');
    return reply.redirect('/login', 303);
  });
}

function accountForm(
  request: FastifyRequest,
  reply: FastifyReply,
  template: 'signup' | 'login',
  errors: FormErrors,
): FastifyReply {
  const title = template === 'signup' ? 'Sign up' : 'Log in';
  return sendPage(request, reply, template, {
    title,
    values: { email: typedText(request.body, 'email') },
    errors,
  });
}

function resetForm(
  request: FastifyRequest<{ Params: { token: string } }>,
  reply: FastifyReply,
  valid: boolean,
  errors: FormErrors,
): FastifyReply {
  const { token } = request.params;
  return sendPage(request, reply, 'reset', { title: 'Set a new password', token, valid, errors });
}
