import type { FastifyInstance, FastifyReply } from 'fastify';
import * as z from 'zod';

import { emailAddress } from '../../accounts/email.ts';
import { BAD_PASSWORD, newPassword } from '../../accounts/passwords.ts';
import { signUp, wasJustMade } from '../../accounts/sign-up.ts';
import { accountForm } from '../account-form.ts';
import { continueToPlan } from '../billing/billing.ts';
import type { AppContext } from '../context.ts';
import { clearInvitation, sessionToken, setSession } from '../cookies.ts';
import { BAD_EMAIL, errorsFor, TOO_MANY_SPELLINGS } from '../forms.ts';
import type { FormErrors } from '../forms.ts';
import { takeForNetwork, TOO_MANY_ATTEMPTS } from '../limits.ts';
import { tryLogIn } from '../login/login.ts';
import { HASHES_PASSWORD } from '../requests-under-way.ts';

const signUpForm = z.object({ email: emailAddress, password: newPassword });

/** Sign-up. */
export function signUpRoutes(app: FastifyInstance, context: AppContext): void {
  const { config, db, sessionSecret, now } = context;

  app.get('/signup', (request, reply) =>
    request.user ? reply.redirect('/settings', 303) : accountForm(request, reply, 'signup', {}),
  );

  app.post('/signup', HASHES_PASSWORD, async (request, reply) => {
    const again = (status: number, errors: FormErrors): FastifyReply =>
      accountForm(request, reply.status(status), 'signup', errors);
    if (!(await takeForNetwork(request, reply, 'signUpsOfNetwork')))
      return again(429, { form: TOO_MANY_ATTEMPTS });
    const form = signUpForm.safeParse(request.body ?? {});
    if (!form.success) return again(400, errorsFor(form.error, { email: BAD_EMAIL, password: BAD_PASSWORD }));

    const mail = config.mail !== null;
    const input = { ...form.data, code: request.invitationCode, oldToken: sessionToken(request), mail };
    const signedUp = await signUp(db, sessionSecret, input, now());
    if (signedUp === 'too-many-spellings') return again(409, { email: TOO_MANY_SPELLINGS });
    let token: string | null | undefined = signedUp === 'address-taken' ? null : signedUp.token;
    if (token === null && (await wasJustMade(db, input.email, now()))) {
      token = await tryLogIn(context, request, reply, input);
    }
    if (token === undefined) return again(429, { form: TOO_MANY_ATTEMPTS });
    if (token === null)
      return again(409, {
        email:
          'This address already has an account. Log in instead. If you did not create it, use “Forgotten your password?” on the login page to claim it.',
      });
    clearInvitation(request, reply);
    setSession(request, reply, token);
    return continueToPlan(context, request, reply, token);
  });
}
