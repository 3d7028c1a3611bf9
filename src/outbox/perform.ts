import { isMailWork, workOf } from './kinds.ts';
import { sendMailOf } from './mailer.ts';
import type { MailerContext } from './mailer.ts';
import type { Perform } from './sender.ts';

/** What each kind of item is done with. */
export interface Performers {
  /** Null: no mail is sent. What was queued before that waits. */
  mailer: MailerContext | null;
}

/**
 * @param performers what each kind of item is done with
 * @returns does what one item says
 */
export function performerOf({ mailer }: Performers): Perform {
  return async (item, signal) => {
    const work = workOf(item);
    if (!isMailWork(work)) throw new Error(`Nothing does items of the kind ${work.kind}.`);
    if (!mailer) return { status: 'again', why: 'SMTP_URL is not set.' };
    return await sendMailOf(mailer, item, work, signal);
  };
}
