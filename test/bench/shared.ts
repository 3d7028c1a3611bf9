import { hash } from 'node:crypto';

/** What both servers are started with. */
export const WEBHOOK_SECRET = 'whsec_benchmark';
export const SESSION_SECRET = 'a session secret for the benchmark only';

export type Engine = 'sqlite' | 'postgresql';

/** The values in the settings page that differ from user to user. */
export interface SettingsValues {
  email: string;
  code: string;
  periodEnd: string;
  periodEndText: string;
  creditDays: string;
  invited: string;
  converted: string;
  activeCredits: string;
}

/** The settings page as the limit sends it: text, and the names of the values between. */
export type PageParts = (string | { value: keyof SettingsValues })[];

/** An instant as the engine's driver wants it, of epoch seconds. */
export function instantFor(engine: Engine): (seconds: number) => string {
  const iso = (seconds: number): string => new Date(seconds * 1000).toISOString();
  return engine === 'sqlite'
    ? (seconds) => iso(seconds).replace('Z', '+00:00')
    : (seconds) => iso(seconds).replace('T', ' ').replace('Z', '');
}

// Ids lie as scattered in an index as real ones do, and are the same in every run.

/** The id of a user, by a name for them. */
export function userIdOf(name: string): string {
  const hex = hash('sha1', name);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join(
    '-',
  );
}

/** The id of something at Stripe: its prefix, and a name for whose it is. */
export function stripeIdOf(prefix: string, name: string): string {
  return `${prefix}_1${hash('sha1', `${prefix} ${name}`).slice(0, 23)}`;
}
