import { describeUser } from '../access/overview.ts';
import { subscriptionsOf } from '../access/subscriptions.ts';
import { accountOf, inText } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';

/**
 * `user`: shows an account as its owner sees it.
 *
 * @param context what every command gets
 * @param email whose account
 * @returns what to print; as JSON, the document of `GET /api/me`
 * @throws PlainError when there is no such account
 */
export async function user({ db, config, now }: CommandContext, email: string): Promise<CommandResult> {
  const { publicUrl } = config;
  const account = await accountOf(db, email);
  const subscriptions = await subscriptionsOf(db, account.id);
  const place = { publicUrl, prices: config.stripe.prices };
  const me = await describeUser(db, account, subscriptions, place, now);
  const { access, referral, subscription } = me;
  const rows = [
    ['id', me.id],
    ['email', `${me.email}${me.emailProven ? ' (proven)' : ''}`],
    ['tier', me.tier],
    ['access', access.reason ? `${access.reason}, until ${inText(access.until)}` : 'none'],
    ['credit', `${me.creditDays} days, until ${inText(me.creditUntil)}${me.creditHeld ? ' (held)' : ''}`],
    [
      'subscription',
      subscription ? `${subscription.status}, ${subscription.plan ?? 'unknown plan'}` : 'none',
    ],
    ['referral link', referral.url],
    [
      'invited',
      `${referral.invited}, converted ${referral.converted}, active credits ${referral.activeCredits}`,
    ],
  ];
  return { text: rows.map(([name = '', value = '']) => `${name.padEnd(14)} ${value}`).join('\n'), json: me };
}
