import type { FastifyInstance, FastifyReply } from 'fastify';
import * as z from 'zod';

import { changeAddress, mailProofAgain, requestAddressChange } from '../../accounts/change-address.ts';
import { emailAddress } from '../../accounts/email.ts';
import { typedPassword } from '../../accounts/passwords.ts';
import { addressToProve, pendingAddress } from '../../outbox/links.ts';
import type { AppContext } from '../context.ts';
import { sessionToken, setFlash } from '../cookies.ts';
import { BAD_EMAIL, errorsFor, TOO_MANY_SPELLINGS, typedText } from '../forms.ts';
import {
  limitedByAccount,
  takeForAccount,
  takeForNetwork,
  takeReturnable,
  TOO_MANY_ATTEMPTS,
} from '../limits.ts';
import { redirectToLogIn } from '../log-in-first.ts';
import { HASHES_PASSWORD } from '../requests-under-way.ts';
import { NO_PASSWORD, tryCurrentPassword, WRONG_PASSWORD } from './current-password.ts';
import { sendSettings } from './settings-page.ts';

const TOO_MANY_MAILS =
  'We have sent too many emails to this address today. Look in the spam folder, or try again tomorrow.';

const TOO_MANY_CHANGES = 'You can change your email address 20 times a day. Try again tomorrow.';

/** Changing the address, which takes effect at once or, with mail, once it is proven; and mailing the link again. */
export function addressRoutes(app: FastifyInstance, context: AppContext): void {
  const { config, db, sessionSecret, now } = context;

  app.post('/settings/address', HASHES_PASSWORD, async (request, reply) => {
    const token = sessionToken(request);
    if (!request.user || token === null) return redirectToLogIn(request, reply);
    const { user } = request;
    const typed = typedText(request.body, 'email');
    const again = (
      status: number,
      errors: { email?: string; currentPassword?: string },
    ): Promise<FastifyReply> =>
      sendSettings(context, request, reply.status(status), user, {
        address: { values: { email: typed }, errors },
      });

    const form = z
      .object({ email: emailAddress, currentPassword: typedPassword })
      .safeParse(request.body ?? {});
    if (!form.success) {
      return again(400, errorsFor(form.error, { email: BAD_EMAIL, currentPassword: NO_PASSWORD }));
    }
    // Limited so that probing for existing accounts is no easier here than at sign-up.
    const allowed =
      (await takeForAccount(request, reply, 'addressChangesOfAccount')) &&
      (await takeForNetwork(request, reply, 'signUpsOfNetwork'));
    if (!allowed) return again(429, { email: TOO_MANY_ATTEMPTS });
    const { email } = form.data;
    const keeps = email === user.email;
    const giveBack = keeps
      ? () => Promise.resolve()
      : await takeReturnable(request, reply, 'addressesADayOfAccount', user.id);
    if (!giveBack) return again(429, { email: TOO_MANY_CHANGES });
    const byMail = config.mail !== null;
    let refusal;
    try {
      refusal = await tryCurrentPassword(
        request,
        reply,
        user,
        () =>
          byMail
            ? requestAddressChange(db, user.id, form.data, now())
            : changeAddress(db, { secret: sessionSecret, token }, user.id, form.data, now()),
        (outcome) => outcome === 'wrong-password',
      );
    } finally {
      // Null: the change was made or, with mail, requested.
      if (refusal !== null) await giveBack();
    }
    if (refusal === undefined) return again(429, { currentPassword: TOO_MANY_ATTEMPTS });
    if (refusal === 'wrong-password') return again(403, { currentPassword: WRONG_PASSWORD });
    if (refusal === 'address-taken') return again(409, { email: 'This address already has an account.' });
    if (refusal === 'too-many-mails') return again(429, { email: TOO_MANY_MAILS });
    if (refusal === 'too-many-spellings') return again(409, { email: TOO_MANY_SPELLINGS });
    const kept = pendingAddress(user, now()) === null ? 'address-kept' : 'change-cancelled';
    setFlash(request, reply, keeps ? kept : byMail ? 'change-mailed' : 'address-changed');
    return reply.redirect('/settings', 303);
  });

  app.post(
    '/settings/verify',
    { onRequest: limitedByAccount('proofMailsOfAccount') },
    async (request, reply) => {
      if (!request.user) return redirectToLogIn(request, reply);
      const { user } = request;
      const toProve = config.mail === null ? null : addressToProve(user, now());
      if (!toProve) return reply.redirect('/settings', 303);
      const outcome = await mailProofAgain(db, user.id, toProve.address, now());
      if (outcome === 'too-many-mails')
        return sendSettings(context, request, reply.status(429), user, {
          proving: { error: TOO_MANY_MAILS },
        });
      if (outcome === 'queued') setFlash(request, reply, 'proof-mailed');
      return reply.redirect('/settings', 303);
    },
  );
}
