import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import * as z from 'zod';

import { describeUser, overviewConfigOf, shownOf } from '../../access/overview.ts';
import type { Overview } from '../../access/overview.ts';
import { requestAddressChange, changeAddress, mailProofAgain } from '../../accounts/change-address.ts';
import { changePassword } from '../../accounts/change-password.ts';
import { emailAddress } from '../../accounts/email.ts';
import { setMailOff } from '../../accounts/mail-off.ts';
import { BAD_PASSWORD, newPassword, typedPassword } from '../../accounts/passwords.ts';
import { closeOtherSessions } from '../../accounts/sessions.ts';
import { findAwaitedPayment } from '../../stripe/awaited-payment.ts';
import { deleteAccount } from '../../accounts/delete-account.ts';
import { anyLive } from '../../access/live.ts';
import { linesSince, pointBefore } from '../../credits/recent.ts';
import type { User } from '../../db/generated/client.ts';
import type { Db } from '../../db/transaction.ts';
import { lockUser } from '../../db/lock-user.ts';
import { inTransaction } from '../../db/transaction.ts';
import { addSeconds, DAY_SECONDS, secondsBetween, wholeSeconds } from '../../instants.ts';
import { addressToProve, pendingAddress } from '../../outbox/links.ts';
import { REFERRAL_CREDIT_DAYS } from '../../referrals/convert.ts';
import { entriesWithSides } from '../../referrals/credit-news.ts';
import { listInvitations } from '../../referrals/timeline.ts';
import { askStripe } from '../ask-stripe.ts';
import type { AppContext } from '../context.ts';
import { clearSession, sessionToken, setFlash, setSession } from '../cookies.ts';
import { BAD_EMAIL, errorsFor, typedText } from '../forms.ts';
import {
  limitedByAccount,
  takeForAccount,
  takeForNetwork,
  takeReturnable,
  TOO_MANY_ATTEMPTS,
  tryPassword,
} from '../limits.ts';
import { redirectToLogIn } from '../log-in-first.ts';
import { mayMail, mayNotify } from '../may-mail.ts';
import { sendPage } from '../page.ts';
import type { Notice } from '../page.ts';
import { awaitsFirstPayment } from '../invitation.ts';
import { readSubscriptions } from '../payment-trouble.ts';
import { inWords } from '../credit-words.ts';
import type { HistoryLine } from '../credit-words.ts';
import { qrCode } from './qr-code.ts';

/** While waiting for the webhook of a payment, Settings reloads after this long, s. */
const REFRESH_SECONDS = 3;

/** Lines shown of each list, newest first. The export contains all of them. */
const LISTED = 50;

const NO_PASSWORD = 'Enter your current password.';
const WRONG_PASSWORD = 'This is not your current password.';
const NOT_DELETED = {
  'payments-not-set-up':
    'Payments are not set up on this server, so we cannot cancel a subscription you may have. Your account was not deleted.',
  'checkout-opened-meanwhile': 'A payment was started in another window just now. Please try again.',
};
const TOO_MANY_MAILS =
  'We have sent too many emails to this address today. Look in the spam folder, or try again tomorrow.';
const THANKS: Notice = {
  kind: 'success',
  text: 'Thank you. Your payment has arrived, and you have paid access.',
};

/** State of the Settings forms when they are rendered again. */
interface SettingsForms {
  address?: { values: { email: string }; errors: { email?: string; currentPassword?: string } };
  password?: { errors: { currentPassword?: string; newPassword?: string } };
  deletion?: { errors: { currentPassword?: string } };
  /** Why the mail that proves the address was not sent again. */
  proving?: { error: string };
}

/** The Settings page and its forms. */
export function settingsRoutes(app: FastifyInstance, context: AppContext): void {
  const { config, db, stripe, sessionSecret, now } = context;
  const overviewConfig = overviewConfigOf(config);
  const limitPaymentChecks = limitedByAccount('paymentChecksOfAccount');
  const { products } = config.stripe;

  app.get<{ Querystring: { checkout?: string } }>('/settings', async (request, reply) => {
    if (!request.user) return redirectToLogIn(request, reply);
    const cameFromCheckout = request.query.checkout === 'done';
    // Each check can call Stripe, whose rate limit is shared by all accounts.
    if (cameFromCheckout) await limitPaymentChecks(request, reply);
    return settings(request, reply, request.user, {}, cameFromCheckout);
  });

  // After an error, the browser is at the form's own address and may request it with GET, for example when a tab is
  // restored.
  app.get('/settings/:form', (_request, reply) => reply.redirect('/settings', 303));

  app.post('/settings/address', async (request, reply) => {
    const token = sessionToken(request);
    if (!request.user || token === null) return redirectToLogIn(request, reply);
    const { user } = request;
    const typed = typedText(request.body, 'email');
    const again = (
      status: number,
      errors: { email?: string; currentPassword?: string },
    ): Promise<FastifyReply> =>
      settings(request, reply.status(status), user, { address: { values: { email: typed }, errors } });

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
    const byMail = config.mail !== null;
    if (byMail && !keeps && !(await mayMail(context, request, email, false)))
      return again(429, { email: TOO_MANY_MAILS });
    const tellOld = byMail && !keeps && (await mayNotify(context, request, user));
    const refusal = await tryCurrentPassword(
      request,
      reply,
      user,
      () =>
        byMail
          ? requestAddressChange(db, user.id, { ...form.data, tellOld }, now())
          : changeAddress(db, { secret: sessionSecret, token }, user.id, form.data, now()),
      (outcome) => outcome === 'wrong-password',
    );
    if (refusal === undefined) return again(429, { currentPassword: TOO_MANY_ATTEMPTS });
    if (refusal === 'wrong-password') return again(403, { currentPassword: WRONG_PASSWORD });
    if (refusal === 'address-taken') return again(409, { email: 'This address already has an account.' });
    setFlash(request, reply, keeps ? 'address-kept' : byMail ? 'change-mailed' : 'address-changed');
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
      if (!(await mayMail(context, request, toProve.address, false)))
        return settings(request, reply.status(429), user, { proving: { error: TOO_MANY_MAILS } });
      await mailProofAgain(db, user.id, toProve.address, now());
      setFlash(request, reply, 'proof-mailed');
      return reply.redirect('/settings', 303);
    },
  );

  app.post('/settings/mail', async (request, reply) => {
    if (!request.user) return redirectToLogIn(request, reply);
    const form = z.object({ wanted: z.enum(['yes', 'no']) }).safeParse(request.body ?? {});
    if (!form.success) return settings(request, reply.status(400), request.user, {});
    const mailOff = form.data.wanted === 'no';
    await setMailOff(db, request.user.id, mailOff, now());
    setFlash(request, reply, mailOff ? 'mail-off' : 'mail-on');
    return reply.redirect('/settings', 303);
  });

  app.post('/settings/password', async (request, reply) => {
    if (!request.user) return redirectToLogIn(request, reply);
    const { user } = request;
    const again = (
      status: number,
      errors: { currentPassword?: string; newPassword?: string },
    ): Promise<FastifyReply> => settings(request, reply.status(status), user, { password: { errors } });

    const form = z.object({ currentPassword: typedPassword, newPassword }).safeParse(request.body ?? {});
    if (!form.success) {
      return again(400, errorsFor(form.error, { currentPassword: NO_PASSWORD, newPassword: BAD_PASSWORD }));
    }
    const giveBack = await takeReturnable(request, reply, 'passwordChangesOfAccount', user.id);
    if (!giveBack) return again(429, { newPassword: TOO_MANY_ATTEMPTS });
    let token: string | null | undefined;
    try {
      const mail = await mayNotify(context, request, user);
      token = await tryCurrentPassword(
        request,
        reply,
        user,
        () => changePassword(db, sessionSecret, user.id, { ...form.data, mail }, now()),
        (outcome) => outcome === null,
      );
    } finally {
      if (!token) await giveBack();
    }
    if (token === undefined) return again(429, { currentPassword: TOO_MANY_ATTEMPTS });
    if (token === null) return again(403, { currentPassword: WRONG_PASSWORD });
    setSession(request, reply, token);
    const isAddressKept = pendingAddress(user, now()) !== null;
    setFlash(request, reply, isAddressKept ? 'password-changed-address-kept' : 'password-changed');
    return reply.redirect('/settings', 303);
  });

  app.post('/settings/sign-out', async (request, reply) => {
    const token = sessionToken(request);
    if (!request.user || token === null) return redirectToLogIn(request, reply);
    const { id } = request.user;
    const isLoggedIn = await inTransaction(db, now(), async (tx) => {
      // Two sessions could otherwise end each other.
      await lockUser(tx, id);
      return closeOtherSessions(tx, sessionSecret, id, token);
    });
    if (!isLoggedIn) return redirectToLogIn(request, reply);
    setFlash(request, reply, 'signed-out-elsewhere');
    return reply.redirect('/settings', 303);
  });

  // Limited because each deletion can call Stripe.
  app.post(
    '/settings/delete',
    { onRequest: limitedByAccount('deletionsOfAccount') },
    async (request, reply) => {
      if (!request.user) return redirectToLogIn(request, reply);
      const { user } = request;
      const again = (status: number, problem: string): Promise<FastifyReply> =>
        settings(request, reply.status(status), user, { deletion: { errors: { currentPassword: problem } } });

      const form = z.object({ currentPassword: typedPassword }).safeParse(request.body ?? {});
      if (!form.success) return again(400, NO_PASSWORD);
      const mail = await mayNotify(context, request, user);
      const refusal = await askStripe('Your account was not deleted.', () =>
        tryCurrentPassword(
          request,
          reply,
          user,
          () => deleteAccount({ db, stripe, products }, user.id, { ...form.data, mail }, now()),
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

  async function settings(
    request: FastifyRequest,
    reply: FastifyReply,
    user: User,
    forms: SettingsForms,
    cameFromCheckout = false,
  ): Promise<FastifyReply> {
    const at = wholeSeconds(now());
    const subscriptions = await readSubscriptions(context, request, user);
    const me = await describeUser(db, user, subscriptions, overviewConfig, at);
    const invitations = me.referral.invited > 0 ? await listInvitations(db, user.id, LISTED) : [];
    const shown = shownOf(subscriptions);
    const awaited =
      cameFromCheckout && me.tier === 'free'
        ? await findAwaitedPayment({ db, stripe }, user.id, subscriptions, at)
        : 'none';
    return sendPage(request, reply, 'settings', {
      title: 'Settings',
      me,
      pause: shown?.collectionPaused ? { resumesAt: shown.collectionResumesAt } : null,
      isInvited: await awaitsFirstPayment(db, user.id, subscriptions),
      days: daysLeft(me, at),
      billing: anyLive(subscriptions) ? 'manage' : subscriptions.length > 0 ? 'invoices' : 'none',
      invitations: invitations.map((one) => ({ ...one, creditedUntil: creditedUntil(one.convertedAt) })),
      creditHistory: await creditHistory(db, user, at),
      qrCode: await qrCode(me.referral.url),
      awaited,
      // Another payment is on its way, and nobody should pay twice.
      ...((awaited === 'waiting' || awaited === 'late') && { trouble: null }),
      ...(awaited === 'waiting' && { refreshSeconds: REFRESH_SECONDS }),
      ...(cameFromCheckout && me.tier === 'paid' && { notice: THANKS }),
      mail: config.mail && { toProve: addressToProve(user, at), isOff: user.mailOff },
      proving: forms.proving ?? null,
      address: forms.address ?? { values: { email: '' }, errors: {} },
      password: forms.password ?? { errors: {} },
      deletion: forms.deletion ?? { errors: {} },
    });
  }
}

/** The latest lines of a user's credit history, newest first; empty when they were never granted any. */
async function creditHistory(
  db: Db,
  user: User,
  at: Date,
): Promise<{ lines: HistoryLine[]; earlier: number }> {
  if (user.creditUntil === null) return { lines: [], earlier: 0 };
  const point = await pointBefore(db, user.id, user.creditEntryCount, LISTED);
  const lines = linesSince(point, await entriesWithSides(db, user.id, point.seq), at);
  return {
    lines: lines.slice(-LISTED).map(inWords).reverse(),
    earlier: Math.max(0, point.lines + lines.length - LISTED),
  };
}

/** Like `tryPassword`, for a logged-in user. */
async function tryCurrentPassword<T>(
  request: FastifyRequest,
  reply: FastifyReply,
  { email }: User,
  compare: () => Promise<T>,
  isFailure: (outcome: T) => boolean,
): Promise<T | undefined> {
  // A logged-in user always has an address: a tombstone has no sessions.
  return tryPassword(request, reply, email ?? '', compare, isFailure);
}

/**
 * The number at the top of Settings and what it counts; null when the user has no access, or it has no known end: while
 * a payment is past due, access can end before the period does.
 */
function daysLeft({ access, subscription }: Overview, at: Date): { count: number; what: string } | null {
  if (!access.until || (access.reason === 'paid' && subscription?.status === 'past_due')) return null;
  const count = Math.max(0, Math.ceil(secondsBetween(at, access.until) / DAY_SECONDS));
  const isEnding = subscription?.cancelAtPeriodEnd || subscription?.cancelAt != null;
  const renews = access.reason === 'paid' && subscription?.status === 'active' && !isEnding;
  const unit = count === 1 ? 'day' : 'days';
  return { count, what: renews ? `${unit} until your plan renews` : `${unit} left` };
}

/** When the credit of a conversion stops counting as active. */
function creditedUntil(convertedAt: Date | null): Date | null {
  return convertedAt && addSeconds(convertedAt, REFERRAL_CREDIT_DAYS * DAY_SECONDS);
}
