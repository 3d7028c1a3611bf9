import type { FastifyInstance } from 'fastify';

import { creditView } from '../access/access.ts';
import { currentOf, planOf } from '../access/overview.ts';
import { tierOf } from '../access/tier.ts';
import type { Prices } from '../config.ts';
import type { Subscription, User } from '../db/generated/client.ts';
import { DAY_SECONDS, secondsBetween, wholeSeconds } from '../instants.ts';
import type { AppContext } from './context.ts';
import { dateText } from './page.ts';
import { readSubscriptions } from './subscriptions.ts';

/** What a page says about a payment problem, and which button it shows. */
export interface PaymentTrouble {
  what: string;
  /** What follows from it: when Stripe tries again, and until when there is access. */
  then: string;
  /** `card`: the customer portal. `plan`: the pricing page. */
  remedy: 'card' | 'plan';
}

/** How long pages explain why a plan ended, s. */
const TELLING_SECONDS = 30 * DAY_SECONDS;

/** Why Stripe ended a plan that its owner did not cancel. */
const END_REASONS: ReadonlyMap<string | null, string> = new Map([
  ['payment_failed', 'its payment failed'],
  ['payment_disputed', 'a payment was disputed'],
]);

/** Finds the user's payment problem, if any, before each page requested with GET, so that the layout can show it. */
export function tellPaymentTrouble(app: FastifyInstance, context: AppContext): void {
  app.addHook('preHandler', async function readTrouble(request) {
    const { user, method, url } = request;
    if (!user || method !== 'GET' || url.startsWith('/api/')) return;
    const subscriptions = await readSubscriptions(context, request, user);
    request.trouble = troubleOf(
      subscriptions,
      user,
      context.config.stripe.prices,
      wholeSeconds(context.now()),
    );
  });
}

/**
 * The payment problem of the user's current subscription; null when there is none, or when Stripe does not know the
 * subscription, so that nothing can be done about it.
 */
export function troubleOf(
  subscriptions: readonly Subscription[],
  user: Pick<User, 'creditUntil' | 'creditHeldAt'>,
  prices: Prices,
  now: Date,
): PaymentTrouble | null {
  const subscription = currentOf(subscriptions);
  if (!subscription || subscription.missingAt !== null) return null;
  const { creditUntil, creditDays } = creditView(user, now);
  const access = (without: string): string =>
    creditUntil ? `Your free days give you paid access until ${dateText(creditUntil)}.` : without;

  switch (subscription.status) {
    case 'past_due': {
      const next = nextAttempt(subscription, now);
      const retry = next && `Stripe will try again on ${dateText(next)}.`;
      if (tierOf(subscription) !== 'paid') {
        const starts = 'Your plan starts once the payment goes through.';
        const then = join(retry, starts, access('Until then you have no paid access.'));
        return { what: 'Your first payment failed.', then, remedy: 'card' };
      }
      const days = creditDays === 1 ? 'free day continues' : `${creditDays} free days continue`;
      const then = join(
        retry,
        whilePaid(subscription, next),
        creditUntil && `If your plan ends, your ${days}.`,
      );
      return { what: 'Your last payment failed.', then, remedy: 'card' };
    }
    case 'unpaid': {
      const isFirst = subscription.provenAt === null;
      return {
        what: `Your ${isFirst ? 'first' : 'last'} payment failed, and Stripe has stopped trying.`,
        then: join(
          access(isFirst ? 'You have no paid access.' : 'Your paid access has ended.'),
          `Your plan ${isFirst ? 'starts' : 'continues'} once the open invoice is paid.`,
        ),
        remedy: 'card',
      };
    }
    case 'paused':
      return {
        what: 'Your plan is paused.',
        then: join(
          access('You have no paid access now.'),
          'Check that a valid card is on file, then contact us.',
        ),
        remedy: 'card',
      };
    case 'incomplete':
      return {
        what: 'Your first payment has not gone through.',
        then: join('Your plan has not started, and nothing was charged.', access('')),
        remedy: 'plan',
      };
    case 'canceled': {
      const why = END_REASONS.get(subscription.endReason);
      const endedAt = subscription.endedAt ?? subscription.statusAt;
      if (!why || !endedAt || secondsBetween(endedAt, now) > TELLING_SECONDS) return null;
      const plan = planOf(subscription, prices);
      return {
        what: `Your ${plan ? `${plan} plan` : 'plan'} ended on ${dateText(endedAt)} because ${why}.`,
        then: access('You have no paid access now. Any backups you made are still there.'),
        remedy: 'plan',
      };
    }
    default:
      return null;
  }
}

/** Null for a time that has passed: that attempt failed, or its event is still to come. */
function nextAttempt({ nextAttemptAt }: Subscription, now: Date): Date | null {
  return nextAttemptAt && nextAttemptAt > now ? nextAttemptAt : null;
}

/** How long access lasts while Stripe tries again. Stripe does not say which attempt is the last one. */
function whilePaid({ cancelAt }: Subscription, next: Date | null): string {
  if (cancelAt && (next === null || cancelAt <= next))
    return `You keep paid access until ${dateText(cancelAt)} at the latest.`;
  return next
    ? 'You keep paid access at least until then.'
    : 'You keep paid access for now, but it ends if the payment does not go through.';
}

function join(...sentences: (string | null)[]): string {
  return sentences.filter((one) => one !== null && one !== '').join(' ');
}

declare module 'fastify' {
  interface FastifyRequest {
    trouble: PaymentTrouble | null;
  }
}
