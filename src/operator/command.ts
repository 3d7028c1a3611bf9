import type { Stripe } from 'stripe';

import type { Config } from '../config.ts';
import type { User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { isoText } from '../instants.ts';
import { PlainError } from '../plain-error.ts';

/** What every command gets. */
export interface CommandContext {
  config: Config;
  db: Db;
  /** The migrations that opening the database applied. */
  migrations: string[];
  sessionSecret: string;
  /** Null when no key is configured: then Stripe cannot be asked. */
  stripe: Stripe | null;
  /** The instant of the command, UTC. */
  now: Date;
  /** The clock, for a command that takes long. */
  clock: () => Date;
}

/** What a command prints: as text for people, or as one JSON document. */
export interface CommandResult {
  text: string;
  json: unknown;
  /** It was done, and what came out is bad news: printed all the same, and exit 1. */
  failed?: boolean;
}

/**
 * @param db the database
 * @param email an address, in any case
 * @returns the account
 * @throws PlainError when there is none
 */
export async function accountOf(db: Db, email: string): Promise<User> {
  const user = await db.user.findUnique({ where: { email: email.trim().toLowerCase() } });
  if (!user) throw new PlainError(`No account has the address ${email}.`);
  return user;
}

/**
 * @param instant an instant, or null for none
 * @returns it in ISO 8601, UTC, to the second; "-" for none
 */
export function inText(instant: Date | null): string {
  return instant ? isoText(instant) : '-';
}
