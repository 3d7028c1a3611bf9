import { join } from 'node:path';

import { Eta } from 'eta';

import type { Config } from '../config.ts';
import { ROOT } from '../root.ts';
import { wordsOf } from './words.ts';
import type { WordsContext } from './words.ts';
import type { MailWork } from './kinds.ts';

/** A mail, ready to be sent. */
export interface Mail {
  /** Stays the same when it is sent again, so that the reader's mail server recognises it (RFC 5322, section 3.6.4). */
  messageId: string;
  from: string;
  to: string;
  replyTo: string | null;
  subject: string;
  text: string;
  html: string;
  /** One click on it turns such mail off (RFC 8058); null where it is always sent. */
  unsubscribe: string | null;
}

/** What every mail of a server has in common. */
export type Letterhead = Pick<WordsContext, 'brand' | 'contact' | 'publicUrl'> & Pick<Mail, 'from'>;

/** @returns what every mail of this server has */
export function letterheadOf({ brand, contactEmail, publicUrl, mail }: Config): Letterhead {
  return { brand, contact: contactEmail, publicUrl, from: mail?.from ?? '' };
}

/** Of one mail. */
export type Particulars = Pick<WordsContext, 'facts' | 'link' | 'isChange' | 'now'> &
  Pick<Mail, 'to' | 'unsubscribe'> & { id: string };

const eta = new Eta({
  views: join(ROOT, 'views/mail'),
  cache: true,
  // Where a line of a text ends is said in it.
  autoTrim: [false, false],
});

/**
 * @param work the mail's kind and data
 * @param letterhead what every mail has
 * @param particulars what only this one has
 * @returns the mail as text and as HTML
 */
export function compose(
  work: MailWork,
  { from, ...letterhead }: Letterhead,
  { id, to, unsubscribe, ...context }: Particulars,
): Mail {
  const words = wordsOf(work, { ...letterhead, ...context });
  const data = { ...letterhead, ...words, unsubscribe };
  return {
    messageId: `<${id}@${new URL(letterhead.publicUrl).hostname}>`,
    from,
    to,
    replyTo: letterhead.contact,
    subject: words.subject,
    text: `${eta.render('./text', data).trim()}\n`,
    html: eta.render('./html', data),
    unsubscribe,
  };
}
