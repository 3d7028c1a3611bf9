import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, onTestFinished, test } from 'vitest';

import { startServer } from '../src/start.ts';
import type { RunningServer } from '../src/start.ts';
import { freePort } from './support/free-port.ts';
import { emptyFolder, runCli } from './support/process.ts';
import { DAY, PASSWORD, signedPost, START, WEBHOOK_SECRET } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

/** A server in sandbox mode, whose real clock stands still at START. */
async function startApp(folder: string) {
  const port = await freePort();
  const url = `http://localhost:${port}`;
  const env = {
    PORT: String(port),
    DATABASE_URL: `file:${join(folder, 'tandem.db')}`,
    LOG_LEVEL: 'silent',
  };
  let server: RunningServer | null = await startServer(env, () => START);
  const sandbox = server.announcement.sandboxUrl ?? '';
  const stop = async (): Promise<void> => {
    await server?.close();
    server = null;
  };
  onTestFinished(stop);
  return {
    url,
    sandbox,
    stop,
    panel: () => pageAt(`${sandbox}/`),
    /** Presses a button of the panel that is on no customer's page. */
    direct: (action: string) => post(`${sandbox}/`, { action }),
    mail: () => pageAt(`${sandbox}/mail`),
    /** Runs a command beside the server, at the same real time. */
    cli: (...args: string[]) => runCli(args, env, new Set(), () => START),
  };
}

type App = Awaited<ReturnType<typeof startApp>>;

async function pageAt(url: string): Promise<string> {
  return (await fetch(url)).text();
}

function post(url: string, fields: Record<string, string>, cookie = ''): Promise<Response> {
  const body = new URLSearchParams(fields);
  return fetch(url, { method: 'POST', body, redirect: 'manual', headers: { cookie } });
}

interface Me {
  tier: string;
  creditDays: number;
  creditHeld: boolean;
  access: { granted: boolean; reason: string | null; until: string | null };
  referral: { code: string };
  subscription: { status: string; plan: string; currentPeriodEnd: string; cancelAtPeriodEnd: boolean } | null;
}

/** Signs up, with a friend's code or none. */
async function signUp({ url }: App, email: string, code?: string) {
  const invited = code === undefined ? '' : `tandem_ref=${code}`;
  const answer = await post(`${url}/signup`, { email, password: PASSWORD }, invited);
  const [, cookie = ''] = /(tandem_session=[^;]+)/.exec(answer.headers.getSetCookie().join('\n')) ?? [];
  const press = async (path: string, fields: Record<string, string>): Promise<string> =>
    (await post(url + path, fields, cookie)).headers.get('location') ?? '';
  return {
    me: async (): Promise<Me> => (await (await fetch(`${url}/api/me`, { headers: { cookie } })).json()) as Me,
    settings: async () => (await fetch(`${url}/settings`, { headers: { cookie } })).text(),
    upgrade: () => press('/api/billing/checkout', { plan: 'monthly' }),
    pay: async (): Promise<void> => {
      await post(await press('/api/billing/checkout', { plan: 'monthly' }), { outcome: 'pay' });
    },
    /** Presses buttons in the portal and in the panel beside it. */
    atPortal: async (...presses: Record<string, string>[]): Promise<void> => {
      const portal = await press('/api/billing/portal', {});
      for (const fields of presses) expect((await post(portal, fields)).status).toBe(303);
    },
  };
}

/** Ann invited Ben, who has paid: both have 45 days, and Ben's are held. */
async function twoFriends(app: App) {
  const ann = await signUp(app, 'ann@example.com');
  const ben = await signUp(app, 'ben@example.com', (await ann.me()).referral.code);
  await ben.pay();
  expect(await ann.me()).toMatchObject({ creditDays: 45, creditHeld: false });
  return { ann, ben };
}

test('when a month passes in the sandbox, it passes in the server: plans renew, credit runs, and nobody is logged out', async () => {
  const app = await startApp(await emptyFolder());
  const { ann, ben } = await twoFriends(app);
  expect((await app.direct('pass_month')).headers.get('location')).toBe('/#control-panel');
  expect(await app.panel()).toContain('31 days ahead of the real clock');
  expect(await ann.me()).toMatchObject({ creditDays: 14, access: { reason: 'credit' } });
  expect(await ann.settings()).toContain('The date is <time datetime="2027-02-10T09:00:00.000Z">');
  expect(await ben.me()).toMatchObject({
    tier: 'paid',
    creditDays: 45,
    creditHeld: true,
    subscription: { status: 'active', currentPeriodEnd: '2027-03-10T09:00:00.000Z' },
  });
});

test('as two months pass, people are reminded in time, and then their access ends', async () => {
  const app = await startApp(await emptyFolder());
  const { ann } = await twoFriends(app);
  await app.direct('pass_month');
  expect(await app.mail()).not.toContain('free days end');
  await app.direct('pass_month');
  expect(await ann.me()).toMatchObject({ creditDays: 0, access: { granted: false, reason: null } });
  const mail = await app.mail();
  // 45 days after 10 January is 24 February; the reminder comes a week before.
  expect(mail).toMatch(/Your free days end[^]*?17 February 2027 at 09:00 UTC/);
  expect(mail).toMatch(/Your free days have ended[^]*?24 February 2027 at 09:00 UTC/);
});

test('time can be passed until the next event of a plan, even a year away', async () => {
  const app = await startApp(await emptyFolder());
  const ann = await signUp(app, 'ann@example.com');
  await ann.pay();
  await ann.atPortal({ action: 'switch', price: 'price_sandbox_annual' });
  expect(await ann.me()).toMatchObject({ subscription: { plan: 'annual' } });
  await ann.atPortal({ action: 'cancel_at_period_end' }, { action: 'resume' }, { action: 'pass_next' });
  expect(await ann.me()).toMatchObject({
    tier: 'paid',
    subscription: { plan: 'annual', currentPeriodEnd: '2029-01-10T09:00:00.000Z' },
  });
  await ann.atPortal({ action: 'switch', price: 'price_sandbox_monthly' });
  expect(await ann.me()).toMatchObject({
    subscription: { plan: 'monthly', currentPeriodEnd: '2028-02-10T09:00:00.000Z' },
  });
});

test('the clock survives a restart, and commands use it whether the server runs or not', async () => {
  const folder = await emptyFolder();
  const app = await startApp(folder);
  await twoFriends(app);
  await app.direct('pass_week');
  const daysOf = async ({ cli }: App): Promise<unknown> => {
    const { code, stdout } = await cli('user', 'ann@example.com', '--json');
    expect(code).toBe(0);
    return (JSON.parse(stdout) as Me).creditDays;
  };
  expect(await daysOf(app)).toBe(38);
  await app.stop();
  expect(await daysOf(app)).toBe(38);
  expect(await (await startApp(folder)).panel()).toContain('17 January 2027 at 09:00 UTC');
});

test('the panel refuses forms from other sites, and buttons that it does not have', async () => {
  const app = await startApp(await emptyFolder());
  const crossSite = { method: 'POST', headers: { 'sec-fetch-site': 'cross-site' } };
  const body = new URLSearchParams({ action: 'pass_month' });
  expect((await fetch(`${app.sandbox}/`, { ...crossSite, body })).status).toBe(403);
  expect((await app.direct('pass_a_century')).status).toBe(400);
  expect(await app.panel()).toContain('10 January 2027 at 09:00 UTC');
});

test('in production no file of the sandbox moves the clock, for the server and for commands', async () => {
  const folder = await emptyFolder();
  const access = { apiBase: 'http://127.0.0.1:9', apiKey: 'sk_test_sandbox' };
  await writeFile(
    join(folder, 'sandbox.json'),
    JSON.stringify({ version: 2, aheadMs: 400 * DAY * 1000, access }),
  );
  const port = await freePort();
  const env = {
    NODE_ENV: 'production',
    PORT: String(port),
    DATABASE_URL: `file:${join(folder, 'tandem.db')}`,
    LOG_LEVEL: 'silent',
    STRIPE_API_KEY: 'sk_live_1',
    STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET,
    STRIPE_PRICE_MONTHLY: 'price_m',
    STRIPE_PRICE_ANNUAL: 'price_a',
    PUBLIC_URL: 'https://tandem.test',
    SESSION_SECRET: 'thirty-two characters, or a few more',
  };
  const server = await startServer(env, () => START);
  onTestFinished(server.close);
  // A signature of more than 300 s ago would be refused.
  const event = signedPost(buyer().created(), START);
  const answer = await fetch(`http://127.0.0.1:${port}/api/stripe/webhook`, event);
  expect(answer.status).toBe(200);
  await post(`http://127.0.0.1:${port}/signup`, { email: 'ann@example.com', password: PASSWORD });
  const granted = await runCli(
    ['grant-credit', 'ann@example.com', '1', '--json'],
    env,
    new Set(),
    () => START,
  );
  expect(JSON.parse(granted.stdout)).toMatchObject({ creditUntil: '2027-01-11T09:00:00.000Z' });
});

test('the webhooks of a payment are lost, and reconcile finds what is missing', async () => {
  const folder = await emptyFolder();
  const app = await startApp(folder);
  const ann = await signUp(app, 'ann@example.com');
  const ben = await signUp(app, 'ben@example.com', (await ann.me()).referral.code);
  await app.direct('lose_next');
  expect(await app.panel()).toContain('The next webhooks will be lost.');
  // Making a customer is the server's own request, and does not count as what happens next.
  await ben.pay();
  expect(await ben.me()).toMatchObject({ tier: 'free', subscription: null });
  const panel = await app.panel();
  expect(panel).toContain('<code>customer.subscription.created</code>');
  expect(panel).not.toContain('The next webhooks will be lost.');

  const { code, stdout } = await app.cli('reconcile', '--json');
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ events: { missing: 4, failed: 0 } });
  expect(await ben.me()).toMatchObject({ tier: 'paid', creditDays: 45, creditHeld: true });
  expect(await ann.me()).toMatchObject({ creditDays: 45, creditHeld: false });

  // Later webhooks are delivered as usual.
  await ben.atPortal({ action: 'cancel_at_period_end' });
  expect(await ben.me()).toMatchObject({ subscription: { cancelAtPeriodEnd: true } });
});

test('webhooks lost while time passes are found at their time', async () => {
  const app = await startApp(await emptyFolder());
  const { ann, ben } = await twoFriends(app);
  // It expires after a day: everything is lost until the month is over.
  await ann.upgrade();
  await ben.atPortal({ action: 'cancel_at_period_end' }, { action: 'lose_next' }, { action: 'pass_month' });
  expect(await ben.me()).toMatchObject({ tier: 'paid' });
  expect((await app.cli('reconcile')).code).toBe(0);
  expect(await ben.me()).toMatchObject({ tier: 'free', creditDays: 45, access: { reason: 'credit' } });
  expect((await app.cli('doctor')).code).toBe(0);
});

test('losing the next webhooks can be called off', async () => {
  const app = await startApp(await emptyFolder());
  const ann = await signUp(app, 'ann@example.com');
  await app.direct('lose_next');
  await app.direct('lose_none');
  await ann.pay();
  expect(await ann.me()).toMatchObject({ tier: 'paid' });
});

test('reconcile reaches the sandbox only while it runs, through a file that only its owner can read', async () => {
  const folder = await emptyFolder();
  const app = await startApp(folder);
  const file = join(folder, 'sandbox.json');
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  const running = await readFile(file, 'utf8');
  expect((await app.cli('reconcile')).code).toBe(0);
  await app.stop();
  const start = /^The sandbox runs inside the server, and the server is not running\. Start it, /m;
  expect(await app.cli('reconcile')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(start) as string,
  });
  // After a crash the file still names the address.
  await writeFile(file, running);
  expect(await app.cli('reconcile')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(start) as string,
  });
  for (const damaged of ['{', '{"aheadMs":"1"}', 'null']) {
    await writeFile(file, damaged);
    expect(await app.cli('reconcile')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/sandbox\.json is damaged\. Delete it; .*\n$/) as string,
    });
  }
});
