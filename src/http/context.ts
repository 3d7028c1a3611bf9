import type { Stripe } from 'stripe';

import type { Config } from '../config.ts';
import type { User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import type { Flash } from './cookies.ts';

/** What the server is built from. Every route receives it. */
export interface AppContext {
  config: Config;
  db: Db;
  /** Null when no key is configured. */
  stripe: Stripe | null;
  /** The secret key for the hashes of tokens and the links in mail. */
  sessionSecret: string;
  /** Where the sandbox's pages are; null when the sandbox is off. */
  sandboxUrl: string | null;
  now: () => Date;
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Null for a visitor who is not logged in. */
    user: User | null;
    /** The referral code that this visitor came with. */
    invitationCode: string | null;
    /** A message shown once at the top of the page. After a redirect it comes from a cookie. */
    flash: Flash | null;
  }
}
