import type { FastifyInstance, LightMyRequestResponse } from 'fastify';
import { pino } from 'pino';
import { Stripe } from 'stripe';
import { expect, onTestFinished } from 'vitest';

import { openSession } from '../../src/accounts/sessions.ts';
import { createUser } from '../../src/accounts/sign-up.ts';
import { readConfig } from '../../src/config.ts';
import type { Config } from '../../src/config.ts';
import { checkLedger } from '../../src/credits/fold.ts';
import type { CreditEntry, Referral, User } from '../../src/db/generated/client.ts';
import { openDatabase } from '../../src/db/open.ts';
import { inTransaction } from '../../src/db/transaction.ts';
import type { Db } from '../../src/db/transaction.ts';
import { buildApp } from '../../src/http/app.ts';
import { BOUNDS } from '../../src/http/bounds.ts';
import type { Bounds } from '../../src/http/bounds.ts';
import { closeConnectionsWithServer } from '../../src/http/close-connections.ts';
import { captureReferral } from '../../src/referrals/capture.ts';
import { createStripe } from '../../src/stripe/client.ts';
import { giveBack, takeDatabase } from './databases.ts';
import { compareWithDescription } from './described.ts';

export { newDatabase, newEmptyDatabase } from './databases.ts';

export const WEBHOOK_SECRET = 'whsec_test';
export const SESSION_SECRET = 'a session secret for the tests only';
export const DAY = 86_400;

/** Where every test's clock starts and stays until the test moves it. */
export const START = new Date('2027-01-10T09:00:00Z');

/** The server under test, with its own database. */
export interface TestServer {
  app: FastifyInstance;
  db: Db;
  config: Config;
  stripe: Stripe | null;
  databaseUrl: string;
  clock: { now: Date };
  /** Stops it before the test has finished. */
  stop: () => Promise<void>;
}

/** The Stripe client of the server under test. */
export function clientOf({ stripe }: Pick<TestServer, 'stripe'>): Stripe {
  if (!stripe) throw new Error('The server under test has no key.');
  return stripe;
}

/** Bounds that never refuse work for slowness, because the machine is busy during the tests. */
export const PATIENT: Bounds = { ...BOUNDS, delayMs: 60_000 };

/**
 * Starts a server for one test, on an empty database unless the environment names one, and stops it after the test.
 * Another test then reuses its database. It does not listen yet.
 */
export async function startTestServer(
  env: NodeJS.ProcessEnv = {},
  clock: TestServer['clock'] = { now: START },
  bounds = PATIENT,
  logger = pino({ level: 'silent' }),
): Promise<TestServer> {
  const given = env['DATABASE_URL'];
  const kept = given === undefined ? await takeDatabase() : null;
  const databaseUrl = kept?.databaseUrl ?? given ?? '';
  const db = kept?.db ?? (await openDatabase(databaseUrl)).db;
  const config = readConfig({
    STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET,
    STRIPE_PRICE_MONTHLY: 'price_m',
    STRIPE_PRICE_ANNUAL: 'price_a',
    PUBLIC_URL: 'http://tandem.test',
    DATABASE_URL: databaseUrl,
    ...env,
  });
  const stripe = createStripe(config.stripe);
  const app = await buildApp(
    {
      config,
      db,
      stripe,
      sessionSecret: SESSION_SECRET,
      sandboxUrl: null,
      now: () => clock.now,
    },
    logger,
    bounds,
  );
  closeConnectionsWithServer(app);
  await app.ready();
  compareWithDescription(app);
  let stopped: Promise<void> | null = null;
  const stop = (): Promise<void> => {
    stopped ??= app.close().then(() => (kept ? giveBack(kept) : db.$disconnect()));
    return stopped;
  };
  onTestFinished(stop);
  return { app, db, config, stripe, databaseUrl, clock, stop };
}

/** A user with an account and a logged-in browser. */
export interface Person {
  id: string;
  email: string;
  code: string;
  /** The Cookie header of their browser. */
  cookie: string;
}

export const PASSWORD = 'correct horse';

/**
 * A hash of PASSWORD that is quick to check: most tests do not test passwords. It has the least memory and one pass of
 * argon2id; the server's own hashes take 70 times as long.
 */
const QUICK_HASH =
  '$argon2id$v=19$m=8,t=1,p=1$xldeY8CFBXPFm4LdTBM9mQ$X0PoApvk5+hBGBP/Zeb9t50lQmWbsymHU2+Jc9Ccuzc';

/** Makes an account as sign-up does, referred when a friend's code is given, with a logged-in browser. */
export async function signUp(
  { db, clock, config }: Pick<TestServer, 'db' | 'clock' | 'config'>,
  typed: string,
  friendsCode?: string,
): Promise<Person> {
  const email = typed.toLowerCase();
  return inTransaction(db, clock.now, async (tx) => {
    const user = await createUser(tx, email, QUICK_HASH);
    await captureReferral(tx, user, friendsCode ?? null);
    const token = await openSession(tx, SESSION_SECRET, user.id);
    const prefix = config.publicUrl.startsWith('https:') ? '__Host-' : '';
    return { id: user.id, email: typed, code: user.code, cookie: `${prefix}tandem_session=${token}` };
  });
}

/** Posts a form as a browser on our own pages does. */
export function postForm(
  app: FastifyInstance,
  url: string,
  fields: Record<string, string>,
  cookie = '',
  headers: Record<string, string> = {},
): Promise<LightMyRequestResponse> {
  return app.inject({
    method: 'POST',
    url,
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      'sec-fetch-site': 'same-origin',
      ...(cookie !== '' && { cookie }),
      ...headers,
    },
    payload: new URLSearchParams(fields).toString(),
  });
}

/** Posts a form from a client's address, like a program that is not a browser. */
export function postFrom(
  { app }: Pick<TestServer, 'app'>,
  url: string,
  remoteAddress: string,
  fields: Record<string, string> = {},
  headers: Record<string, string> = {},
): Promise<LightMyRequestResponse> {
  return app.inject({
    method: 'POST',
    url,
    remoteAddress,
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    payload: new URLSearchParams(fields).toString(),
  });
}

/** Asks for an account's deletion in Settings. */
export function deleteAccount(
  { app }: Pick<TestServer, 'app'>,
  { cookie }: Pick<Person, 'cookie'>,
  currentPassword = PASSWORD,
): Promise<LightMyRequestResponse> {
  return postForm(app, '/settings/delete', { currentPassword }, cookie);
}

/** Makes an account a tombstone without going through its deletion. */
export async function makeTombstone(
  { db, clock }: Pick<TestServer, 'db' | 'clock'>,
  { id }: Pick<Person, 'id'>,
  deletedAt = clock.now,
): Promise<void> {
  await db.user.update({
    where: { id },
    data: { deletedAt, email: null, passwordHash: null, sessions: { deleteMany: {} } },
  });
}

/** The cookies that an answer sets, as the next request's Cookie header. */
export function cookiesOf(answer: LightMyRequestResponse): string {
  return answer.cookies
    .filter((cookie) => cookie.value !== '')
    .map((cookie) => `${cookie.name}=${cookie.value}`)
    .join('; ');
}

/** @param cookie of a browser that may be logged in already */
export function logIn(
  { app }: Pick<TestServer, 'app'>,
  email: string,
  password = PASSWORD,
  cookie = '',
): Promise<LightMyRequestResponse> {
  return postForm(app, '/login', { email, password }, cookie);
}

/** A new session for somebody whose old one has expired, as the clock moved on, or who uses another browser. */
export async function logInAgain(
  server: Pick<TestServer, 'app'>,
  { email }: Pick<Person, 'email'>,
): Promise<string> {
  const answer = await logIn(server, email);
  expect(answer.statusCode).toBe(303);
  return cookiesOf(answer);
}

/** How a login is answered: 303 when it succeeds. */
export async function loginStatus(
  server: Pick<TestServer, 'app'>,
  email: string,
  password = PASSWORD,
): Promise<number> {
  return (await logIn(server, email, password)).statusCode;
}

/** The document of `/api/me` for a browser; null when it is not logged in. */
export async function me(
  { app }: Pick<TestServer, 'app'>,
  { cookie }: Pick<Person, 'cookie'>,
): Promise<{ email: string } | null> {
  const answer = await app.inject({ url: '/api/me', headers: { cookie } });
  if (answer.statusCode === 401) return null;
  expect(answer.statusCode).toBe(200);
  return answer.json();
}

/** Signs an event and posts it to the webhook, as Stripe does. */
export function deliver({ app, clock }: TestServer, event: object): Promise<LightMyRequestResponse> {
  const payload = JSON.stringify(event);
  return deliverRaw(app, payload, sign(payload, clock.now));
}

export function deliverRaw(
  app: FastifyInstance,
  payload: string | Buffer,
  signature?: string,
): Promise<LightMyRequestResponse> {
  return app.inject({
    method: 'POST',
    url: '/api/stripe/webhook',
    headers: {
      'content-type': 'application/json',
      ...(signature !== undefined && { 'stripe-signature': signature }),
    },
    payload,
  });
}

/** The Stripe-Signature header for a payload. */
export function sign(payload: string, at: Date, secret = WEBHOOK_SECRET): string {
  return Stripe.webhooks.generateTestHeaderString({
    payload,
    secret,
    timestamp: Math.floor(at.getTime() / 1000),
  });
}

/** The request that posts a signed event to the webhook of a server that listens, for `fetch`. */
export function signedPost(event: object, at = new Date()) {
  const body = JSON.stringify(event);
  const headers = { 'content-type': 'application/json', 'stripe-signature': sign(body, at) };
  return { method: 'POST', headers, body };
}

/** Delivers events in turn; each must be answered `ok`, or with the given status. */
export async function deliverAll(server: TestServer, events: object[], status = 'ok'): Promise<void> {
  for (const event of events) {
    const answer = await deliver(server, event);
    expect(answer.json()).toMatchObject({ status });
  }
}

/** The user's row and credit ledger, after checking that the ledger gives the row's columns. */
export async function userRow(
  { db }: Pick<TestServer, 'db'>,
  id: string,
): Promise<User & { creditEntries: CreditEntry[] }> {
  const user = await db.user.findUniqueOrThrow({
    where: { id },
    include: { creditEntries: { orderBy: { seq: 'asc' } } },
  });
  expect(checkLedger(user, user.creditEntries)).toEqual([]);
  return user;
}

/** What a user's row says about credit, after checking it against the ledger. */
export async function creditOf(
  server: Pick<TestServer, 'db'>,
  { id }: Pick<Person, 'id'>,
): Promise<Pick<User, 'creditUntil' | 'creditHeldAt'>> {
  const { creditUntil, creditHeldAt } = await userRow(server, id);
  return { creditUntil, creditHeldAt };
}

/** The referral with which somebody signed up. */
export function referralOf({ db }: Pick<TestServer, 'db'>, { id }: Pick<Person, 'id'>): Promise<Referral> {
  return db.referral.findUniqueOrThrow({ where: { referredId: id } });
}

/** The instant this many days after START (or another instant). */
export function daysAfter(days: number, from: Date = START): Date {
  return new Date(from.getTime() + days * DAY * 1000);
}

/** The rows of users, referrals, credit, facts and audit. */
export async function domainRows({ db }: TestServer) {
  return {
    users: await db.user.findMany({ orderBy: { id: 'asc' } }),
    referrals: await db.referral.findMany(),
    credit: await db.creditEntry.findMany(),
    customers: await db.customer.findMany(),
    subscriptions: await db.subscription.findMany(),
    invoices: await db.invoice.findMany(),
    payments: await db.payment.findMany(),
    disputes: await db.dispute.findMany(),
    audit: await db.auditRow.findMany(),
  };
}
