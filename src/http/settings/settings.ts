import type { FastifyInstance } from 'fastify';
import * as z from 'zod';

import { setMailOff } from '../../accounts/mail-off.ts';
import { closeOtherSessions } from '../../accounts/sessions.ts';
import { lockUnchanged } from '../../accounts/verified-user.ts';
import { lockUser } from '../../db/lock-user.ts';
import { inTransaction } from '../../db/transaction.ts';
import type { AppContext } from '../context.ts';
import { sessionToken, setFlash } from '../cookies.ts';
import { limitedByAccount } from '../limits.ts';
import { redirectToLogIn } from '../log-in-first.ts';
import { addressRoutes } from './address.ts';
import { deletionRoute } from './deletion.ts';
import { passwordRoute } from './password.ts';
import { sendSettings } from './settings-page.ts';

/** The Settings page and its forms. */
export function settingsRoutes(app: FastifyInstance, context: AppContext): void {
  const { db, sessionSecret, now } = context;
  const limitPaymentChecks = limitedByAccount('paymentChecksOfAccount');

  app.get<{ Querystring: { checkout?: string } }>('/settings', async (request, reply) => {
    if (!request.user) return redirectToLogIn(request, reply);
    const cameFromCheckout = request.query.checkout === 'done';
    if (cameFromCheckout) await limitPaymentChecks(request, reply);
    return sendSettings(context, request, reply, request.user, {}, cameFromCheckout);
  });

  // After an error, the browser is at the form's own address and may request it with GET, for example when a tab is
  // restored.
  app.get('/settings/:form', (_request, reply) => reply.redirect('/settings', 303));

  addressRoutes(app, context);
  passwordRoute(app, context);
  deletionRoute(app, context);

  app.post(
    '/settings/mail',
    { onRequest: limitedByAccount('mailSettingsOfAccount') },
    async (request, reply) => {
      const { user } = request;
      if (!user) return redirectToLogIn(request, reply);
      const form = z.object({ wanted: z.enum(['yes', 'no']) }).safeParse(request.body ?? {});
      if (!form.success) return sendSettings(context, request, reply.status(400), user, {});
      const mailOff = form.data.wanted === 'no';
      const isDone = await setMailOff(db, (tx) => lockUnchanged(tx, user), mailOff, now());
      if (!isDone) return redirectToLogIn(request, reply);
      setFlash(request, reply, mailOff ? 'mail-off' : 'mail-on');
      return reply.redirect('/settings', 303);
    },
  );

  const limited = { onRequest: limitedByAccount('logOutsElsewhereOfAccount') };
  app.post('/settings/log-out-elsewhere', limited, async (request, reply) => {
    const token = sessionToken(request);
    if (!request.user || token === null) return redirectToLogIn(request, reply);
    const { id } = request.user;
    const isLoggedIn = await inTransaction(db, now(), async (tx) => {
      // Two sessions could otherwise end each other.
      await lockUser(tx, id);
      return closeOtherSessions(tx, sessionSecret, id, token);
    });
    if (!isLoggedIn) return redirectToLogIn(request, reply);
    setFlash(request, reply, 'logged-out-elsewhere');
    return reply.redirect('/settings', 303);
  });
}
