import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';

import { describeUser } from '../access/overview.ts';
import type { Overview } from '../access/overview.ts';
import { changeAddress, changePassword } from '../accounts/credentials.ts';
import { emailAddress } from '../accounts/email.ts';
import { newPassword } from '../accounts/passwords.ts';
import { deleteAccount } from '../billing/delete-account.ts';
import { subscriptionsOf } from '../billing/facts/subscriptions.ts';
import { isOneLive } from '../billing/portal.ts';
import { createPriceReader } from '../billing/prices.ts';
import type { Subscription, User } from '../db/generated/client.ts';
import { askStripe } from '../web/ask-stripe.ts';
import type { AppContext } from '../web/context.ts';
import { clearSession, setFlash, setSession } from '../web/cookies.ts';
import { HttpError } from '../web/errors.ts';
import { BAD_EMAIL, BAD_PASSWORD, errorsFor, typedText } from '../web/forms.ts';
import { sendPage } from '../web/page.ts';
import type { Notice } from '../web/page.ts';
import { followInvitation } from '../web/visitor.ts';

/** While the webhook of a payment is on its way, Settings looks again after this long, s. */
const REFRESH_SECONDS = 3;

const NO_PASSWORD = 'Enter your current password.';
const WRONG_PASSWORD = 'This is not your current password.';
const NOT_DELETED = {
  'payments-not-set-up':
    'Payments are not set up on this server, so your subscription cannot be cancelled now.',
  'checkout-opened-meanwhile': 'A payment was begun in another window just now. Please try again.',
};
const THANKS: Notice = {
  kind: 'success',
  text: 'Thank you. Your payment has arrived, and you have paid access.',
};

const currentPassword = z.string().min(1).max(200);

/** What the two forms of Settings show when they are rendered again. */
interface SettingsForms {
  address?: { values: { email: string }; errors: { email?: string; currentPassword?: string } };
  password?: { errors: { currentPassword?: string; newPassword?: string } };
  deletion?: { errors: { currentPassword?: string } };
}

/**
 * The pages that people read, a friend's link, and `/api/me`.
 *
 * @param app the scope of the pages
 * @param context what the server is built from
 */
export function pageRoutes(app: FastifyInstance, context: AppContext): void {
  const { config, db, stripe, sessionSecret, now } = context;
  const prices = createPriceReader(stripe, config.stripe.prices, now);
  const place = { publicUrl: config.publicUrl, prices: config.stripe.prices };
  const overview = (user: User, subscriptions: Subscription[]): Promise<Overview> =>
    describeUser(db, user, subscriptions, place, now());

  app.get('/', (request, reply) => sendPage(request, reply, 'landing', { title: 'Tandem' }));

  app.get('/pricing', async (request, reply) => {
    const texts = await prices();
    const live = request.user !== null && isOneLive(await subscriptionsOf(db, request.user.id));
    return sendPage(request, reply, 'pricing', {
      title: 'Pricing',
      plans: [
        { plan: 'monthly', name: 'Monthly', price: texts.monthly, interval: 'month' },
        { plan: 'annual', name: 'Annual', price: texts.annual, interval: 'year' },
      ],
      billing: request.user ? (live ? 'manage' : 'upgrade') : 'signed-out',
      trialDays: config.stripe.trialDays,
      clawbackDays: config.clawbackDays,
    });
  });

  app.get<{ Params: { code: string } }>('/r/:code', async (request, reply) => {
    await followInvitation(context, request, reply, request.params.code);
    if (request.flash) setFlash(request, reply, request.flash);
    return reply.redirect('/pricing', 303);
  });

  app.get('/api/me', async (request) => {
    if (!request.user) throw new HttpError(401, 'unauthorized', 'Log in first.');
    return overview(request.user, await subscriptionsOf(db, request.user.id));
  });

  app.get<{ Querystring: { checkout?: string } }>('/settings', async (request, reply) => {
    if (!request.user) return reply.redirect('/login', 303);
    return settings(request, reply, request.user, {}, request.query.checkout === 'done');
  });

  app.post('/settings/address', async (request, reply) => {
    if (!request.user) return reply.redirect('/login', 303);
    const { user } = request;
    const typed = typedText(request.body, 'email');
    const again = (
      status: number,
      errors: { email?: string; currentPassword?: string },
    ): Promise<FastifyReply> =>
      settings(request, reply.status(status), user, { address: { values: { email: typed }, errors } });

    const form = z.object({ email: emailAddress, currentPassword }).safeParse(request.body ?? {});
    if (!form.success) {
      return again(400, errorsFor(form.error, { email: BAD_EMAIL, currentPassword: NO_PASSWORD }));
    }
    const refusal = await changeAddress(db, user, form.data.currentPassword, form.data.email, now());
    if (refusal === 'wrong-password') return again(403, { currentPassword: WRONG_PASSWORD });
    if (refusal === 'address-taken') return again(409, { email: 'This address has an account already.' });
    setFlash(request, reply, 'address-changed');
    return reply.redirect('/settings', 303);
  });

  app.post('/settings/password', async (request, reply) => {
    if (!request.user) return reply.redirect('/login', 303);
    const { user } = request;
    const again = (
      status: number,
      errors: { currentPassword?: string; newPassword?: string },
    ): Promise<FastifyReply> => settings(request, reply.status(status), user, { password: { errors } });

    const form = z.object({ currentPassword, newPassword }).safeParse(request.body ?? {});
    if (!form.success) {
      return again(400, errorsFor(form.error, { currentPassword: NO_PASSWORD, newPassword: BAD_PASSWORD }));
    }
    const token = await changePassword(db, sessionSecret, user, form.data, now());
    if (token === null) return again(403, { currentPassword: WRONG_PASSWORD });
    setSession(request, reply, token);
    setFlash(request, reply, 'password-changed');
    return reply.redirect('/settings', 303);
  });

  app.post('/settings/delete', async (request, reply) => {
    if (!request.user) return reply.redirect('/login', 303);
    const { user } = request;
    const again = (status: number, problem: string): Promise<FastifyReply> =>
      settings(request, reply.status(status), user, { deletion: { errors: { currentPassword: problem } } });

    const form = z.object({ currentPassword }).safeParse(request.body ?? {});
    if (!form.success) return again(400, NO_PASSWORD);
    const refusal = await askStripe(() => deleteAccount(db, stripe, user, form.data.currentPassword, now()));
    if (refusal === 'wrong-password') return again(403, WRONG_PASSWORD);
    if (refusal !== null) return again(409, NOT_DELETED[refusal]);
    clearSession(request, reply);
    setFlash(request, reply, 'account-deleted');
    return reply.redirect('/', 303);
  });

  async function settings(
    request: FastifyRequest,
    reply: FastifyReply,
    user: User,
    forms: SettingsForms,
    cameFromCheckout = false,
  ): Promise<FastifyReply> {
    const subscriptions = await subscriptionsOf(db, user.id);
    const me = await overview(user, subscriptions);
    const awaitingPayment = cameFromCheckout && me.tier === 'free';
    return sendPage(request, reply, 'settings', {
      title: 'Settings',
      me,
      canManageBilling: isOneLive(subscriptions),
      awaitingPayment,
      ...(awaitingPayment && { refreshSeconds: REFRESH_SECONDS }),
      ...(cameFromCheckout && me.tier === 'paid' && { notice: THANKS }),
      address: forms.address ?? { values: { email: '' }, errors: {} },
      password: forms.password ?? { errors: {} },
      deletion: forms.deletion ?? { errors: {} },
    });
  }
}
