import type { FastifyInstance } from 'fastify';
import * as z from 'zod';

import { describeUser, overviewConfigOf } from '../access/overview.ts';
import { subscriptionsOf } from '../access/subscriptions.ts';
import { PLANS } from '../config.ts';
import { REFERRAL_CREDIT_DAYS } from '../referrals/convert.ts';
import { MOST_OPEN } from '../referrals/counts.ts';
import { answers, json } from './api.ts';
import type { AppContext } from './context.ts';
import { LOG_IN_FIRST } from './log-in-first.ts';

const overview = z
  .object({
    id: z.string(),
    email: z.string(),
    emailProven: z.boolean().meta({ description: 'Whether the address was confirmed with a mailed link.' }),
    tier: z.enum(['free', 'trial', 'paid']).meta({ description: "What the account's subscriptions say." }),
    creditUntil: z
      .date()
      .nullable()
      .meta({ description: 'When credit would run out if it ran from now on; null when none is left.' }),
    creditHeld: z.boolean().meta({ description: 'Whether there is credit, paused because the user pays.' }),
    creditDays: z.int().meta({ description: 'Days of credit left, rounded up.' }),
    access: z.object({
      granted: z.boolean(),
      until: z.date().nullable().meta({
        description:
          'The end of the current period, the trial or the credit, or the date of a planned cancellation; null without access, or if unknown. A plan that renews continues after it.',
      }),
      reason: z.enum(['paid', 'trial', 'credit']).nullable(),
    }),
    referral: z.object({
      code: z.string(),
      url: z.string().meta({ description: 'The link that invites friends.' }),
      invited: z.int().meta({
        description: `Friends who signed up with it; of those who have not converted, at most ${MOST_OPEN} are counted.`,
      }),
      converted: z.int().meta({ description: 'Of these, those whose first payment counts.' }),
      activeCredits: z
        .int()
        .meta({ description: `Of these, those credited in the last ${REFERRAL_CREDIT_DAYS} days.` }),
    }),
    subscription: z
      .object({
        status: z.string().meta({ description: 'As Stripe names it.' }),
        plan: z.enum(PLANS).nullable().meta({ description: 'Null: the price is not ours.' }),
        currentPeriodEnd: z.date().nullable(),
        cancelAt: z.date().nullable(),
        cancelAtPeriodEnd: z.boolean().meta({ description: 'Whether it ends with the current period.' }),
        trialEnd: z.date().nullable(),
      })
      .nullable()
      .meta({
        description:
          'The one that gives the tier, else the newest; null without a subscription to one of our products.',
      }),
  })
  .meta({ id: 'Account' });

const ME = {
  tags: ['Account'],
  summary: 'The account that is logged in',
  security: [{ session: [] }],
  response: answers({ 200: json('The account.', overview) }, { 401: null }),
};

/** `GET /api/me`. */
export function meRoute(app: FastifyInstance, { config, db, now }: AppContext): void {
  const overviewConfig = overviewConfigOf(config);
  app.get('/api/me', { schema: ME }, async (request) => {
    if (!request.user) throw LOG_IN_FIRST;
    const subscriptions = await subscriptionsOf(db, request.user.id);
    return describeUser(db, request.user, subscriptions, overviewConfig, now());
  });
}
