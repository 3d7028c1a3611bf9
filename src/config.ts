import { isIP } from 'node:net';

import { z } from 'zod';

import { PlainError } from './plain-error.ts';

/** Everything that the environment decides. */
export interface Config {
  production: boolean;
  host: string;
  port: number;
  /** Where browsers reach us: an origin, without a slash at the end. */
  publicUrl: string;
  databaseUrl: string;
  /** Null outside production: then one is made and kept in the data folder. */
  sessionSecret: string | null;
  logLevel: string;
  /** Addresses and CIDRs of the proxies in front. */
  trustProxy: string[];
  stripe: StripeConfig;
  /** How long after a payment its refund, or a dispute, takes a conversion's credit back, days. */
  clawbackDays: number;
  /** How long the payloads of events are kept whole, days. */
  eventRetentionDays: number;
  /** No Stripe is configured, and this is not production: a stand-in takes its place. */
  sandbox: boolean;
}

export interface StripeConfig {
  apiKey: string | null;
  /** Where Stripe's API is, when that is not Stripe. */
  apiBase: string | null;
  /** Any of them may have signed a webhook; none: webhooks are refused. */
  webhookSecrets: string[];
  prices: Prices;
  /** Only subscriptions with an item of one of these products count; null: every subscription does. */
  products: string[] | null;
  /** Length of the trial that a first checkout offers, days; 0 offers none. */
  trialDays: number;
}

export interface Prices {
  monthly: string | null;
  annual: string | null;
}

/** The prices that the sandbox sells at. */
export const SANDBOX_PRICES = { monthly: 'price_sandbox_monthly', annual: 'price_sandbox_annual' };

const text = z.string().min(1);

function wholeNumber(min: number, max: number) {
  return z
    .string()
    .regex(/^\d+$/)
    .transform(Number)
    .refine((value) => value >= min && value <= max);
}

function list(isEntry: (entry: string) => boolean) {
  return z
    .string()
    .transform((value) => value.split(',').map((entry) => entry.trim()))
    .refine((entries) => entries.every(isEntry));
}

function httpOrigin(value: string): boolean {
  if (!URL.canParse(value)) return false;
  const { protocol, origin, href } = new URL(value);
  return /^https?:$/.test(protocol) && href === `${origin}/`;
}

function databaseAddress(value: string): boolean {
  if (/^postgres(ql)?:\/\//.test(value)) return URL.canParse(value) && new URL(value).pathname.length > 1;
  return /^file:.+/.test(value);
}

function addressOrRange(entry: string): boolean {
  const [address = '', bits, ...rest] = entry.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128));
}

/** Each variable, and in words what it wants: the words follow its name when the value is bad. */
const VARIABLES = {
  NODE_ENV: [text.optional(), 'a word, such as production'],
  HOST: [text.default('127.0.0.1'), 'an address to listen on'],
  PORT: [wholeNumber(1, 65_535).default(3000), 'a port, 1 to 65535'],
  PUBLIC_URL: [z.string().refine(httpOrigin).optional(), 'an http or https address without a path'],
  DATABASE_URL: [
    z.string().refine(databaseAddress).default('file:./data/tandem.db'),
    'file: and the path of a SQLite database, or postgresql://user:password@host:port/database',
  ],
  STRIPE_API_KEY: [
    z
      .string()
      .regex(/^(sk|rk)_\S+$/)
      .optional(),
    "Stripe's secret or restricted key (sk_… or rk_…)",
  ],
  STRIPE_WEBHOOK_SECRET: [
    list((secret) => /^whsec_\S+$/.test(secret)).optional(),
    'the signing secret of the webhook endpoint (whsec_…), or several with commas between them',
  ],
  STRIPE_PRICE_MONTHLY: [z.string().regex(/^\S+$/).optional(), 'the id of a price at Stripe (price_…)'],
  STRIPE_PRICE_ANNUAL: [z.string().regex(/^\S+$/).optional(), 'the id of a price at Stripe (price_…)'],
  STRIPE_PRODUCTS: [
    list((id) => /^prod_\S+$/.test(id)).optional(),
    'the ids of products at Stripe (prod_…), with commas between them',
  ],
  STRIPE_API_BASE: [z.string().refine(httpOrigin).optional(), 'an http or https address without a path'],
  STRIPE_TRIAL_DAYS: [wholeNumber(0, 730).default(0), 'a whole number of days, 0 to 730'],
  SESSION_SECRET: [z.string().min(16).optional(), 'at least 16 random characters'],
  LOG_LEVEL: [
    z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
    'one of fatal, error, warn, info, debug, trace, silent',
  ],
  TRUST_PROXY: [
    list(addressOrRange).default([]),
    'the addresses or CIDRs of the proxies in front, with commas between them (a number would trust nobody)',
  ],
  REFERRAL_CLAWBACK_DAYS: [wholeNumber(0, 3650).default(30), 'a whole number of days, 0 to 3650'],
  EVENT_RETENTION_DAYS: [wholeNumber(1, 3650).default(90), 'a whole number of days, 1 to 3650'],
} as const;

type Variables = { [Name in keyof typeof VARIABLES]: z.output<(typeof VARIABLES)[Name][0]> };

const environment = z.object(
  Object.fromEntries(Object.entries(VARIABLES).map(([name, [type]]) => [name, type])),
) as unknown as z.ZodType<Variables>;

/** In production nothing is made up: each of these must be set. */
const PRODUCTION_SECRETS = ['STRIPE_API_KEY', 'STRIPE_WEBHOOK_SECRET', 'SESSION_SECRET'] as const;

/**
 * Reads the configuration. A variable that is set to nothing counts as not set.
 *
 * @param env the environment
 * @returns the configuration
 * @throws PlainError of one line that names the variable and what it wants
 */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  const parsed = environment.safeParse(
    Object.fromEntries(Object.entries(env).filter(([, value]) => value !== '')),
  );
  if (!parsed.success) {
    const name = String(parsed.error.issues[0]?.path[0]) as keyof Variables;
    throw new PlainError(`${name} wants ${VARIABLES[name][1]}.`);
  }
  const values = parsed.data;
  const production = values.NODE_ENV === 'production';
  if (production) refuseInProduction(values);

  const { STRIPE_API_KEY, STRIPE_WEBHOOK_SECRET, STRIPE_API_BASE } = values;
  const sandbox = !production && !STRIPE_API_KEY && !STRIPE_WEBHOOK_SECRET && !STRIPE_API_BASE;
  const prices = { monthly: values.STRIPE_PRICE_MONTHLY ?? null, annual: values.STRIPE_PRICE_ANNUAL ?? null };
  return {
    production,
    host: values.HOST,
    port: values.PORT,
    publicUrl: new URL(values.PUBLIC_URL ?? `http://localhost:${values.PORT}`).origin,
    databaseUrl: values.DATABASE_URL,
    sessionSecret: values.SESSION_SECRET ?? null,
    logLevel: values.LOG_LEVEL,
    trustProxy: values.TRUST_PROXY,
    stripe: {
      apiKey: STRIPE_API_KEY ?? null,
      apiBase: STRIPE_API_BASE ?? null,
      webhookSecrets: STRIPE_WEBHOOK_SECRET ?? [],
      prices: sandbox ? SANDBOX_PRICES : prices,
      products: values.STRIPE_PRODUCTS ?? null,
      trialDays: values.STRIPE_TRIAL_DAYS,
    },
    clawbackDays: values.REFERRAL_CLAWBACK_DAYS,
    eventRetentionDays: values.EVENT_RETENTION_DAYS,
    sandbox,
  };
}

function refuseInProduction(values: Variables): void {
  const missing = PRODUCTION_SECRETS.find((name) => values[name] === undefined);
  if (missing)
    throw new PlainError(`${missing} is missing: in production it wants ${VARIABLES[missing][1]}.`);
  if (values.STRIPE_API_BASE) {
    throw new PlainError(
      'STRIPE_API_BASE is for tests and the sandbox: in production it wants to be left out.',
    );
  }
}
