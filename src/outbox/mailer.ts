import { isUnclaimed } from '../accounts/addresses.ts';
import { takeRoom } from '../accounts/mail-limit.ts';
import { findResetLink } from '../accounts/reset-link.ts';
import type { OutboxItem, User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { addSeconds, secondsBetween, wholeSeconds } from '../instants.ts';
import { compose } from './compose.ts';
import type { Letterhead, Particulars } from './compose.ts';
import { readMailFacts } from './facts.ts';
import { LEASE_SECONDS, WAITS } from './items.ts';
import type { Outcome } from './items.ts';
import { canBeTurnedOff } from './kinds.ts';
import type { MailWork } from './kinds.ts';
import { proveLink, resetToken, resetUrl, unsubscribeUrl } from './links.ts';
import type { SendMail } from './smtp.ts';
import { whyDrop } from './still-true.ts';

export interface MailerContext {
  db: Db;
  letterhead: Letterhead;
  /** SESSION_SECRET. */
  secret: string;
  send: SendMail;
  now: () => Date;
}

/** An email that waits for an older one about the same days looks again this long after the older one's next try, s. */
const AFTER_OLDER_SECONDS = 60;

/**
 * An email that waits looks again after at most this long, s: the one that it waits for may have been sent again by an
 * operator, or may have failed or been dropped.
 */
const LOOK_SECONDS = 15 * 60;

/**
 * Sends one email of the outbox, or drops it when what it says is no longer true. Emails about the same days go out one
 * after the other, because whether one of them is news depends on which others were sent.
 *
 * @param signal aborts when the attempt has timed out or the server closes
 */
export async function sendMailOf(
  context: MailerContext,
  item: OutboxItem,
  work: MailWork,
  signal: AbortSignal,
): Promise<Outcome> {
  const { db, letterhead, secret } = context;
  const now = context.now();
  const facts = await readMailFacts(db, item, work);
  const why = whyDrop(work, item, facts, now);
  if (why !== null) return { status: 'dropped', why };
  if (facts.olderDueAt)
    return { status: 'waits', why: WAITS.forOlder, until: afterOlder(facts.olderDueAt, wholeSeconds(now)) };
  const addressed = await addressOf(context, item, work, facts.user, now);
  if (addressed === null) return { status: 'dropped', why: 'Its link no longer works.' };
  const unsubscribe =
    facts.user && canBeTurnedOff(work.kind)
      ? unsubscribeUrl({ publicUrl: letterhead.publicUrl, secret }, facts.user)
      : null;
  const mail = compose(work, letterhead, { id: item.id, facts, unsubscribe, now, ...addressed });
  const room = facts.user ? await takeRoom(db, facts.user, item, work, now) : 'free';
  if (room === 'full')
    return { status: 'dropped', why: 'The address is unproven and has reached its daily limit of emails.' };
  if (room === 'waits')
    return { status: 'waits', why: WAITS.forOthers, until: addSeconds(wholeSeconds(now), LOOK_SECONDS) };
  signal.throwIfAborted();
  return context.send(mail, signal);
}

/** When to look again for the outcome of an older email. If that is due within a lease, it may be being sent now. */
function afterOlder(dueAt: Date, now: Date): Date {
  const mayBeInFlight = secondsBetween(now, dueAt) <= LEASE_SECONDS;
  const next = addSeconds(mayBeInFlight ? now : dueAt, AFTER_OLDER_SECONDS);
  const latest = addSeconds(now, LOOK_SECONDS);
  return next < latest ? next : latest;
}

/** Returns the recipient, and the link if the email has one. Null when the link no longer works. */
async function addressOf(
  { db, letterhead: { publicUrl }, secret }: MailerContext,
  item: OutboxItem,
  { kind }: MailWork,
  user: User | null,
  now: Date,
): Promise<Pick<Particulars, 'to' | 'link' | 'isChange' | 'replaces'> | null> {
  const to = item.address ?? user?.email ?? '';
  if (kind === 'mail.prove-address') {
    const link = user && proveLink({ publicUrl, secret }, user, item, now);
    if (!link) return null;
    const { address, url, isChange } = link;
    const holder = isChange ? await db.user.findUnique({ where: { email: address } }) : null;
    const replaces = holder !== null && (await isUnclaimed(db, holder));
    return { to: address, link: url, isChange, replaces };
  }
  if (kind === 'mail.reset-password') {
    const token = resetToken(secret, item.id);
    const found = await findResetLink(db, secret, token, now);
    // Its reader can take over the account, so it goes only to that account's address.
    return found?.user.email === to
      ? { to, link: resetUrl(publicUrl, token), isChange: false, replaces: false }
      : null;
  }
  return { to, link: null, isChange: false, replaces: false };
}
