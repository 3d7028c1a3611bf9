import type { OutboxItem } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { compose } from './compose.ts';
import type { Letterhead } from './compose.ts';
import { readMailFacts } from './facts.ts';
import type { Outcome } from './items.ts';
import { canBeTurnedOff } from './kinds.ts';
import type { MailWork } from './kinds.ts';
import { unsubscribeUrl } from './links.ts';
import type { SendMail } from './smtp.ts';
import { whyDrop } from './still-true.ts';

/** What mails are made of and sent with. */
export interface MailerContext {
  db: Db;
  letterhead: Letterhead;
  /** SESSION_SECRET. */
  secret: string;
  send: SendMail;
  now: () => Date;
}

/**
 * Sends one mail of the outbox, unless what it says is no longer true.
 *
 * @param context what mails are made of and sent with
 * @param item its row
 * @param work what it says
 * @param signal aborts when nobody waits for it any more
 * @returns what came of it
 */
export async function sendMailOf(
  { db, letterhead, secret, send, now: clock }: MailerContext,
  item: OutboxItem,
  work: MailWork,
  signal: AbortSignal,
): Promise<Outcome> {
  const now = clock();
  const facts = await readMailFacts(db, item, work);
  const why = whyDrop(work, facts, now);
  if (why !== null) return { status: 'dropped', why };
  const to = item.address ?? facts.user?.email ?? null;
  if (to === null) return { status: 'dropped', why: 'There is no address to send it to.' };
  const unsubscribe =
    facts.user && canBeTurnedOff(work.kind)
      ? unsubscribeUrl({ publicUrl: letterhead.publicUrl, secret }, facts.user.id)
      : null;
  const mail = compose(work, letterhead, {
    id: item.id,
    to,
    unsubscribe,
    facts,
    link: null,
    isChange: false,
    now,
  });
  signal.throwIfAborted();
  return send(mail, signal);
}
