import { describeUser } from '../access/overview.ts';
import { subscriptionsOf } from '../access/subscriptions.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { fieldLines } from './show.ts';
import { accountOf } from './who.ts';
import { counted } from '../wording.ts';

/** `user`: shows an account as its owner sees it. As JSON, the document of `GET /api/me`. */
export async function user(context: CommandContext, who: string): Promise<CommandResult> {
  const { db, config, now, paint } = context;
  const { publicUrl } = config;
  const account = await accountOf(context, who);
  const subscriptions = await subscriptionsOf(db, account.id);
  const place = { publicUrl, prices: config.stripe.prices };
  const me = await describeUser(db, account, subscriptions, place, now);
  const { access, referral, subscription } = me;
  const text = fieldLines(paint, [
    ['id', me.id],
    [
      'email',
      account.deletedAt
        ? `(deleted on ${formatInstant(account.deletedAt)})`
        : `${me.email}${me.emailProven ? ' (proven)' : ''}`,
    ],
    ['tier', me.tier],
    ['access', access.reason ? `${access.reason}, until ${formatInstant(access.until)}` : 'none'],
    [
      'credit',
      `${counted(me.creditDays, 'day')}, until ${formatInstant(me.creditUntil)}${me.creditHeld ? ' (held)' : ''}`,
    ],
    [
      'subscription',
      subscription ? `${subscription.status}, ${subscription.plan ?? 'unknown plan'}` : 'none',
    ],
    ['referral link', referral.url],
    [
      'invited',
      `${referral.invited}, converted ${referral.converted}, active credits ${referral.activeCredits}`,
    ],
  ]);
  return { text, json: me };
}
