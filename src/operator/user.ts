import { isOver } from '../access/live.ts';
import { describeUser, overviewConfigOf } from '../access/overview.ts';
import type { SubscriptionView } from '../access/overview.ts';
import { subscriptionsOf } from '../access/subscriptions.ts';
import { isUsable } from '../db/lock-user.ts';
import { counted } from '../wording.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { fieldLines } from './show.ts';
import { accountOf } from './who.ts';

/** `user`: shows an account as its owner sees it. As JSON, the document of `GET /api/me`. */
export async function user(context: CommandContext, who: string): Promise<CommandResult> {
  const { db, config, now, paint } = context;
  const account = await accountOf(context, who);
  const subscriptions = await subscriptionsOf(db, account.id);
  const customers = await db.customer.findMany({ where: { userId: account.id }, orderBy: { id: 'asc' } });
  const me = await describeUser(db, account, subscriptions, overviewConfigOf(config), now);
  const { access, referral, subscription } = me;
  const text = fieldLines(paint, [
    ['id', me.id],
    [
      'email',
      account.deletedAt
        ? `(deleted on ${formatInstant(account.deletedAt)})`
        : `${me.email}${me.emailProven ? ' (proven)' : ''}`,
    ],
    ...(account.deletedAt || isUsable(account, now)
      ? []
      : [
          [
            'login',
            `refused until ${formatInstant(account.shutOutUntil)}: somebody else is proving the address`,
          ] as const,
        ]),
    ['tier', me.tier],
    ['access', access.reason ? `${access.reason}, until ${formatInstant(access.until)}` : 'none'],
    [
      'credit',
      me.creditUntil
        ? `${counted(me.creditDays, 'day')}, until ${formatInstant(me.creditUntil)}${me.creditHeld ? ' (held)' : ''}`
        : 'none',
    ],
    [
      'subscription',
      subscription
        ? `${subscription.status}, ${subscription.plan ?? 'unknown plan'}${endOf(subscription)}`
        : 'none',
    ],
    ['customers', customers.length > 0 ? customers.map(({ id }) => id).join(', ') : 'none'],
    ['referral link', referral.url],
    [
      'invited',
      `${referral.invited}, converted ${referral.converted}, active credits ${referral.activeCredits}`,
    ],
  ]);
  return { text, json: me };
}

function endOf({ status, cancelAt, cancelAtPeriodEnd, currentPeriodEnd }: SubscriptionView): string {
  if (isOver(status)) return '';
  const end = cancelAt ?? (cancelAtPeriodEnd ? currentPeriodEnd : null);
  return end ? `, ends on ${formatInstant(end)}` : '';
}
