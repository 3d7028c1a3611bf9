import type { Stripe } from 'stripe';

import type { Config } from '../config.ts';
import type { User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { isoText } from '../instants.ts';
import { PlainError } from '../plain-error.ts';

export interface CommandContext {
  config: Config;
  db: Db;
  /** The migrations that opening the database applied. */
  migrations: string[];
  sessionSecret: string;
  /** Null when no key is configured. */
  stripe: Stripe | null;
  /** The instant of the command, UTC. */
  now: Date;
  /** The clock, for a command that takes long. */
  clock: () => Date;
}

/** A command's output, as text for people or as one JSON document. */
export interface CommandResult {
  text: string;
  json: unknown;
  /** The command ran but found something wrong: it prints its result and exits with 1. */
  failed?: boolean;
}

/**
 * @param email in any case
 * @throws PlainError when there is no such account
 */
export async function accountOf(db: Db, email: string): Promise<User> {
  const user = await db.user.findUnique({ where: { email: email.trim().toLowerCase() } });
  if (!user) throw new PlainError(`No account has the address ${email}.`);
  return user;
}

/** ISO 8601, UTC, to the second; "-" for null. */
export function formatInstant(instant: Date | null): string {
  return instant ? isoText(instant) : '-';
}
