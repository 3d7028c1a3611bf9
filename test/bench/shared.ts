import { hash } from 'node:crypto';

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

/** The settings page as the baseline sends it: text, with the names of the values in between. */
export type PageParts = (string | { value: keyof SettingsValues })[];

/** Epoch seconds as the instant that the engine's driver expects. */
export function instantFor(engine: Engine): (seconds: number) => string {
  const iso = (seconds: number): string => new Date(seconds * 1000).toISOString();
  return engine === 'sqlite'
    ? (seconds) => iso(seconds).replace('Z', '+00:00')
    : (seconds) => iso(seconds).replace('T', ' ').replace('Z', '');
}

// Ids are as scattered in an index as real ones, and the same in every run.

/** A user's id, derived from a name. */
export function userIdOf(name: string): string {
  const hex = hash('sha1', name);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join(
    '-',
  );
}

/** A Stripe object's id: its prefix and the name of its owner. */
export function stripeIdOf(prefix: string, name: string): string {
  return `${prefix}_1${hash('sha1', `${prefix} ${name}`).slice(0, 23)}`;
}
