import { describeUser } from '../../access/overview.ts';
import type { OverviewConfig } from '../../access/overview.ts';
import { subscriptionsOf } from '../../access/subscriptions.ts';
import type { User } from '../../db/generated/client.ts';
import type { Db } from '../../db/transaction.ts';
import { listInvitations } from '../../referrals/invitations.ts';

/**
 * The export is written in one go, so lists that can be made long at no cost are bounded: anybody can sign up with a
 * published code thousands of times, cause thousands of emails about their own account, or switch plans back and forth
 * in the portal, where each switch makes an invoice of zero.
 */
export const EXPORTED_INVITATIONS = 1_000;
const EXPORTED_EMAILS = 1_000;
const EXPORTED_INVOICES = 1_000;

/**
 * Exports everything stored about a user as one JSON document. Only the newest invitations and emails are included, up
 * to a limit. Invoices have a limit too: those that moved money come first, then the newest others. Left out are
 * subscriptions that never began (except the newest) with their invoices, hashes (of passwords, tokens and addresses),
 * operators' notes, the other account of an audit row, the data of outbox items, and reset links with their emails: a
 * stranger who is logged in must not learn when the owner asks for one. Payments appear under their invoices, without
 * amounts. Stripe's events appear through what they changed: their payloads are copies of what Stripe has, may name other
 * people, and are thinned by `prune` after EVENT_RETENTION_DAYS.
 */
export async function exportAccount(db: Db, user: User, config: OverviewConfig, now: Date): Promise<string> {
  const ofUser = { where: { userId: user.id } };
  const subscriptions = await subscriptionsOf(db, user.id);
  const account = await describeUser(db, user, subscriptions, config, now);
  const [
    invitedBy,
    creditEntries,
    auditRows,
    customers,
    lastCheckout,
    invoices,
    sessions,
    backups,
    outbox,
    invitations,
  ] = await Promise.all([
    db.referral.findUnique({
      where: { referredId: user.id },
      select: {
        id: true,
        createdAt: true,
        convertedAt: true,
        creditedAt: true,
        reversedAt: true,
        refusedFor: true,
      },
    }),
    db.creditEntry.findMany({ ...ofUser, orderBy: { seq: 'asc' }, omit: { userId: true } }),
    // Notes are written by operators for operators, and the other account is somebody else's.
    db.auditRow.findMany({
      ...ofUser,
      orderBy: [{ at: 'asc' }, { id: 'asc' }],
      omit: { userId: true, note: true, otherUserId: true },
    }),
    db.customer.findMany({ ...ofUser, omit: { userId: true } }),
    db.checkout.findUnique({ ...ofUser, omit: { userId: true } }),
    db.invoice.findMany({
      where: { subscriptionId: { in: subscriptions.map(({ id }) => id) } },
      // Those that moved money first: each switch between plans can make one of zero.
      orderBy: [{ positive: 'desc' }, { paidAt: { sort: 'desc', nulls: 'last' } }, { id: 'asc' }],
      take: EXPORTED_INVOICES,
      include: { payments: { include: { disputes: true } } },
    }),
    db.session.findMany({ ...ofUser, select: { expiresAt: true } }),
    db.backup.findMany({ ...ofUser, orderBy: { number: 'asc' }, omit: { userId: true } }),
    // Their data can name somebody else's referral.
    db.outboxItem.findMany({
      where: { userId: user.id, kind: { not: 'mail.reset-password' } },
      orderBy: [{ createdAt: 'desc' }, { id: 'asc' }],
      take: EXPORTED_EMAILS,
      select: { kind: true, address: true, createdAt: true, status: true, endedAt: true },
    }),
    listInvitations(db, user.id, EXPORTED_INVITATIONS),
  ]);
  const allButBackups = {
    exportedAt: now,
    account: {
      ...account,
      createdAt: user.createdAt,
      emailSetAt: user.emailSetAt,
      emailProvenAt: user.emailProvenAt,
      pendingEmail: user.pendingEmail,
      pendingEmailAt: user.pendingEmailAt,
      mailOff: user.mailOff,
    },
    sessions,
    invitedBy,
    invitations,
    creditEntries,
    auditRows,
    customers,
    lastCheckout,
    subscriptions: subscriptions.map(({ trialHash: _hash, ...kept }) => kept),
    invoices,
    outbox,
  };
  // Backups are copied as the JSON that they are stored as. Parsing and formatting megabytes of them would keep everybody
  // else waiting.
  const copies = backups.map(({ document, ...about }) => {
    const described = JSON.stringify(about).slice(0, -1);
    return `\n    ${described},"document":${document}}`;
  });
  const described = JSON.stringify(allButBackups, null, 2).slice(0, -2);
  return `${described},\n  "backups": [${copies.join(',')}]\n}\n`;
}
