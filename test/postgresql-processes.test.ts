import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { freePort } from './support/free-port.ts';
import { startHeldSandbox } from './support/held-sandbox.ts';
import { refuseWrites } from './support/other-connection.ts';
import { emptyFolder, ended, runCli, runCliProcess, runServer, startProgram } from './support/process.ts';
import {
  DAY,
  deliver,
  deliverAll,
  newDatabase,
  newEmptyDatabase,
  PASSWORD,
  SESSION_SECRET,
  signedPost,
  signUp,
  startTestServer,
  WEBHOOK_SECRET,
} from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

interface Me {
  id: string;
  email: string;
  tier: string;
}

test('the server starts on an empty PostgreSQL database, takes a sign-up and a payment, stops, and starts again', async () => {
  const folder = await emptyFolder();
  const env = { DATABASE_URL: await newEmptyDatabase(), STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET };
  const server = await runServer(env, folder);
  expect(server.url).toMatch(/^http:\/\/localhost:\d+$/);
  expect((await fetch(`${server.url}/readyz`)).status).toBe(200);
  // What is not a row is kept in the working directory, because there is no database file to keep it beside.
  expect(await readdir(join(folder, 'data'))).toEqual(['session-secret']);

  const signedUp = await fetch(`${server.url}/signup`, {
    method: 'POST',
    redirect: 'manual',
    body: new URLSearchParams({ email: 'ann@example.com', password: PASSWORD }),
  });
  expect(signedUp.status).toBe(303);
  const cookie = signedUp.headers
    .getSetCookie()
    .map((one) => one.split(';')[0] ?? '')
    .join('; ');
  const me = async (base: string) =>
    (await (await fetch(`${base}/api/me`, { headers: { cookie } })).json()) as Me;
  const { id, email } = await me(server.url);
  expect(email).toBe('ann@example.com');

  const stripe = buyer(id);
  for (const event of [stripe.checkoutCompleted(), stripe.created()]) {
    const answer = await fetch(`${server.url}/api/stripe/webhook`, signedPost(event));
    expect(await answer.json()).toEqual({ status: 'ok' });
  }
  expect(await me(server.url)).toMatchObject({ tier: 'paid' });
  expect(await server.stop('SIGTERM')).toBe(0);
  expect(server.output.stderr).toBe('');

  const again = await runServer(env, folder);
  expect(await me(again.url)).toMatchObject({ id, email, tier: 'paid' });
  expect(await again.stop('SIGINT')).toBe(0);
});

test('with only a database configured, the sandbox is on', async () => {
  const folder = await emptyFolder();
  const server = await runServer({ DATABASE_URL: await newDatabase() }, folder);
  expect(server.output.stdout).toMatch(/"sandboxUrl":"http:\/\/localhost:\d+"/);
  expect((await readdir(join(folder, 'data'))).sort()).toContain('session-secret');
});

test('each command works on PostgreSQL', async () => {
  const server = await startTestServer();
  server.clock.now = new Date();
  const ann = await signUp(server, 'ann@example.com');
  const bob = await signUp(server, 'bob@example.com', ann.code);
  const stripe = buyer(bob.id);
  await deliverAll(server, [stripe.checkoutCompleted()]);
  const refusal = await refuseWrites(server, 'INSERT', 'CreditEntry');
  const event = stripe.created();
  expect((await deliver(server, event)).statusCode).toBe(500);
  await refusal.lift();

  const env = {
    DATABASE_URL: server.databaseUrl,
    PUBLIC_URL: 'http://tandem.test',
    SESSION_SECRET,
    STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET,
  };
  const run = new Set<string>();
  async function told(...args: string[]): Promise<unknown> {
    const { code, stdout, stderr } = await runCli([...args, '--json'], env);
    expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: '' });
    run.add(args[0] ?? '');
    return JSON.parse(stdout);
  }

  expect(await told('migrate')).toMatchObject({ applied: [] });
  expect(await told('events', '--failed')).toMatchObject([{ id: event.id, status: 'failed' }]);
  expect(await told('replay', event.id)).toEqual({ id: event.id, status: 'ok' });
  expect(await told('grant-credit', 'ann@example.com', '5', '--note', 'sorry')).toMatchObject({ days: 5 });
  expect(await told('user', 'ann@example.com')).toMatchObject({ tier: 'free', creditDays: 50 });
  const audit = (await told('audit', 'ann@example.com')) as { actor: string }[];
  // Both may be in the same second, which leaves their order open.
  expect(audit.sort((a, b) => b.actor.localeCompare(a.actor))).toMatchObject([
    { actor: 'stripe', seconds: 45 * DAY },
    { actor: 'operator', seconds: 5 * DAY, note: 'sorry' },
  ]);
  expect(await told('explain', 'bob@example.com')).toMatchObject({
    invitedBy: { email: 'ann@example.com' },
  });
  expect(await told('users', 'ann@')).toMatchObject([{ email: 'ann@example.com', creditDays: 50 }]);
  expect(await told('events', 'bob@example.com')).toHaveLength(2);
  expect(await told('event', event.id)).toMatchObject({ id: event.id, status: 'applied' });
  expect(await told('status')).toMatchObject({ engine: 'postgresql', users: { all: 2, paid: 1 } });
  expect(await told('check-config')).toMatchObject({ starts: true });
  expect(await told('doctor')).toMatchObject({ findings: [] });
  expect(await told('prune')).toEqual({
    events: 0,
    sessions: 0,
    resetLinks: 0,
    outboxItems: 0,
    writeAheadLogEmptied: true,
  });
  const { url } = (await told('reset-link', 'ann@example.com')) as { url: string };
  expect((await server.app.inject({ url: new URL(url).pathname })).statusCode).toBe(200);

  await server.db.outboxItem.create({
    data: {
      ...{ id: 'item', kind: 'mail.password-changed', userId: ann.id, data: 'null', status: 'failed' },
      ...{ createdAt: server.clock.now, dueAt: server.clock.now, endedAt: server.clock.now },
    },
  });
  expect(await told('mail', '--failed')).toMatchObject([{ id: 'item' }]);
  expect(await told('mail-resend', 'item')).toEqual({ id: 'item', status: 'queued' });
  expect(await told('relink', stripe.customer, 'ann@example.com')).toMatchObject({ to: { id: ann.id } });
  expect(await told('doctor')).toMatchObject({ findings: [] });

  const { stdout } = await runCli(['--help'], env);
  const there = [...stdout.matchAll(/^ {2}([a-z-]+) .*\S/gm)].map(([, name]) => name ?? '');
  // These have tests of their own: two below, and migrate-to.test.ts.
  const others = ['reconcile', 'backup', 'migrate-to'];
  expect([...run, ...others].sort()).toEqual(there.sort());
}, 180_000);

test('reconcile asks Stripe, and fetches what was missed', async () => {
  // On the real clock, like the command line.
  const sandbox = await startHeldSandbox({}, new Date());
  const server = await startTestServer();
  const customer = await sandbox.stripe.customers.create();
  await server.db.customer.create({ data: { id: customer.id } });
  await sandbox.stripe.customers.del(customer.id);
  const { code, stdout, stderr } = await runCliProcess(['reconcile', '--json'], {
    DATABASE_URL: server.databaseUrl,
    SESSION_SECRET,
    STRIPE_API_KEY: 'sk_test_sandbox',
    STRIPE_API_BASE: `http://127.0.0.1:${sandbox.apiPort}`,
  });
  expect({ code, stderr }).toMatchObject({
    code: 0,
    stderr: expect.stringContaining('disputes: 0') as string,
  });
  expect(JSON.parse(stdout)).toMatchObject({
    differences: [{ object: 'event', field: 'customer.deleted', fixed: true }],
  });
  expect(await server.db.customer.findUnique({ where: { id: customer.id } })).toMatchObject({
    deletedAt: expect.any(Date) as Date,
  });
});

test('backup says that it is for SQLite only', async () => {
  const env = { DATABASE_URL: await newDatabase(), SESSION_SECRET };
  const { code, stdout, stderr } = await runCli(['backup', 'copy.db'], env);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/^[^\n]*pg_dump[^\n]*\n$/);
});

describe('an unusable DATABASE_URL stops both programs with one line, without the password', () => {
  const SECRET = 'pass-in-the-url';
  const cases: [string, () => Promise<string>, RegExp][] = [
    [
      'a wrong password',
      async () => Object.assign(new URL(await newDatabase()), { password: SECRET }).href,
      /^The database \S+ at \S+ cannot be opened: the server rejects the user name or the password\./,
    ],
    [
      'no server',
      async () => `postgresql://tandem:${SECRET}@127.0.0.1:${await freePort()}/tandem`,
      /^The database tandem at \S+ cannot be opened: no server answers there\./,
    ],
    [
      'no database named',
      () => Promise.resolve(`postgresql://tandem:${SECRET}@127.0.0.1`),
      /^DATABASE_URL must be file: and the path of a SQLite database, or postgresql:/,
    ],
  ];

  test.each(cases)('an unusable DATABASE_URL: %s', async (_name, address, words) => {
    const env = { DATABASE_URL: await address(), PORT: String(await freePort()) };
    const outcomes = await Promise.all(
      [startProgram('server', [], env), startProgram('cli', ['doctor'], env)].map(async (one) =>
        ended(await one),
      ),
    );
    for (const { code, stdout, stderr } of outcomes) {
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toMatch(words);
      expect(stderr).toMatch(/^[^\n]+\n$/);
      expect(stderr).not.toContain(SECRET);
    }
  });
});
