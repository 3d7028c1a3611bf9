import { join } from 'node:path';

import { Eta } from 'eta';

import type { Config } from '../config.ts';
import { ROOT } from '../root.ts';
import type { MailWork } from './kinds.ts';
import { wordsOf } from './words.ts';
import type { WordsContext } from './words.ts';

/** An email that is ready to be sent. */
export interface Mail {
  /**
   * Stays the same when the email is sent again, so that mail servers recognise the duplicate (RFC 5322,
   * section 3.6.4).
   */
  messageId: string;
  from: string;
  to: string;
  replyTo: string | null;
  subject: string;
  text: string;
  html: string;
  /** The one-click unsubscribe link (RFC 8058); null for mail that is always sent. */
  unsubscribe: string | null;
}

/** What all emails of a server have in common. */
export type Letterhead = Pick<WordsContext, 'brand' | 'contact' | 'publicUrl'> & Pick<Mail, 'from'>;

export function letterheadOf({ brand, contactEmail, publicUrl, mail }: Config): Letterhead {
  return { brand, contact: contactEmail, publicUrl, from: mail?.from ?? '' };
}

/** What differs from mail to mail. */
export type Particulars = Pick<WordsContext, 'facts' | 'link' | 'isChange' | 'replaces' | 'now'> &
  Pick<Mail, 'to' | 'unsubscribe'> & { id: string };

const eta = new Eta({
  views: join(ROOT, 'views/mail'),
  cache: true,
  // Eta must keep the line breaks, because the text template sets them itself.
  autoTrim: [false, false],
});

/** Renders an email as text and as HTML. */
export function compose(
  work: MailWork,
  { from, ...letterhead }: Letterhead,
  { id, to, unsubscribe, ...context }: Particulars,
): Mail {
  const words = wordsOf(work, { ...letterhead, ...context, to });
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
