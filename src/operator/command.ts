import type { Stripe } from 'stripe';

import type { Config } from '../config.ts';
import type { Db } from '../db/transaction.ts';
import { isoText } from '../instants.ts';
import type { Paint } from '../terminal.ts';
import type { Table } from './show.ts';

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
  /** The clock, for long-running commands. */
  clock: () => Date;
  /** Colours text on a terminal. */
  paint: Paint;
}

/** A command's output, as text for people or as one JSON document. */
export interface CommandResult {
  text: string;
  /** What a terminal shows instead of the text. */
  table?: Table;
  json: unknown;
  /** The command ran but found something wrong: it prints its result and exits with 1. */
  failed?: boolean;
}

/** ISO 8601, UTC, to the second; "-" for null. */
export function formatInstant(instant: Date | null): string {
  return instant ? isoText(instant) : '-';
}
