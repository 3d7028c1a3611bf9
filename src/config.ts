import { isIP } from 'node:net';

import ipaddr from 'ipaddr.js';
import addressparser from 'nodemailer/lib/addressparser';
import * as z from 'zod';

import { PlainError } from './plain-error.ts';

/** Everything configured by the environment. */
export interface Config {
  production: boolean;
  host: string;
  port: number;
  /** Our public origin, without a trailing slash. */
  publicUrl: string;
  databaseUrl: string;
  /** Null if unset: one is then generated and kept in the data folder. Production refuses to start without it. */
  sessionSecret: string | null;
  logLevel: string;
  /** Addresses and CIDRs of the proxies in front. */
  trustProxy: string[];
  stripe: StripeConfig;
  /**
   * A full refund, or a dispute that is then lost, takes back a conversion's credit if it is made at most this many
   * days after the payment.
   */
  clawbackDays: number;
  /** Retention of whole event payloads, days. */
  eventRetentionDays: number;
  /** Use the Stripe stand-in: not production, and no Stripe is configured. */
  sandbox: boolean;
  /** Null: no mail is sent or queued. */
  mail: MailConfig | null;
  /** Shown where people need help. */
  contactEmail: string | null;
  /** Gets an email while something is wrong. */
  operatorEmail: string | null;
  /** The product's name, as people read it. */
  brand: string;
  termsUrl: string | null;
  privacyUrl: string | null;
}

export interface MailConfig {
  /**
   * `smtp://` or `smtps://`, with user and password if the server needs them; null: the sandbox's mailbox.
   */
  smtpUrl: string | null;
  /** An address, or a name with an address in angle brackets (RFC 5322, section 3.4). */
  from: string;
}

export interface StripeConfig {
  apiKey: string | null;
  /** Base URL of a Stripe stand-in; null: Stripe itself. */
  apiBase: string | null;
  /** Webhooks signed with any of these are accepted; when empty, webhooks are refused. */
  webhookSecrets: string[];
  prices: Prices;
  /** Only subscriptions with an item of one of these products count; null: every subscription counts. */
  products: string[] | null;
  /** Length of the trial offered at a first checkout, days; 0 offers none. */
  trialDays: number;
}

export const PLANS = ['monthly', 'annual'] as const;
export type Plan = (typeof PLANS)[number];

/** The Stripe price of each plan; null: the plan is not sold. */
export type Prices = Record<Plan, string | null>;

/** The sandbox's prices. */
export const SANDBOX_PRICES = { monthly: 'price_sandbox_monthly', annual: 'price_sandbox_annual' };

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

function isHttpOrigin(value: string): boolean {
  if (!URL.canParse(value)) return false;
  const { protocol, origin, href } = new URL(value);
  return /^https?:$/.test(protocol) && href === `${origin}/`;
}

function isWebAddress(value: string): boolean {
  return URL.canParse(value) && /^https?:$/.test(new URL(value).protocol);
}

function isMailServer(value: string): boolean {
  return URL.canParse(value) && /^smtps?:$/.test(new URL(value).protocol) && new URL(value).hostname !== '';
}

/**
 * Accepts `ann@example.com` or `Ann <ann@example.com>`, on one line. It is parsed in the same way as when mail is sent: an
 * unquoted colon in the name would make it a group of addresses.
 */
function isMailbox(value: string): boolean {
  const [mailbox, ...others] = addressparser(value);
  return !/[\r\n]/.test(value) && others.length === 0 && z.email().safeParse(mailbox?.address).success;
}

function isDatabaseAddress(value: string): boolean {
  if (/^postgres(ql)?:\/\//.test(value)) return URL.canParse(value) && new URL(value).pathname.length > 1;
  return /^file:.+/.test(value);
}

function isAddressOrRange(entry: string): boolean {
  const [address = '', bits, ...rest] = entry.split('/');
  const family = isIP(address);
  if (family === 0 || address.includes('%') || rest.length > 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128));
}

/** Wider than any private network: 10.0.0.0/8, fc00::/7, or the former mapped into IPv6. */
function isTooWide(entry: string): boolean {
  const [address = '', bits] = entry.split('/');
  if (bits === undefined || !isAddressOrRange(entry)) return false;
  if (isIP(address) === 4) return Number(bits) < 8;
  return Number(bits) < (ipaddr.IPv6.parse(address).isIPv4MappedAddress() ? 96 + 8 : 7);
}

function describeProxies(value: string): string {
  const wanted = 'the comma-separated addresses or CIDRs of the proxies in front';
  if (/^\s*\d+\s*$/.test(value)) return `${wanted}: a number would trust nobody`;
  if (value.split(',').some((entry) => isTooWide(entry.trim()))) {
    return `${wanted}: a range as wide as this one includes clients, and each of them could then forge its address`;
  }
  return wanted;
}

/** A repeated piece, even if the last repeat is cut short, is as easy to guess as the piece itself. */
function repeatsItself(value: string): boolean {
  for (let length = 1; length <= value.length / 2; length += 1) {
    if (value.startsWith(value.slice(length))) return true;
  }
  return false;
}

/** Whether a secret is long enough and not a repeated piece. */
export function isStrongSecret(value: string): boolean {
  return value.length >= 32 && !repeatsItself(value);
}

/** Older prices have ids of any form, so only reject the prefixes of products and keys. */
const priceId = z.string().regex(/^(?!(?:prod|sk|rk|pk|whsec)_)\S+$/);

/** Each variable's schema and what its value must be, in words that follow its name in an error. */
const VARIABLES = {
  NODE_ENV: [
    z.enum(['development', 'test', 'production']).optional(),
    'production, development or test, in lower case, or empty',
  ],
  HOST: [z.string().default('127.0.0.1'), 'an address to listen on'],
  PORT: [wholeNumber(1, 65_535).default(3000), 'a port, 1 to 65535'],
  PUBLIC_URL: [z.string().refine(isHttpOrigin).optional(), 'an http or https address without a path'],
  DATABASE_URL: [
    z.string().refine(isDatabaseAddress).default('file:./data/tandem.db'),
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
    'the signing secret of the webhook endpoint (whsec_…), or several, comma-separated',
  ],
  STRIPE_PRICE_MONTHLY: [priceId.optional(), 'the id of a price at Stripe (price_…)'],
  STRIPE_PRICE_ANNUAL: [priceId.optional(), 'the id of a price at Stripe (price_…)'],
  STRIPE_PRODUCTS: [
    list((id) => /^prod_\S+$/.test(id)).optional(),
    'the comma-separated ids of products at Stripe (prod_…)',
  ],
  STRIPE_API_BASE: [z.string().refine(isHttpOrigin).optional(), 'an http or https address without a path'],
  STRIPE_TRIAL_DAYS: [wholeNumber(0, 730).default(0), 'a whole number of days, 0 to 730'],
  SESSION_SECRET: [
    z.string().refine(isStrongSecret).optional(),
    'at least 32 random characters, such as the output of openssl rand -base64 32',
  ],
  LOG_LEVEL: [
    z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
    'one of fatal, error, warn, info, debug, trace, silent',
  ],
  TRUST_PROXY: [list((entry) => isAddressOrRange(entry) && !isTooWide(entry)).default([]), describeProxies],
  REFERRAL_CLAWBACK_DAYS: [wholeNumber(0, 3650).default(30), 'a whole number of days, 0 to 3650'],
  EVENT_RETENTION_DAYS: [wholeNumber(1, 3650).default(90), 'a whole number of days, 1 to 3650'],
  SMTP_URL: [
    z.string().refine(isMailServer).optional(),
    'the address of a mail server: smtp:// or smtps://, with user:password@ if it needs them',
  ],
  MAIL_FROM: [
    z.string().refine(isMailbox).optional(),
    'the address that mail comes from, such as ann@example.com or Ann <ann@example.com> (put a name that contains a colon in double quotes)',
  ],
  CONTACT_EMAIL: [z.email().optional(), 'the email address where people can ask for help'],
  OPERATOR_EMAIL: [z.email().optional(), 'the email address of the person who runs this server'],
  BRAND: [
    z
      .string()
      .trim()
      .regex(/^[^\p{Cc}<>"]{1,60}$/u)
      .default('Tandem'),
    'a name of 1 to 60 characters without <, > or "',
  ],
  TERMS_URL: [z.string().refine(isWebAddress).optional(), 'an http or https address'],
  PRIVACY_URL: [z.string().refine(isWebAddress).optional(), 'an http or https address'],
} as const;

export type VariableName = keyof typeof VARIABLES;

export const VARIABLE_NAMES = Object.keys(VARIABLES) as VariableName[];

type Variables = { [Name in VariableName]: z.output<(typeof VARIABLES)[Name][0]> };

/** Production has no defaults for these. */
const REQUIRED_IN_PRODUCTION = [
  'PUBLIC_URL',
  'SESSION_SECRET',
  'STRIPE_API_KEY',
  'STRIPE_WEBHOOK_SECRET',
  'STRIPE_PRICE_MONTHLY',
  'STRIPE_PRICE_ANNUAL',
] as const;

/** A sentence about a variable. */
export interface Remark {
  name: VariableName;
  says: string;
}

/** The configuration, with its problems and warnings. */
export interface CheckedConfig {
  /** With the default in place of each bad value. */
  config: Config;
  /** Any of these prevents the server from starting. */
  problems: Remark[];
  /** The server starts anyway, but something does not work or is not safe. */
  warnings: Remark[];
}

/**
 * Reads the configuration. An empty variable counts as unset.
 *
 * @throws PlainError with one line that names the variable and what it must be
 */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  const { config, problems } = checkConfig(env);
  const [first, ...others] = problems;
  if (!first) return config;
  const more = others.length === 0 ? '' : ` (The command check-config shows ${others.length} more.)`;
  throw new PlainError(`${first.says}${more}`);
}

/** Reads the configuration and collects everything wrong with it instead of throwing. */
export function checkConfig(env: NodeJS.ProcessEnv): CheckedConfig {
  const { values, problems } = parse(env);
  if (values.SMTP_URL !== undefined && values.MAIL_FROM === undefined) {
    const says = `MAIL_FROM is missing. SMTP_URL needs it: set it to ${VARIABLES.MAIL_FROM[1]}.`;
    if (!problems.some(({ name }) => name === 'MAIL_FROM')) problems.push({ name: 'MAIL_FROM', says });
  }
  // Someone who wrote "Production" or "prod" should see production's requirements at once as well.
  const production = values.NODE_ENV === 'production' || /^prod/i.test(env['NODE_ENV'] ?? '');
  if (production) problems.push(...refusedInProduction(values, problems));
  const config = configOf(values, production);
  // A wrong value was replaced by its default, so a warning about that would mislead.
  const isWrong = (name: VariableName): boolean => problems.some((problem) => problem.name === name);
  return { config, problems, warnings: warningsOf(config).filter(({ name }) => !isWrong(name)) };
}

function parse(env: NodeJS.ProcessEnv): { values: Variables; problems: Remark[] } {
  const problems: Remark[] = [];
  const values = VARIABLE_NAMES.map((name) => {
    const [type, describe] = VARIABLES[name];
    const value = env[name] === '' ? undefined : env[name];
    const parsed = type.safeParse(value);
    if (parsed.success) return [name, parsed.data];
    const wanted = typeof describe === 'string' ? describe : describe(value ?? '');
    problems.push({ name, says: `${name} must be ${wanted}.` });
    return [name, type.parse(undefined)];
  });
  return { values: Object.fromEntries(values) as Variables, problems };
}

function refusedInProduction(values: Variables, known: readonly Remark[]): Remark[] {
  const missing = REQUIRED_IN_PRODUCTION.filter(
    (name) => values[name] === undefined && !known.some((problem) => problem.name === name),
  );
  const refused = missing.map((name) => ({
    name,
    says: `${name} is missing. In production, set it to ${VARIABLES[name][1]}.`,
  }));
  if (values.STRIPE_API_BASE === undefined) return refused;
  const says = 'STRIPE_API_BASE is for tests: do not set it in production.';
  return [...refused, { name: 'STRIPE_API_BASE', says }];
}

function configOf(values: Variables, production: boolean): Config {
  const { STRIPE_API_KEY, STRIPE_WEBHOOK_SECRET, STRIPE_API_BASE } = values;
  const sandbox = !production && !STRIPE_API_KEY && !STRIPE_WEBHOOK_SECRET && !STRIPE_API_BASE;
  const prices = { monthly: values.STRIPE_PRICE_MONTHLY ?? null, annual: values.STRIPE_PRICE_ANNUAL ?? null };
  return {
    production,
    // Fastify would listen on ::1 with a second server, which knows nothing of the limits on connections.
    host: values.HOST === 'localhost' ? '127.0.0.1' : values.HOST,
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
      // The sandbox sells a product of its own.
      products: sandbox ? null : (values.STRIPE_PRODUCTS ?? null),
      trialDays: values.STRIPE_TRIAL_DAYS,
    },
    clawbackDays: values.REFERRAL_CLAWBACK_DAYS,
    eventRetentionDays: values.EVENT_RETENTION_DAYS,
    sandbox,
    mail: mailOf(values, sandbox),
    contactEmail: values.CONTACT_EMAIL ?? null,
    operatorEmail: values.OPERATOR_EMAIL ?? null,
    brand: values.BRAND,
    termsUrl: values.TERMS_URL ?? null,
    privacyUrl: values.PRIVACY_URL ?? null,
  };
}

/** In the sandbox, mail goes to its mailbox unless a mail server is set. */
function mailOf({ SMTP_URL, MAIL_FROM, BRAND }: Variables, sandbox: boolean): MailConfig | null {
  // Without MAIL_FROM the server does not start.
  if (SMTP_URL !== undefined) return { smtpUrl: SMTP_URL, from: MAIL_FROM ?? '' };
  return sandbox ? { smtpUrl: null, from: MAIL_FROM ?? `"${BRAND}" <tandem@localhost.localdomain>` } : null;
}

/** Whether a host name or address names the loopback interface. */
export function isLoopback(host: string): boolean {
  return /^(127(\.\d{1,3}){3}|::1|localhost)$/.test(host);
}

export type KeyMode = 'live' | 'test';

/**
 * The mode of Stripe that a secret or restricted key belongs to; null without a key, or when its prefix names no mode.
 */
export function modeOfKey(apiKey: string | null): KeyMode | null {
  const mode = /^[sr]k_(live|test)_/.exec(apiKey ?? '')?.[1];
  return mode === 'live' || mode === 'test' ? mode : null;
}

function warningsOf(config: Config): Remark[] {
  const { production, publicUrl, trustProxy, stripe, sandbox } = config;
  const warnings: Remark[] = [];
  const https = publicUrl.startsWith('https:');
  if (production && !https) {
    const says =
      'PUBLIC_URL is not https: cookies are sent without encryption, and anybody who can read the traffic can use them.';
    warnings.push({ name: 'PUBLIC_URL', says });
  }
  if (production && modeOfKey(stripe.apiKey) === 'test') {
    warnings.push({ name: 'STRIPE_API_KEY', says: 'STRIPE_API_KEY is a test key: no real money moves.' });
  }
  if (https && trustProxy.length === 0) {
    const says =
      "TRUST_PROXY is not set: behind a proxy, which https needs, all visitors count as one client and can lock each other out. Set it to the proxy's address.";
    warnings.push({ name: 'TRUST_PROXY', says });
  }
  if (production && config.mail === null) {
    const says =
      'SMTP_URL is not set: no mail is sent, addresses are not confirmed, and a forgotten password needs `reset-link`.';
    warnings.push({ name: 'SMTP_URL', says });
  }
  if (config.operatorEmail !== null && config.mail === null) {
    const says = 'OPERATOR_EMAIL is not used without SMTP_URL: nobody is told when something is wrong.';
    warnings.push({ name: 'OPERATOR_EMAIL', says });
  }
  if (sandbox && !isLoopback(config.host)) {
    const says =
      'HOST is not a loopback address, so other machines can reach the sandbox: anybody there can move the clock and read the mail that is not sent, reset links included.';
    warnings.push({ name: 'HOST', says });
  }
  if (production || sandbox) return warnings;

  // Warn about each of Stripe's variables that is missing. In production that is a problem already.
  if (!stripe.apiKey) {
    const says = 'STRIPE_API_KEY is not set: nobody can upgrade, and reconcile cannot ask Stripe.';
    warnings.push({ name: 'STRIPE_API_KEY', says });
  }
  if (stripe.webhookSecrets.length === 0) {
    const says = 'STRIPE_WEBHOOK_SECRET is not set: the webhook answers 503, and payments have no effect.';
    warnings.push({ name: 'STRIPE_WEBHOOK_SECRET', says });
  }
  for (const plan of PLANS) {
    const name = plan === 'monthly' ? 'STRIPE_PRICE_MONTHLY' : 'STRIPE_PRICE_ANNUAL';
    if (!stripe.prices[plan])
      warnings.push({ name, says: `${name} is not set: the ${plan} plan is not sold.` });
  }
  return warnings;
}
