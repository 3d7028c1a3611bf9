import { expect } from 'vitest';

import { runCli } from './process.ts';
import type { CliOutcome } from './process.ts';
import { SESSION_SECRET, WEBHOOK_SECRET } from './server.ts';

/** The database a command uses, and further environment variables. */
export interface Place {
  databaseUrl: string;
  env?: Record<string, string>;
}

/** The settings of the server under test, for the command line. */
export const CLI_ENV = {
  PUBLIC_URL: 'http://tandem.test',
  SESSION_SECRET,
  STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET,
  STRIPE_PRICE_MONTHLY: 'price_m',
  STRIPE_PRICE_ANNUAL: 'price_a',
};

/** Runs the command line to its end, with the settings of the server under test. */
export function cli({ databaseUrl, env }: Place, ...args: string[]): Promise<CliOutcome> {
  return runCli(args, { ...CLI_ENV, ...env, DATABASE_URL: databaseUrl });
}

/** The output of a command that must succeed with nothing on stderr. */
export async function cliText(place: Place, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await cli(place, ...args);
  expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: '' });
  return stdout;
}

/** The JSON document of a command that must succeed. */
export async function cliJson<T>(place: Place, ...args: string[]): Promise<T> {
  return JSON.parse(await cliText(place, ...args, '--json')) as T;
}
