import type { Stripe } from 'stripe';

import type { Config } from '../config.ts';
import type { User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import type { Flash } from './cookies.ts';

/** What the server is built from, and every route gets. */
export interface AppContext {
  config: Config;
  db: Db;
  /** Null when no key is configured. */
  stripe: Stripe | null;
  /** Keys the hashes of session and reset tokens. */
  sessionSecret: string;
  /** Where the sandbox's pages are; null when it is off. */
  sandboxUrl: string | null;
  now: () => Date;
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Who is logged in; null for a visitor. */
    user: User | null;
    /** The code of the friend who invited this visitor. */
    invitationCode: string | null;
    /** What the page says once, at its top; after a redirect it comes from a cookie instead. */
    flash: Flash | null;
  }
}
