import type { FastifyReply, FastifyRequest } from 'fastify';

import { anyLiveAndKnown } from '../../access/live.ts';
import { currentOf, describeUser, overviewConfigOf, subscriptionView } from '../../access/overview.ts';
import type { Overview } from '../../access/overview.ts';
import { isPaid } from '../../access/proof.ts';
import { linesSince, pointBefore } from '../../credits/recent.ts';
import type { Subscription, User } from '../../db/generated/client.ts';
import type { Db } from '../../db/transaction.ts';
import { DAY_SECONDS, secondsBetween, wholeSeconds } from '../../instants.ts';
import { addressToProve } from '../../outbox/links.ts';
import { activeUntil } from '../../referrals/counts.ts';
import { entriesWithSides } from '../../referrals/credit-news.ts';
import { listInvitations } from '../../referrals/invitations.ts';
import { findAwaitedPayment } from '../../stripe/awaited-payment.ts';
import type { AwaitedPayment } from '../../stripe/awaited-payment.ts';
import type { AppContext } from '../context.ts';
import { inWords } from '../credit-words.ts';
import type { HistoryLine } from '../credit-words.ts';
import { awaitsFirstPayment } from '../invitation.ts';
import { takeForNetwork } from '../limits.ts';
import { siteOf } from '../network.ts';
import { sendPage } from '../page.ts';
import type { Notice } from '../page.ts';
import { troubleOf } from '../payment-trouble.ts';
import { createTaker } from '../shares.ts';
import { readSubscriptions } from '../subscriptions.ts';
import { EXPORTED_INVITATIONS } from './export.ts';
import { qrCode } from './qr-code.ts';

/** While waiting for the webhook of a payment, Settings reloads after this long, s. */
const REFRESH_SECONDS = 3;

/**
 * Lines shown of the invitations and of the credit history, newest first. The export contains more of both, but no lines
 * for days that were used.
 */
const LISTED = 50;

/**
 * Requests that may ask Stripe about a payment at the same time, of one site and in all. Stripe's rate limit is shared by
 * everybody. https://docs.stripe.com/rate-limits
 */
const takeCheck = createTaker({ ofNetwork: 2, inAll: 20 }, Infinity);

const THANKS: Notice = {
  kind: 'success',
  text: 'Thank you. You have paid access now.',
};

/** State of the Settings forms when they are rendered again. */
export interface SettingsForms {
  address?: { values: { email: string }; errors: { email?: string; currentPassword?: string } };
  password?: { errors: { currentPassword?: string; newPassword?: string } };
  deletion?: { errors: { currentPassword?: string } };
  /** Why the email that proves the address was not sent again. */
  proving?: { error: string };
}

/**
 * Renders Settings.
 *
 * @param forms what was typed and what was wrong with it, when a form is answered
 * @param cameFromCheckout whether the user has just come back from the checkout: the webhook may still be on its way
 */
export async function sendSettings(
  context: AppContext,
  request: FastifyRequest,
  reply: FastifyReply,
  user: User,
  forms: SettingsForms,
  cameFromCheckout = false,
): Promise<FastifyReply> {
  const { config, db, now } = context;
  const at = wholeSeconds(now());
  const subscriptions = await readSubscriptions(context, request, user);
  const me = await describeUser(db, user, subscriptions, overviewConfigOf(config), at);
  const invitations = me.referral.invited > 0 ? await listInvitations(db, user.id, LISTED) : [];
  const current = currentOf(subscriptions);
  const missing = current !== null && current.missingAt !== null;
  const awaited =
    cameFromCheckout && (me.tier === 'free' || missing)
      ? await checkPayment(context, request, user.id, subscriptions, at)
      : 'none';
  return sendPage(request, reply, 'settings', {
    title: 'Settings',
    me,
    current: current && subscriptionView(current, config.stripe.prices),
    pause: current?.collectionPaused ? { resumesAt: current.collectionResumesAt } : null,
    missing,
    isInvited: await awaitsFirstPayment(db, user.id, subscriptions),
    days: daysLeft(me, { missing, paused: current?.collectionPaused ?? false }, at),
    billing: anyLiveAndKnown(subscriptions) ? 'manage' : subscriptions.some(isPaid) ? 'invoices' : 'none',
    exported: EXPORTED_INVITATIONS,
    invitations: invitations.map((one) => ({ ...one, activeUntil: activeUntil(one.convertedAt, at) })),
    creditHistory: await creditHistory(db, user, at),
    qrCode: await qrCode(me.referral.url),
    awaited,
    known: knownState(me),
    // While another payment may be on its way, do not invite a second one.
    trouble: awaited === 'none' ? troubleOf(subscriptions, user, config.stripe.prices, at) : null,
    ...(awaited === 'waiting' && { refreshSeconds: REFRESH_SECONDS }),
    ...(cameFromCheckout && me.tier === 'paid' && !missing && { notice: THANKS }),
    mail: config.mail && { toProve: addressToProve(user, at), isOff: user.mailOff },
    proving: forms.proving ?? null,
    address: forms.address ?? { values: { email: '' }, errors: {} },
    password: forms.password ?? { errors: {} },
    deletion: forms.deletion ?? { errors: {} },
  });
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

/** Changes with news of the plan. The page's script computes it from `GET /api/me` while it waits for a payment. */
function knownState({ tier, subscription }: Overview): string {
  return [tier, subscription?.status, subscription?.currentPeriodEnd?.toISOString()].join(' ');
}

/**
 * The number at the top of Settings and what it counts; null when the user has no access, or its end is
 * unknown: a payment is past due, payments are paused, or Stripe no longer knows the plan, so nothing will end it.
 *
 * @param plan `missing`: Stripe no longer knows it. `paused`: Stripe collects no payments for it
 */
function daysLeft(
  { access, subscription }: Overview,
  { missing, paused }: { missing: boolean; paused: boolean },
  at: Date,
): { count: number; what: string } | null {
  if (!access.until || (access.reason === 'paid' && subscription?.status === 'past_due')) return null;
  if (missing && access.reason !== 'credit') return null;
  const count = Math.max(0, Math.ceil(secondsBetween(at, access.until) / DAY_SECONDS));
  const isEnding = subscription?.cancelAtPeriodEnd || subscription?.cancelAt != null;
  const renews = access.reason === 'paid' && subscription?.status === 'active' && !isEnding && !missing;
  if (renews && paused) return null;
  const unit = count === 1 ? 'day' : 'days';
  if (renews) return { count, what: `${unit} until your plan renews` };
  const of = { paid: ' of your plan left', trial: ' of your trial left', credit: ' left' };
  return { count, what: `${unit}${of[access.reason ?? 'credit']}` };
}

/**
 * Asks Stripe about the last checkout, unless this network has asked too often, or too many requests are asking at the same
 * time.
 */
async function checkPayment(
  { db, stripe }: AppContext,
  request: FastifyRequest,
  userId: string,
  subscriptions: readonly Subscription[],
  now: Date,
): Promise<AwaitedPayment> {
  const giveBack = takeCheck(siteOf(request.ip), () => undefined);
  const mayAsk = async (): Promise<boolean> => {
    if (!giveBack || !(await takeForNetwork(request, null, 'paymentChecksOfNetwork'))) return false;
    // Otherwise, everybody's pages would wait for Stripe, too.
    request.server.giveBackBeforeWait(request);
    return true;
  };
  try {
    return await findAwaitedPayment({ db, stripe, mayAsk }, userId, subscriptions, now);
  } finally {
    giveBack?.();
  }
}
