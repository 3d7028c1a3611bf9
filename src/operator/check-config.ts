import { checkConfig, isLoopback, modeOfKey, VARIABLE_NAMES } from '../config.ts';
import type { CheckedConfig, Config, Plan, Remark, VariableName } from '../config.ts';
import { isPostgresql, withoutPassword } from '../db/open.ts';
import { sessionSecretFile } from '../session-secret.ts';
import type { Paint } from '../terminal.ts';
import { counted } from '../wording.ts';
import type { CommandResult } from './command.ts';

/** The values of these are never shown. */
const SECRETS: ReadonlySet<VariableName> = new Set([
  'STRIPE_API_KEY',
  'STRIPE_WEBHOOK_SECRET',
  'SESSION_SECRET',
  'SMTP_URL',
]);

/** A Stripe secret in the wrong variable. */
const STRIPE_SECRET = /\b(sk|rk|whsec)_\S+/g;

/** The effect of each variable's current value. */
const EFFECTS: Record<VariableName, (config: Config) => string> = {
  NODE_ENV: ({ production }) =>
    production
      ? "Production: PUBLIC_URL, SESSION_SECRET, and Stripe's key, webhook secret and price ids must be set. The sandbox is off."
      : 'Not production: a missing session secret is generated, and the sandbox may run.',
  HOST: ({ host }) =>
    isLoopback(host) ? 'Only this machine can reach the server.' : 'Other machines can reach the server too.',
  PORT: ({ port }) => `The server listens on port ${port}.`,
  PUBLIC_URL: ({ publicUrl }) =>
    `Links point to ${publicUrl}. ${publicUrl.startsWith('https:') ? 'Cookies are Secure.' : 'Cookies are not Secure.'}`,
  DATABASE_URL: ({ databaseUrl }) =>
    isPostgresql(databaseUrl)
      ? 'PostgreSQL: any number of servers, which share the rate limits.'
      : 'SQLite: a single server, which keeps rate limits in memory.',
  STRIPE_API_KEY: ({ sandbox, stripe }) => {
    if (sandbox) return 'The sandbox is on: a stand-in for Stripe runs, and no real money moves.';
    if (stripe.apiKey === null) return 'Checkout, portal and reconcile are off.';
    return `Checkout, portal and reconcile are on${modeOfKey(stripe.apiKey) === 'test' ? ', in test mode' : ''}.`;
  },
  STRIPE_WEBHOOK_SECRET: ({ sandbox, stripe: { webhookSecrets } }) => {
    if (sandbox) return 'The sandbox signs its webhooks with a secret of its own.';
    if (webhookSecrets.length === 0) return 'The webhook answers 503.';
    return webhookSecrets.length === 1
      ? 'The webhook accepts events signed with it.'
      : `The webhook accepts events signed with any of these ${webhookSecrets.length} secrets.`;
  },
  STRIPE_PRICE_MONTHLY: (config) => soldAt(config, 'monthly'),
  STRIPE_PRICE_ANNUAL: (config) => soldAt(config, 'annual'),
  STRIPE_PRODUCTS: ({ sandbox, stripe: { products } }) => {
    if (sandbox) return 'The sandbox sells one product of its own, which gives access.';
    return products === null
      ? 'Subscriptions to any product in the Stripe account give access.'
      : 'Only subscriptions to these products give access.';
  },
  STRIPE_API_BASE: ({ sandbox, stripe: { apiBase } }) => {
    if (sandbox) return 'Requests go to the sandbox.';
    return apiBase === null ? 'Requests go to Stripe.' : 'Requests go there instead of to Stripe.';
  },
  STRIPE_TRIAL_DAYS: ({ stripe: { trialDays } }) =>
    trialDays === 0
      ? 'No trial is offered.'
      : `A first checkout offers a trial of ${counted(trialDays, 'day')}.`,
  // In production it is required, so a missing one is a problem.
  SESSION_SECRET: ({ sessionSecret, databaseUrl }) =>
    sessionSecret === null
      ? `A secret is generated at the first start and kept in ${sessionSecretFile(databaseUrl)}.`
      : 'Sessions and the links in mail depend on it.',
  LOG_LEVEL: ({ logLevel }) =>
    logLevel === 'silent'
      ? 'Only the line with the address of the server is logged.'
      : `Messages of level ${logLevel} and above are logged.`,
  TRUST_PROXY: ({ trustProxy }) =>
    trustProxy.length === 0
      ? 'Rate limits use the address of the connection; X-Forwarded-For is ignored.'
      : 'X-Forwarded-For is trusted from these addresses, and rate limits use it.',
  REFERRAL_CLAWBACK_DAYS: ({ clawbackDays }) =>
    clawbackDays === 0
      ? 'Only refunds and disputes dated no later than the payment take credit back.'
      : `Credit is taken back by a full refund within ${counted(clawbackDays, 'day')} of the payment, or by a dispute opened in that time and lost later.`,
  EVENT_RETENTION_DAYS: ({ eventRetentionDays }) =>
    `The command prune thins the payloads of Stripe events after ${counted(eventRetentionDays, 'day')}.`,
  SMTP_URL: ({ mail }) => {
    if (mail === null) return 'No mail is sent; pages say what to do instead.';
    return mail.smtpUrl === null
      ? "Mail goes to the sandbox's mailbox."
      : 'Mail is sent through the SMTP server in this URL.';
  },
  MAIL_FROM: ({ mail }) => (mail === null ? 'Not used without SMTP_URL.' : `Mail comes from ${mail.from}.`),
  CONTACT_EMAIL: ({ contactEmail }) =>
    contactEmail === null
      ? 'Pages and mail name no contact address.'
      : `People are told to write to ${contactEmail}.`,
  OPERATOR_EMAIL: ({ operatorEmail, mail }) =>
    operatorEmail === null || mail === null
      ? 'Nobody is told when something is wrong.'
      : 'This address gets an email once a day while something is wrong.',
  BRAND: ({ brand }) => `Pages and mail call the product ${brand}.`,
  TERMS_URL: ({ termsUrl }) =>
    termsUrl === null ? 'The footer links to no terms.' : 'Linked in the footer.',
  PRIVACY_URL: ({ privacyUrl }) =>
    privacyUrl === null ? 'The footer links to no privacy policy.' : 'Linked in the footer.',
};

function soldAt({ sandbox, stripe }: Config, plan: Plan): string {
  if (sandbox) return `The sandbox sells the ${plan} plan at a price of its own.`;
  return `The ${plan} plan is ${stripe.prices[plan] === null ? 'not sold' : 'sold at this price'}.`;
}

/** A variable as it is shown. */
interface ShownVariable {
  name: VariableName;
  set: boolean;
  from: 'environment' | '.env' | 'default' | null;
  /** Null when not set and without a default, when secret, or when the value is invalid. */
  value: string | null;
  effect: string;
  problem: string | null;
  warning: string | null;
}

/**
 * `check-config`: shows where each variable comes from, its effect, and what is wrong with it. It reads no configuration
 * file except `.env`, and does not open the database.
 *
 * @param fromFile the names of the variables that came from `.env`
 */
export function checkConfigCommand(
  env: NodeJS.ProcessEnv,
  fromFile: ReadonlySet<string>,
  paint: Paint,
): Promise<CommandResult> {
  const checked = checkConfig(env);
  const { problems, warnings } = checked;
  const variables = VARIABLE_NAMES.map((name) => describeVariable(name, env, fromFile, checked));
  const starts = problems.length === 0;
  const text = [
    ...variables.map((variable) => formatVariable(variable, paint)),
    verdict(problems.length, warnings.length),
  ].join('\n');
  return Promise.resolve({ text, json: { starts, variables }, failed: !starts });
}

function describeVariable(
  name: VariableName,
  env: NodeJS.ProcessEnv,
  fromFile: ReadonlySet<string>,
  { config, problems, warnings }: CheckedConfig,
): ShownVariable {
  const given = env[name] ?? '';
  const set = given !== '';
  const of = (remarks: Remark[]): string | null =>
    remarks
      .filter((remark) => remark.name === name)
      .map(({ says }) => says)
      .join(' ') || null;
  const problem = of(problems);
  const byDefault = defaultOf(name, config);
  return {
    name,
    set,
    from: set ? (fromFile.has(name) ? '.env' : 'environment') : byDefault === null ? null : 'default',
    // An invalid value could be anything, even a misplaced password, so it is not shown.
    value: set ? (problem === null ? shown(name, given, config) : null) : byDefault,
    effect: problem === null ? withoutStripeSecrets(EFFECTS[name](config)) : 'The server does not start.',
    problem,
    warning: of(warnings),
  };
}

function shown(name: VariableName, value: string, { databaseUrl }: Config): string | null {
  if (SECRETS.has(name)) return null;
  return name === 'DATABASE_URL' ? withoutPassword(databaseUrl) : withoutStripeSecrets(value);
}

function withoutStripeSecrets(text: string): string {
  return text.replaceAll(STRIPE_SECRET, '$1_…');
}

/** The default of a variable that is not set; null when there is none. */
function defaultOf(name: VariableName, config: Config): string | null {
  switch (name) {
    case 'HOST':
      return config.host;
    case 'PORT':
      return String(config.port);
    case 'PUBLIC_URL':
      return config.production ? null : config.publicUrl;
    case 'DATABASE_URL':
      return config.databaseUrl;
    case 'LOG_LEVEL':
      return config.logLevel;
    case 'BRAND':
      return config.brand;
    case 'MAIL_FROM':
      // Empty when it is missing although SMTP_URL is set.
      return config.mail?.from || null;
    case 'STRIPE_TRIAL_DAYS':
      return String(config.stripe.trialDays);
    case 'REFERRAL_CLAWBACK_DAYS':
      return String(config.clawbackDays);
    case 'EVENT_RETENTION_DAYS':
      return String(config.eventRetentionDays);
    default:
      return null;
  }
}

function formatVariable(
  { name, from, value, effect, problem, warning }: ShownVariable,
  paint: Paint,
): string {
  const origin = from === null ? 'not set' : from === 'default' ? 'not set, default' : `set, from ${from}`;
  const lines = [`${paint('bold', name.padEnd(22))} ${value === null ? origin : `${value} (${origin})`}`];
  if (problem === null) lines.push(effect);
  else lines.push(paint('red', `Problem: ${problem}`));
  if (warning !== null) lines.push(paint('yellow', `Warning: ${warning}`));
  return lines.join(`\n${' '.repeat(23)}`);
}

function verdict(problems: number, warnings: number): string {
  const said = warnings === 0 ? '' : ` ${counted(warnings, 'warning')}.`;
  if (problems > 0) return `\nThe server would not start: ${counted(problems, 'problem')}.${said}`;
  return `\nThe configuration is valid.${said}`;
}
