import type { Stripe } from 'stripe';

import type { Db } from '../db/transaction.ts';
import { expire } from '../stripe/end-payments.ts';
import { tellCustomerAddress } from '../stripe/tell-customer-address.ts';
import type { Outcome } from './items.ts';
import { isMailWork, workOf } from './kinds.ts';
import { sendMailOf } from './mailer.ts';
import type { MailerContext } from './mailer.ts';
import type { Perform } from './sender.ts';

/** The dependencies for carrying out an item. */
export interface Performers {
  db: Db;
  /** Null when no API key is configured. */
  stripe: Stripe | null;
  /** Null when mail is off. */
  mailer: MailerContext | null;
  now: () => Date;
}

export function performerOf({ db, stripe, mailer, now }: Performers): Perform {
  return async (item, signal) => {
    const work = workOf(item);
    if (isMailWork(work)) {
      // The item was queued while mail was on. Keep it, in case mail is off only for a while.
      return mailer ? await sendMailOf(mailer, item, work, signal) : again('SMTP_URL is not set.');
    }
    if (!stripe) return again('STRIPE_API_KEY is not set.');
    if (work.kind === 'stripe.expire-checkout') {
      const isClosed = await expire(stripe, work.data.sessionId);
      return isClosed
        ? { status: 'done' }
        : again('Stripe refuses to close the checkout: a payment may be under way.');
    }
    const told = await tellCustomerAddress({ db, stripe }, work.data.customerId, item.address, now());
    return told === 'told'
      ? { status: 'done' }
      : {
          status: 'dropped',
          why: 'The customer is no longer used, or its account no longer exists.',
        };
  };
}

function again(why: string): Outcome {
  return { status: 'again', why };
}
