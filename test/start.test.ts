import { once } from 'node:events';
import { access, mkdir, open, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';

import { expect, inject, onTestFinished, test } from 'vitest';

import { readConfig } from '../src/config.ts';
import { databasePath, openDatabase } from '../src/db/open.ts';
import { PlainError } from '../src/plain-error.ts';
import { startServer } from '../src/start.ts';
import type { RunningServer } from '../src/start.ts';
import { freePort } from './support/free-port.ts';
import {
  emptyFolder,
  ended,
  runCli,
  runCliProcess,
  runServer,
  startProgram,
  until,
} from './support/process.ts';
import { newDatabase, PASSWORD, sign, WEBHOOK_SECRET } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

/** Starts processes, each for seconds, so the short run leaves it out. */
const slowTest = test.runIf(inject('thorough'));

const PRODUCTION = {
  NODE_ENV: 'production',
  STRIPE_API_KEY: 'sk_live_1',
  STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET,
  STRIPE_PRICE_MONTHLY: 'price_m',
  STRIPE_PRICE_ANNUAL: 'price_a',
  PUBLIC_URL: 'https://tandem.test',
  SESSION_SECRET: 'thirty-two characters, or a few more',
};

/**
 * A start in this process that must fail; returns its one-line message. `failureOfProcess` starts a process for it.
 *
 * @param folder where its data would be, unless DATABASE_URL says otherwise
 */
async function failure(env: Record<string, string>, folder?: string): Promise<string> {
  const data = folder ?? (await emptyFolder());
  const outcome = await startServer(
    {
      PORT: String(await freePort()),
      LOG_LEVEL: 'silent',
      DATABASE_URL: `file:${join(data, 'data/tandem.db')}`,
      ...env,
    },
    () => new Date(),
  ).catch((error: unknown) => error);
  if (!(outcome instanceof Error)) await (outcome as RunningServer).close();
  expect(outcome).toBeInstanceOf(PlainError);
  const { message } = outcome as PlainError;
  expect(message).toMatch(/^[^\n]+$/);
  return message;
}

/** The same as a process: exit 1 and one line on stderr, which is returned. */
async function failureOfProcess(env: Record<string, string>, folder?: string): Promise<string> {
  const started = await startProgram('server', [], { PORT: String(await freePort()), ...env }, folder);
  // If it starts after all, the test must not wait for it to end.
  started.child.stdout?.on('data', () => {
    if (started.output.stdout.includes('Tandem is at')) started.child.kill('SIGKILL');
  });
  const { code, stderr } = await ended(started);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^[^\n]+\n$/);
  return stderr.trimEnd();
}

async function listen(port = 0): Promise<{ server: Server; port: number }> {
  const server = createServer().listen(port, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
}

/** A port with a listener until the test has finished. */
async function takenPort(port?: number): Promise<number> {
  const taken = await listen(port);
  onTestFinished(() => void taken.server.close());
  return taken.port;
}

/** As much of a browser as our pages need: it keeps cookies and does not follow redirects automatically. */
function newBrowser(base: string) {
  const jar = new Map<string, string>();

  async function send(url: string, init: RequestInit = {}): Promise<Response> {
    const headers = { accept: 'text/html', cookie: [...jar].map((pair) => pair.join('=')).join('; ') };
    const answer = await fetch(new URL(url, base), { redirect: 'manual', ...init, headers });
    for (const cookie of answer.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(cookie) ?? [];
      if (value === '') jar.delete(name);
      else jar.set(name, value);
    }
    return answer;
  }

  async function me(): Promise<Me> {
    return (await (await send('/api/me')).json()) as Me;
  }

  return {
    get: send,
    page: async (url: string) => (await send(url)).text(),
    post: (url: string, fields: Record<string, string>) =>
      send(url, { method: 'POST', body: new URLSearchParams(fields) }),
    me,
    /** Waits until the webhooks have brought the account to this state. */
    become: (tier: Me['tier']) =>
      until(async () => {
        const now = await me();
        return now.tier === tier ? now : undefined;
      }),
  };
}

interface Me {
  email: string;
  tier: 'free' | 'trial' | 'paid';
  creditDays: number;
  creditHeld: boolean;
  access: { granted: boolean; reason: string | null };
  referral: { url: string; invited: number; converted: number; activeCredits: number };
  subscription: { status: string; plan: string | null } | null;
}

/** The address that an answer redirects to. */
function leadsTo(answer: Response): string {
  expect(answer.status).toBe(303);
  return answer.headers.get('location') ?? '';
}

async function signUp(browser: ReturnType<typeof newBrowser>, email: string): Promise<Me> {
  expect(leadsTo(await browser.post('/signup', { email, password: PASSWORD }))).toBe('/settings');
  return browser.me();
}

test.each([
  ['NODE_ENV', 'Production'],
  ['PORT', 'http'],
  ['PUBLIC_URL', 'tandem.test'],
  ['DATABASE_URL', 'mysql://localhost/tandem'],
  ['STRIPE_API_KEY', 'pk_test_1'],
  ['STRIPE_WEBHOOK_SECRET', 'secret'],
  ['STRIPE_PRICE_MONTHLY', 'nine dollars'],
  ['STRIPE_PRICE_ANNUAL', 'ninety dollars'],
  ['STRIPE_API_BASE', 'localhost'],
  ['STRIPE_TRIAL_DAYS', 'a week'],
  ['SESSION_SECRET', 'short'],
  ['LOG_LEVEL', 'loud'],
  ['TRUST_PROXY', '0.0.0.0/0'],
  ['REFERRAL_CLAWBACK_DAYS', '-1'],
  ['EVENT_RETENTION_DAYS', '0'],
])('a bad %s stops the start with one line that names it, before anything is done', async (name, value) => {
  const folder = await emptyFolder();
  expect(await failure({ [name]: value }, folder)).toMatch(new RegExp(`^${name} must be `));
  expect(await readdir(folder)).toEqual([]);
});

test.each([
  ['NODE_ENV', 'prod'],
  ['NODE_ENV', 'staging'],
  ['NODE_ENV', 'production '],
  ['NODE_ENV', '"production"'],
  ['PORT', '0'],
  ['PORT', '65536'],
  ['PORT', '3000.5'],
  ['PORT', '-1'],
  ['PORT', '0x50'],
  ['PUBLIC_URL', 'ftp://tandem.test'],
  ['PUBLIC_URL', 'https://tandem.test/path'],
  ['PUBLIC_URL', 'https://tandem.test?x=1'],
  ['DATABASE_URL', 'file:'],
  ['DATABASE_URL', './data/tandem.db'],
  ['STRIPE_API_KEY', 'sk_'],
  ['STRIPE_WEBHOOK_SECRET', 'whsec_a,,whsec_b'],
  ['STRIPE_WEBHOOK_SECRET', 'whsec_a,b'],
  ['STRIPE_API_BASE', 'http://127.0.0.1:1/v1'],
  ['STRIPE_TRIAL_DAYS', '731'],
  ['STRIPE_TRIAL_DAYS', '7.5'],
  ['SESSION_SECRET', 'thirty-one characters are short'],
  ['SESSION_SECRET', 'x'.repeat(64)],
  ['SESSION_SECRET', 'change me, '.repeat(4)],
  ['SESSION_SECRET', '0123456789'.repeat(4).slice(0, 37)],
  ['STRIPE_PRICE_MONTHLY', 'prod_1'],
  ['STRIPE_PRICE_ANNUAL', 'sk_live_1'],
  ['TRUST_PROXY', '1'],
  ['TRUST_PROXY', '10.0.0.0/33'],
  ['TRUST_PROXY', '10.0.0.0/'],
  ['TRUST_PROXY', '127.0.0.1, 0.0.0.0/0'],
  ['TRUST_PROXY', '0.0.0.0/1,128.0.0.0/1'],
  ['TRUST_PROXY', '::/0'],
  ['TRUST_PROXY', '2000::/3'],
  ['TRUST_PROXY', '::ffff:0.0.0.0/96'],
  ['TRUST_PROXY', '0:0:0:0:0:ffff:0:0/96'],
  ['TRUST_PROXY', '::1%lo'],
  ['TRUST_PROXY', '::/129'],
  ['TRUST_PROXY', '10.0.0.1,proxy'],
  ['TRUST_PROXY', 'true'],
  ['MAIL_FROM', 'Ann'],
  ['MAIL_FROM', 'Tandem: Ann <ann@example.com>'],
  ['MAIL_FROM', 'ann@example.com, bob@example.com'],
  ['MAIL_FROM', 'Ann\n<ann@example.com>'],
  ['MAIL_FROM', '<>'],
  ['REFERRAL_CLAWBACK_DAYS', '1e3'],
  ['EVENT_RETENTION_DAYS', 'forever'],
])('%s=%s is refused with the name of the variable', (name, value) => {
  expect(() => readConfig({ [name]: value })).toThrow(new RegExp(`^${name} must be [^\\n]+$`));
});

test('TRUST_PROXY says why it takes no number and no range that includes everybody', () => {
  expect(() => readConfig({ TRUST_PROXY: '1' })).toThrow(/a number would trust nobody/);
  expect(() => readConfig({ TRUST_PROXY: '0.0.0.0/0' })).toThrow(/could then forge its address/);
});

test.each(['10.0.0.0/8', '172.16.0.0/12', 'fc00::/7', 'fe80::/10', '::ffff:10.0.0.0/104'])(
  'the private network %s can be trusted',
  (range) => {
    expect(readConfig({ TRUST_PROXY: range }).trustProxy).toEqual([range]);
  },
);

test('when several variables are bad, the start names the first one and where to see the others', () => {
  expect(() => readConfig({ PORT: 'http', LOG_LEVEL: 'loud', TRUST_PROXY: '1' })).toThrow(
    /^PORT must be [^\n]+ \(The command check-config shows 2 more\.\)$/,
  );
});

test('an empty environment gives the documented defaults', () => {
  expect(readConfig({})).toMatchObject({
    production: false,
    host: '127.0.0.1',
    port: 3000,
    publicUrl: 'http://localhost:3000',
    databaseUrl: 'file:./data/tandem.db',
    sessionSecret: null,
    logLevel: 'info',
    trustProxy: [],
    stripe: { apiKey: null, apiBase: null, webhookSecrets: [], trialDays: 0 },
    sandbox: true,
  });
  expect(readConfig({ PORT: '8080' }).publicUrl).toBe('http://localhost:8080');
});

test('HOST=localhost is one address, because the limits on connections hold for one server', () => {
  expect(readConfig({ HOST: 'localhost' }).host).toBe('127.0.0.1');
});

test('several webhook secrets and proxies are separated by commas', () => {
  const config = readConfig({ STRIPE_WEBHOOK_SECRET: 'whsec_a, whsec_b', TRUST_PROXY: '10.0.0.0/8, ::1' });
  expect(config.stripe.webhookSecrets).toEqual(['whsec_a', 'whsec_b']);
  expect(config.trustProxy).toEqual(['10.0.0.0/8', '::1']);
});

test.each<[boolean, Record<string, string>]>([
  [true, {}],
  [true, { NODE_ENV: 'development' }],
  [true, { NODE_ENV: 'test', STRIPE_PRICE_MONTHLY: 'price_m', STRIPE_TRIAL_DAYS: '7' }],
  [true, { STRIPE_API_KEY: '', STRIPE_WEBHOOK_SECRET: '', STRIPE_API_BASE: '' }],
  [false, { STRIPE_API_KEY: 'sk_test_1' }],
  [false, { STRIPE_WEBHOOK_SECRET: 'whsec_1' }],
  [false, { STRIPE_API_BASE: 'http://127.0.0.1:1' }],
  [false, PRODUCTION],
])('the sandbox is on (%s) only outside production with no Stripe setting: %o', (on, env) => {
  expect(readConfig(env).sandbox).toBe(on);
});

test.each([
  'PUBLIC_URL',
  'SESSION_SECRET',
  'STRIPE_API_KEY',
  'STRIPE_WEBHOOK_SECRET',
  'STRIPE_PRICE_MONTHLY',
  'STRIPE_PRICE_ANNUAL',
])('production without %s stops with one line that names it', async (name) => {
  expect(await failure({ ...PRODUCTION, [name]: '' })).toMatch(new RegExp(`^${name} is missing`));
});

test('as a process, a bad variable exits 1 with one line on stderr and creates nothing', async () => {
  const folder = await emptyFolder();
  expect(await failureOfProcess({ PORT: 'http' }, folder)).toMatch(/^PORT must be /);
  expect(await readdir(folder)).toEqual([]);
});

test('a .env that cannot be read exits 1 with one line on stderr', async () => {
  const folder = await emptyFolder();
  await mkdir(join(folder, '.env'));
  expect(await failureOfProcess({}, folder)).toMatch(/^\.env cannot be read \(EISDIR\)\./);
});

/** Makes a package's native code fail to load, as after Node.js was replaced, or the folder moved to another machine. */
async function breakNative(file: string, why: string): Promise<Record<string, string>> {
  const path = join(await emptyFolder(), 'break.cjs');
  await writeFile(
    path,
    `const load = process.dlopen;
     process.dlopen = (module, file, ...rest) => {
       if (!file.includes('${file}')) return load.call(process, module, file, ...rest);
       throw Object.assign(new Error("The module '" + file + "' ${why}"), { code: 'ERR_DLOPEN_FAILED' });
     };`,
  );
  return { NODE_OPTIONS: `--require=${path}` };
}

slowTest(
  'SQLite built for another version of Node.js stops the start and the command line, which say what to run',
  async () => {
    const env = await breakNative(
      'better_sqlite3',
      'was compiled against a different Node.js version using NODE_MODULE_VERSION 115.',
    );
    const says = new RegExp(
      `^The package better-sqlite3 was built for another version of Node.js than ${process.version}\\. Run npm rebuild better-sqlite3 in /`,
    );
    expect(await failureOfProcess(env)).toMatch(says);
    const folder = await emptyFolder();
    await writeFile(join(folder, 'tandem.db'), '');
    const args = ['backup', join(folder, 'copy.db')];
    const backup = await runCliProcess(args, { ...env, DATABASE_URL: `file:${folder}/tandem.db` });
    expect(backup).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(says) as string });
  },
);

slowTest(
  'a package built for another machine stops the start and the demo, which say what to run',
  async () => {
    const env = await breakNative('argon2', 'has an invalid ELF header.');
    const says = /^The package @node-rs\/argon2 was not built for this machine\. Run npm ci in \//;
    expect(await failureOfProcess(env)).toMatch(says);
    const demo = await ended(await startProgram('demo', [], { PORT: String(await freePort()), ...env }));
    expect(demo).toEqual({ code: 1, stdout: '', stderr: expect.stringMatching(says) as string });
  },
);

test('production refuses STRIPE_API_BASE', async () => {
  const line = await failure({
    ...PRODUCTION,
    STRIPE_API_BASE: 'http://127.0.0.1:1',
  });
  expect(line).toMatch(/^STRIPE_API_BASE /);
});

slowTest('production starts with its secrets, without the sandbox, and creates no secret', async () => {
  const folder = await emptyFolder();
  const port = String(await freePort());
  const server = await runServer({ ...PRODUCTION, PORT: port }, folder);
  expect(server.url).toBe(PRODUCTION.PUBLIC_URL);
  expect(server.output.stdout).not.toMatch(/sandbox/i);
  expect(await newBrowser(`http://127.0.0.1:${port}`).page('/')).not.toContain('Sandbox');
  expect(await readdir(join(folder, 'data'))).not.toContain('session-secret');
});

slowTest.each([
  ['with the sandbox', {}],
  ['without it', { STRIPE_API_KEY: 'sk_test_1' }],
])('a port in use stops the start with one line that names it, %s', async (_name, env) => {
  const port = await takenPort();
  expect(await failureOfProcess({ ...env, PORT: String(port) })).toMatch(
    new RegExp(`^Port ${port} is already in use`),
  );
});

test('a second start on a port in use leaves the sandbox of the running server alone', async () => {
  const folder = await emptyFolder();
  const env = {
    PORT: String(await freePort()),
    LOG_LEVEL: 'silent',
    DATABASE_URL: `file:${join(folder, 'data/tandem.db')}`,
  };
  const running = await startServer(env, () => new Date());
  onTestFinished(running.close);
  const file = join(folder, 'data/sandbox.json');
  const before = await readFile(file, 'utf8');
  expect(await failure(env, folder)).toMatch(/^Port \d+ is already in use/);
  expect(await readFile(file, 'utf8')).toBe(before);
});

test.each([
  ['with the sandbox', {}],
  ['without it', { STRIPE_API_KEY: 'sk_test_1' }],
])('a HOST that does not belong to this machine stops the start with one line, %s', async (_name, env) => {
  expect(await failure({ ...env, HOST: '192.0.2.1' })).toBe(
    'HOST 192.0.2.1 is not an address of this machine. Set HOST to one of its addresses.',
  );
});

test('a data folder that cannot be written stops the start with one line that names it', async () => {
  const line = await failure({ DATABASE_URL: 'file:/dev/null/x/t.db' });
  expect(line).toMatch(/^The database \/dev\/null\/x\/t\.db cannot be opened: /);
});

test('a database path that is a folder stops the start with one line that names it', async () => {
  const folder = await emptyFolder();
  const line = await failure({ DATABASE_URL: `file:${folder}` });
  expect(line).toContain(`The database ${folder} cannot be opened: `);
});

test('a file that is not a database stops the start with one line, and is left as it is', async () => {
  const path = join(await emptyFolder(), 'tandem.db');
  const text = 'This is a diary, and not a database. '.repeat(200);
  await writeFile(path, text);
  const line = await failure({ DATABASE_URL: `file:${path}` });
  expect(line).toMatch(/cannot be opened: the file is damaged or is not a SQLite database/);
  expect(await readFile(path, 'utf8')).toBe(text);
});

test('a damaged database stops the start with one line', async () => {
  const url = await newDatabase();
  const file = await open(databasePath(url), 'r+');
  const { size } = await file.stat();
  await file.write(Buffer.alloc(size - 100, 0xa5), 0, size - 100, 100);
  await file.close();
  expect(await failure({ DATABASE_URL: url })).toContain('the file is damaged');
});

test('a database newer than the code stops the start and the command line with one line', async () => {
  const url = await newDatabase();
  const { db } = await openDatabase(url);
  await db.$executeRaw`
    INSERT INTO "_prisma_migrations" ("id", "checksum", "migration_name", "started_at", "finished_at", "applied_steps_count")
    VALUES ('future', 'x', '20990101000000_future', 0, 0, 1)`;
  await db.$disconnect();
  const line = await failure({ DATABASE_URL: url });
  expect(line).toMatch(/newer than this version of Tandem.*20990101000000_future/);

  const user = await runCli(['user', 'ann@example.com'], { DATABASE_URL: url });
  expect(user).toEqual({ code: 1, stdout: '', stderr: `${line}\n` });
});

test('a sandbox state that cannot be read stops the start with one line that names the file', async () => {
  const folder = await emptyFolder();
  await writeFile(join(folder, 'sandbox.json'), '{"version":');
  const line = await failure({ DATABASE_URL: `file:${join(folder, 'tandem.db')}` });
  expect(line).toContain('sandbox.json');
});

test('a session secret that cannot be read stops the start with one line that names the file', async () => {
  const folder = await emptyFolder();
  await mkdir(join(folder, 'session-secret'));
  const line = await failure({
    DATABASE_URL: `file:${join(folder, 'tandem.db')}`,
    STRIPE_API_KEY: 'sk_test_1',
  });
  expect(line).toContain('session-secret');
});

slowTest('an empty session secret, left by a crash, is never used', async () => {
  const folder = await emptyFolder();
  const path = join(folder, 'session-secret');
  await writeFile(path, '');
  const started = await startProgram('server', [], {
    DATABASE_URL: `file:${join(folder, 'tandem.db')}`,
    PORT: String(await freePort()),
  });
  // It either refuses to start, in one line, or creates a new secret.
  const outcome = await until(async () => {
    if (started.child.exitCode !== null) return started.output.stderr;
    return started.output.stdout.includes('Tandem is at') ? readFile(path, 'utf8') : undefined;
  });
  expect(outcome).toMatch(/^\S{32,}$|^[^\n]*session-secret[^\n]*\n$/);
});

test.each(inject('thorough') ? (['SIGTERM', 'SIGINT'] as const) : (['SIGTERM'] as const))(
  '%s stops the server with exit 0 and frees the port',
  async (signal) => {
    const port = await freePort();
    const server = await runServer({ PORT: String(port) });
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
    expect(await server.stop(signal)).toBe(0);
    expect(server.output.stderr).toBe('');
    const { server: next } = await listen(port);
    next.close();
  },
);

test('a first start creates the database and a secret that only its owner can read', async () => {
  const folder = await emptyFolder();
  await runServer({}, folder);
  const { mode } = await stat(join(folder, 'data', 'session-secret'));
  expect(mode & 0o777).toBe(0o600);
  await access(join(folder, 'data', 'tandem.db'));
});

slowTest('accounts and sessions survive a restart', async () => {
  const folder = await emptyFolder();
  const port = await freePort();
  const first = await runServer({ PORT: String(port) }, folder);
  const ann = newBrowser(first.url);
  await signUp(ann, 'ann@example.com');
  expect(await first.stop()).toBe(0);
  const second = await runServer({ PORT: String(port) }, folder);
  expect(second.url).toBe(first.url);
  expect(await ann.me()).toMatchObject({ email: 'ann@example.com' });
});

slowTest('a key without a webhook secret starts, and the webhook is 503', async () => {
  const server = await runServer({ STRIPE_API_KEY: 'sk_test_1' });
  expect(server.output.stdout).not.toMatch(/sandbox/i);
  expect(server.output.stdout).toContain('STRIPE_WEBHOOK_SECRET is not set: the webhook answers 503');
  const answer = await fetch(`${server.url}/api/stripe/webhook`, { method: 'POST', body: '{}' });
  expect(answer.status).toBe(503);
  expect(await answer.json()).toMatchObject({
    error: expect.stringContaining('STRIPE_WEBHOOK_SECRET') as string,
  });
});

slowTest('a webhook secret without a key starts without the sandbox and accepts signed events', async () => {
  const server = await runServer({ STRIPE_WEBHOOK_SECRET: `whsec_old,${WEBHOOK_SECRET}` });
  expect(server.output.stdout).not.toMatch(/sandbox/i);
  const body = JSON.stringify(buyer().created());
  const post = (signature: string) =>
    fetch(`${server.url}/api/stripe/webhook`, {
      method: 'POST',
      body,
      headers: { 'stripe-signature': signature },
    });
  const answer = await post(sign(body, new Date()));
  expect(answer.status).toBe(200);
  expect(await answer.json()).toEqual({ status: 'ok' });
  expect((await post(sign(body, new Date(), 'whsec_other'))).status).toBe(400);
});

slowTest(
  "the sandbox's port is printed, and another free port is used when the next one is taken",
  async () => {
    // The next port may already be taken by something else; that also counts as taken.
    const port = await freePort();
    await takenPort(port + 1).catch(() => undefined);
    const server = await runServer({ PORT: String(port) });
    const [, sandbox = ''] = /"sandboxUrl":"([^"]+)"/.exec(server.output.stdout) ?? [];
    expect(sandbox).toMatch(/^http/);
    expect([`http://localhost:${port + 1}`, server.url]).not.toContain(sandbox);
    expect(await (await fetch(`${sandbox}/nothing`)).text()).toContain('There is nothing at this address.');
  },
);

slowTest('the demo on a server that offers a trial says why it cannot go on', async () => {
  const port = String(await freePort());
  await runServer({ PORT: port, STRIPE_TRIAL_DAYS: '14' });
  const { code, stderr } = await ended(await startProgram('demo', [], { PORT: port }));
  expect(stderr).toBe(
    'This server offers a trial (STRIPE_TRIAL_DAYS), so nothing is paid at the checkout. ' +
      'Restart it without STRIPE_TRIAL_DAYS, or run the demo while no server is running.\n',
  );
  expect(code).toBe(1);
});

test("a newcomer's first try: with no settings, two people, a link and a payment give 45 days to both", async () => {
  const folder = await emptyFolder();
  const server = await runServer({ LOG_LEVEL: '' }, folder);
  expect(server.output.stdout).toMatch(/"sandboxUrl":"http:\/\/localhost:\d+"/);
  const [ann, bob] = [newBrowser(server.url), newBrowser(server.url)];

  const { referral } = await signUp(ann, 'ann@example.com');
  expect(referral.url).toMatch(new RegExp(`^${server.url}/r/`));
  expect(leadsTo(await bob.get(referral.url))).toBe('/pricing');
  expect(await bob.page('/pricing')).toContain('A friend invited you.');
  await signUp(bob, 'bob@example.com');

  const pricing = await bob.get('/pricing');
  expect(await pricing.text()).toContain('$9.00');
  const checkout = leadsTo(await bob.post('/api/billing/checkout', { plan: 'monthly' }));
  // A browser follows the redirect only where the CSP's form-action allows it.
  expect(pricing.headers.get('content-security-policy')).toContain(new URL(checkout).origin);
  expect(await bob.page(checkout)).toContain('$9.00');
  const declined = await bob.post(checkout, { outcome: 'decline' });
  expect(declined.status).toBe(402);
  expect(await bob.me()).toMatchObject({ tier: 'free' });
  const back = leadsTo(await bob.post(checkout, { outcome: 'pay' }));
  expect(back).toBe(`${server.url}/settings?checkout=done`);

  expect(await bob.become('paid')).toMatchObject({
    creditDays: 45,
    creditHeld: true,
    access: { granted: true, reason: 'paid' },
    subscription: { status: 'active', plan: 'monthly' },
  });
  const rich = { creditDays: 45, creditHeld: false, access: { granted: true, reason: 'credit' } };
  expect(await ann.me()).toMatchObject({
    tier: 'free',
    ...rich,
    referral: { invited: 1, converted: 1, activeCredits: 1 },
  });
  expect(await bob.page(back)).toContain('You have paid access now');

  // A renewal gives no more days; a second checkout leads to the portal.
  const portal = leadsTo(await bob.post('/api/billing/checkout', { plan: 'annual' }));
  expect(portal).toContain('/portal/');
  expect(leadsTo(await bob.post('/api/billing/portal', {}))).toContain('/portal/');
  await bob.post(portal, { action: 'pass_next' });
  const { creditDays } = await ann.me();
  // A month of 28 to 31 days has passed in the server too.
  expect([14, 15, 16, 17, 18]).toContain(creditDays);
  await bob.post(portal, { action: 'cancel_now' });
  expect(await bob.become('free')).toMatchObject({ ...rich, subscription: { status: 'canceled' } });

  const shown = await ended(await startProgram('cli', ['user', 'bob@example.com'], {}, folder));
  expect(shown.code).toBe(0);
  expect(shown.stdout).toMatch(/^subscription +canceled, monthly$/m);
});

const hasIpv6 = Object.values(networkInterfaces()).some((all) =>
  all?.some(({ address }) => address === '::1'),
);

test.runIf(hasIpv6)('a server on an IPv6 address reaches its sandbox', async () => {
  const port = String(await freePort());
  const server = await runServer({ HOST: '::1', PORT: port, PUBLIC_URL: `http://[::1]:${port}` });
  const ann = newBrowser(server.url);
  await signUp(ann, 'ann@example.com');
  const checkout = leadsTo(await ann.post('/api/billing/checkout', { plan: 'monthly' }));
  leadsTo(await ann.post(checkout, { outcome: 'pay' }));
  expect(await ann.become('paid')).toMatchObject({ tier: 'paid' });
});

slowTest('every page says that the sandbox is on', async () => {
  const server = await runServer({});
  const ann = newBrowser(server.url);
  const says = 'Sandbox: no real money moves.';
  for (const url of ['/', '/pricing', '/signup', '/login', '/no-such-page'])
    expect(await ann.page(url)).toContain(says);
  await signUp(ann, 'ann@example.com');
  expect(await ann.page('/settings')).toContain(says);
});
