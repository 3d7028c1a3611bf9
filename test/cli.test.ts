import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { cli, CLI_ENV, cliJson, cliText } from './support/cli.ts';
import { makeOlder } from './support/other-connection.ts';
import { emptyFolder, runCli, runCliOnTerminal, runCliProcess } from './support/process.ts';
import {
  cookiesOf,
  DAY,
  deliverAll,
  logIn,
  loginStatus,
  newDatabase,
  PASSWORD,
  postForm,
  signUp,
} from './support/server.ts';
import { startTestServer, userRow } from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

const ROOT = join(import.meta.dirname, '..');
const NOWHERE = { databaseUrl: 'file:/dev/null/x/t.db' };
const NEW_PASSWORD = 'battery staple';

/** A server that uses the real clock, like the command line. */
async function startServerNow(): Promise<TestServer> {
  const server = await startTestServer();
  server.clock.now = new Date();
  return server;
}

/** An account on a server that uses the real clock. */
async function withAnn(): Promise<{ server: TestServer; ann: Person }> {
  const server = await startServerNow();
  return { server, ann: await signUp(server, 'ann@example.com') };
}

/** Ann, with 45 days of credit since `at`, when her friend Bob paid. */
async function withCreditSince(at: Date): Promise<{ server: TestServer; ann: Person; bob: Person }> {
  const server = await startTestServer();
  server.clock.now = at;
  const ann = await signUp(server, 'ann@example.com');
  const bob = await signUp(server, 'bob@example.com', ann.code);
  const stripe = buyer(bob.id);
  await deliverAll(server, [stripe.created({}, { at }), stripe.checkoutCompleted({}, { at })]);
  return { server, ann, bob };
}

interface Granted {
  email: string;
  days: number;
  creditUntil: string;
}

function plusDays(instant: Date | string | null, days: number): string {
  if (instant === null) throw new Error('There is no such instant.');
  return new Date(new Date(instant).getTime() + days * DAY * 1000).toISOString();
}

/** When the newest entry of a user's credit ledger was made. */
async function lastEntryAt({ db }: TestServer, { id }: Person): Promise<Date> {
  const entry = await db.creditEntry.findFirstOrThrow({ where: { userId: id }, orderBy: { seq: 'desc' } });
  return entry.at;
}

test('grant-credit adds days from now and says until when', async () => {
  const { server, ann } = await withAnn();
  const granted = await cliJson<Granted>(server, 'grant-credit', 'ANN@example.com', '30');
  const creditUntil = plusDays(await lastEntryAt(server, ann), 30);
  expect(granted).toEqual({ email: 'ann@example.com', days: 30, creditUntil });
  expect((await userRow(server, ann.id)).creditUntil?.toISOString()).toBe(creditUntil);
});

test('grant-credit prints the days and the exact end', async () => {
  const { server, ann } = await withAnn();
  const text = await cliText(server, 'grant-credit', 'ann@example.com', '1');
  const until = plusDays(await lastEntryAt(server, ann), 1).replace('.000Z', 'Z');
  expect(text).toBe(`ann@example.com has 1 more day: credit until ${until}.\n`);
});

test('grants stack: the second begins where the first ends', async () => {
  const { server, ann } = await withAnn();
  const first = await cliJson<Granted>(server, 'grant-credit', 'ann@example.com', '3650');
  const second = await cliJson<Granted>(server, 'grant-credit', 'ann@example.com', '7');
  expect(second.creditUntil).toBe(plusDays(first.creditUntil, 7));
  expect((await userRow(server, ann.id)).creditUntil?.toISOString()).toBe(second.creditUntil);
});

test("a grant stacks on a conversion's credit", async () => {
  const now = new Date();
  const { server, ann } = await withCreditSince(now);
  const before = (await userRow(server, ann.id)).creditUntil;
  const granted = await cliJson<Granted>(server, 'grant-credit', 'ann@example.com', '10');
  expect(granted.creditUntil).toBe(plusDays(before, 10));
});

test('a grant after credit ran out starts now', async () => {
  const { server, ann } = await withCreditSince(new Date('2020-01-01T00:00:00Z'));
  const granted = await cliJson<Granted>(server, 'grant-credit', 'ann@example.com', '10');
  expect(granted.creditUntil).toBe(plusDays(await lastEntryAt(server, ann), 10));
  await userRow(server, ann.id);
});

test('a grant to a paying user is held: all days are left', async () => {
  const { server, bob } = await withCreditSince(new Date('2026-01-01T00:00:00Z'));
  const granted = await cliJson<Granted>(server, 'grant-credit', 'bob@example.com', '10');
  const { creditUntil, creditHeldAt } = await userRow(server, bob.id);
  expect(creditHeldAt).toEqual(await lastEntryAt(server, bob));
  expect(creditUntil?.toISOString()).toBe(plusDays(creditHeldAt, 55));
  expect(granted.creditUntil).toBe(creditUntil?.toISOString());
  expect(await cliText(server, 'grant-credit', 'bob@example.com', '1')).toContain(
    'Their credit is held while they pay, and would last until',
  );
});

test('grants by several processes at once all count', async () => {
  const { server, ann } = await withAnn();
  const outcomes = await Promise.all(
    ['1', '2', '3'].map((days) =>
      runCliProcess(['grant-credit', 'ann@example.com', days], {
        ...CLI_ENV,
        DATABASE_URL: server.databaseUrl,
      }),
    ),
  );
  expect(outcomes).toEqual(
    outcomes.map(() => ({
      code: 0,
      stdout: expect.stringContaining('ann@example.com') as string,
      stderr: '',
    })),
  );
  const first = await server.db.creditEntry.findUniqueOrThrow({
    where: { userId_seq: { userId: ann.id, seq: 1 } },
  });
  const { creditUntil, creditEntryCount } = await userRow(server, ann.id);
  expect(creditEntryCount).toBe(3);
  expect(creditUntil?.toISOString()).toBe(plusDays(first.at, 6));
});

test('audit shows who changed what, when and why, oldest first', async () => {
  const { server, ann } = await withAnn();
  expect(await cliJson(server, 'audit', 'ann@example.com')).toEqual([]);
  expect(await cliText(server, 'audit', 'ann@example.com')).toContain('Nothing has changed');
  await server.db.auditRow.create({
    data: {
      id: 'old',
      userId: ann.id,
      at: new Date(0),
      actor: 'stripe',
      kind: 'credit',
      seconds: -DAY,
      causeId: 'evt_1',
    },
  });
  await cliText(server, 'grant-credit', 'ann@example.com', '30', '--note', 'sorry for the "outage"');
  const rows = await cliJson<object[]>(server, 'audit', 'ann@example.com');
  expect(rows).toMatchObject([
    {
      at: '1970-01-01T00:00:00.000Z',
      actor: 'stripe',
      kind: 'credit',
      seconds: -DAY,
      causeId: 'evt_1',
      note: null,
    },
    {
      at: (await lastEntryAt(server, ann)).toISOString(),
      actor: 'operator',
      kind: 'credit',
      seconds: 30 * DAY,
      note: 'sorry for the "outage"',
    },
  ]);
  const lines = (await cliText(server, 'audit', 'ann@example.com')).trimEnd().split('\n');
  expect(lines).toHaveLength(2);
  expect(lines[0]).toMatch(/^1970-01-01T00:00:00Z {2}stripe .*credit -1 day.*\(evt_1\)$/);
  expect(lines[1]).toMatch(/operator .*credit \+30 days.*"sorry for the "outage""$/);
});

test.each([
  [45 * DAY, '+45 days'],
  [-DAY, '-1 day'],
  [DAY / 2, '+0.5 days'],
  [300, '+300 seconds'],
  [-300, '-300 seconds'],
  [0, '0 days'],
])('audit shows %i seconds of credit as %s', async (seconds, shown) => {
  const { server, ann } = await withAnn();
  await server.db.auditRow.create({
    data: {
      id: '1',
      userId: ann.id,
      at: new Date(0),
      actor: 'stripe',
      kind: 'credit',
      seconds,
      causeId: 'evt_1',
    },
  });
  expect(await cliText(server, 'audit', 'ann@example.com')).toContain(` credit ${shown} `);
});

test('audit shows what a payment changed', async () => {
  const { server } = await withCreditSince(new Date());
  const rows = await cliJson<object[]>(server, 'audit', 'bob@example.com');
  expect(rows).toHaveLength(2);
  expect(rows).toContainEqual(
    expect.objectContaining({ actor: 'stripe', kind: 'tier', fromTier: 'free', toTier: 'paid' }),
  );
  expect(rows).toContainEqual(
    expect.objectContaining({ actor: 'stripe', kind: 'credit', seconds: 45 * DAY }),
  );
  expect(await cliText(server, 'audit', 'bob@example.com')).toMatch(/free -> paid/);
});

test('user --json prints the document of /api/me', async () => {
  const { server, ann } = await withCreditSince(new Date());
  const me = await server.app.inject({ url: '/api/me', headers: { cookie: ann.cookie } });
  const shown = await cliJson<{ creditDays: number }>(server, 'user', ' Ann@Example.com ');
  expect(shown).toEqual(me.json());
  expect(shown.creditDays).toBe(45);
});

test('user says until when nobody can log in because somebody else is proving the address', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const shutOut = (shutOutUntil: Date) =>
    server.db.user.update({ where: { id: ann.id }, data: { shutOutUntil } });
  const inAnHour = new Date(Math.floor(Date.now() / 1000) * 1000 + 3_600_000);
  await shutOut(inAnHour);
  expect(await cliText(server, 'user', 'ann@example.com')).toMatch(
    /^login +refused until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ: somebody else is proving the address$/m,
  );
  await shutOut(new Date(0));
  expect(await cliText(server, 'user', 'ann@example.com')).not.toContain('refused');
});

test('user prints access, credit, subscription and referrals', async () => {
  const { server, ann } = await withCreditSince(new Date());
  const text = await cliText(server, 'user', 'ann@example.com');
  expect(text).toMatch(/^email +ann@example.com$/m);
  expect(text).toMatch(/^tier +free$/m);
  expect(text).toMatch(/^access +credit, until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/m);
  expect(text).toMatch(/^credit +45 days, until /m);
  expect(text).toMatch(/^subscription +none$/m);
  expect(text).toContain(`http://tandem.test/r/${ann.code}`);
  expect(text).toMatch(/^invited +1, converted 1, active credits 1$/m);
  const bob = await cliText(server, 'user', 'bob@example.com');
  expect(bob).toMatch(/^credit +45 days, until .* \(held\)$/m);
  expect(bob).toMatch(/^subscription +active, monthly$/m);
});

test('migrate brings a new database up to date, and does nothing the second time', async () => {
  const url = `${await newDatabase()}.new`;
  const first = await cli({ databaseUrl: url }, 'migrate', '--json');
  expect(first.code).toBe(0);
  expect((JSON.parse(first.stdout) as { applied: string[] }).applied.length).toBeGreaterThan(0);
  expect(await cli({ databaseUrl: url }, 'migrate')).toEqual({
    code: 0,
    stdout: 'The database is up to date.\n',
    stderr: '',
  });
});

test.each(['status', 'doctor', 'users', 'prune', 'mail'])(
  '%s does not migrate an older database, which servers of that version may be using',
  async (command) => {
    const databaseUrl = await newDatabase();
    const { missing, isStillOlder } = await makeOlder(databaseUrl);
    const result = await cli({ databaseUrl }, command);
    expect(result).toEqual({
      code: 1,
      stdout: '',
      stderr: `The database is older than this version of Tandem, which needs these migrations: ${missing}. Stop all servers, then run \`migrate\` or start a server of this version.\n`,
    });
    expect(await isStillOlder()).toBe(true);
  },
);

interface Link {
  email: string;
  url: string;
  expiresAt: string;
}

/** A reset link for Ann: its path and its expiry. */
async function resetLink(server: TestServer): Promise<{ path: string; expiresAt: Date }> {
  const link = await cliJson<Link>(server, 'reset-link', 'ann@example.com');
  expect(link.email).toBe('ann@example.com');
  expect(link.url).toMatch(/^http:\/\/tandem\.test\/reset\/[\w-]{43}$/);
  return { path: new URL(link.url).pathname, expiresAt: new Date(link.expiresAt) };
}

test('a reset link sets a new password and ends all sessions', async () => {
  const { server, ann } = await withAnn();
  const elsewhere = cookiesOf(await logIn(server, 'ann@example.com', PASSWORD));
  const { path } = await resetLink(server);
  const form = await server.app.inject({ url: path });
  expect(form.statusCode).toBe(200);
  expect(form.body).toContain(`action="${path}"`);

  const answer = await postForm(server.app, path, { password: NEW_PASSWORD }, ann.cookie);
  expect(answer.statusCode).toBe(303);
  expect(answer.headers.location).toBe('/login');
  const next = await server.app.inject({ url: '/login', headers: { cookie: cookiesOf(answer) } });
  expect(next.body).toContain('Your new password is set.');
  expect(await server.db.session.count()).toBe(0);
  for (const cookie of [ann.cookie, elsewhere]) {
    expect((await server.app.inject({ url: '/api/me', headers: { cookie } })).statusCode).toBe(401);
  }
  expect(await loginStatus(server, 'ann@example.com', PASSWORD)).toBe(401);
  expect(await loginStatus(server, 'ann@example.com', NEW_PASSWORD)).toBe(303);
});

test('a reset link works once, even when it is used twice at the same moment', async () => {
  const { server } = await withAnn();
  const { path } = await resetLink(server);
  const answers = await Promise.all(
    ['first password', 'second password'].map((password) => postForm(server.app, path, { password })),
  );
  expect(answers.map((answer) => answer.statusCode).sort()).toEqual([303, 404]);
  expect((await server.app.inject({ url: path })).statusCode).toBe(404);
  expect((await postForm(server.app, path, { password: NEW_PASSWORD })).statusCode).toBe(404);
  expect(await loginStatus(server, 'ann@example.com', NEW_PASSWORD)).toBe(401);
});

test('opening a reset link, or typing too short a password, does not use it up', async () => {
  const { server } = await withAnn();
  const { path } = await resetLink(server);
  await server.app.inject({ url: path });
  const short = await postForm(server.app, path, { password: '1234567' });
  expect(short.statusCode).toBe(400);
  expect(short.body).toContain('Choose a password of 8 to 200 characters.');
  expect(short.body).toContain(`action="${path}"`);
  expect((await postForm(server.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
});

test('a reset link works for exactly one hour', async () => {
  const { server } = await withAnn();
  const earliest = Math.floor(Date.now() / 1000) * 1000;
  const { path, expiresAt } = await resetLink(server);
  expect(expiresAt.getTime()).toBeGreaterThanOrEqual(earliest + 3_600_000);
  expect(expiresAt.getTime()).toBeLessThanOrEqual(Date.now() + 3_600_000);

  server.clock.now = new Date(expiresAt.getTime() - 1000);
  expect((await server.app.inject({ url: path })).statusCode).toBe(200);
  server.clock.now = expiresAt;
  const late = await server.app.inject({ url: path });
  expect(late.statusCode).toBe(404);
  expect(late.body).toContain('This link no longer works');
  expect((await postForm(server.app, path, { password: NEW_PASSWORD })).statusCode).toBe(404);
  expect(await loginStatus(server, 'ann@example.com', PASSWORD)).toBe(303);
});

test('a new reset link replaces an older one', async () => {
  const { server } = await withAnn();
  const older = await resetLink(server);
  const newer = await resetLink(server);
  expect((await postForm(server.app, older.path, { password: NEW_PASSWORD })).statusCode).toBe(404);
  expect((await postForm(server.app, newer.path, { password: NEW_PASSWORD })).statusCode).toBe(303);
});

test('reset-link prints the link first, and the database does not hold the token', async () => {
  const { server } = await withAnn();
  const [url = '', rest] = (await cliText(server, 'reset-link', 'ann@example.com')).split('\n');
  expect(url).toMatch(/^http:\/\/tandem\.test\/reset\//);
  expect(rest).toContain('It works once');
  const token = url.slice(url.lastIndexOf('/') + 1);
  expect(JSON.stringify(await server.db.resetLink.findMany())).not.toContain(token);
});

test.each([
  ['user', 'nobody@example.com'],
  ['audit', 'nobody@example.com'],
  ['reset-link', 'nobody@example.com'],
  ['grant-credit', 'nobody@example.com', '10'],
])('%s of an address without an account prints one line and exits 1', async (...args) => {
  const outcome = await cli({ databaseUrl: await newDatabase() }, ...args);
  expect(outcome).toEqual({
    code: 1,
    stdout: '',
    stderr: 'No account has the address nobody@example.com.\n',
  });
});

test.each([
  ['user', 'ann@example.com'],
  ['doctor', '--json'],
])('where there is no database, %s makes none', async (...args) => {
  const folder = await emptyFolder();
  const { code, stdout, stderr } = await cli({ databaseUrl: `file:${join(folder, 'x', 't.db')}` }, ...args);
  expect(code).toBe(1);
  expect(stdout + stderr).toContain('There is no database at ');
  expect(await readdir(folder)).toEqual([]);
  expect((await cli({ databaseUrl: `file:${join(folder, 't.db')}` }, 'migrate')).code).toBe(0);
  expect(await readdir(folder)).toContain('t.db');
});

test('a database that cannot be opened prints one line and exits 1', async () => {
  const { code, stdout, stderr } = await cli(NOWHERE, 'user', 'ann@example.com');
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/^The database .* cannot be opened: .*\n$/);
});

test.each([
  ['no command', []],
  ['a missing address', ['user']],
  ['one argument too many', ['audit', 'ann@example.com', 'bob@example.com']],
  ['an unknown option', ['user', 'ann@example.com', '--loud']],
  ['missing days', ['grant-credit', 'ann@example.com']],
  ['an option without its value', ['grant-credit', 'ann@example.com', '10', '--note']],
  ['no days', ['grant-credit', 'ann@example.com', '0']],
  ['more than 3650 days', ['grant-credit', 'ann@example.com', '3651']],
  ['days below zero', ['grant-credit', 'ann@example.com', '-5']],
  ['half a day', ['grant-credit', 'ann@example.com', '1.5']],
  ['days in another notation', ['grant-credit', 'ann@example.com', '1e3']],
  ['days that are not a number', ['grant-credit', 'ann@example.com', 'ten']],
])('%s is wrong usage: exit 2, usage on stderr, nothing done', async (_name, args) => {
  const server = await startServerNow();
  const ann = await signUp(server, 'ann@example.com');
  const { code, stdout, stderr } = await cli(server, ...args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(/^Usage: tandem/m);
  expect(stderr).not.toMatch(/^ +at /m);
  expect((await userRow(server, ann.id)).creditUntil).toBeNull();
});

test.each([
  ['done', 0, ['--help'], /^Usage: tandem/, /^$/],
  ['failed', 1, ['user', 'nobody@example.com'], /^$/, /^No account has the address nobody@example\.com\.\n$/],
  ['wrong usage', 2, ['user'], /^$/, /^error: missing required argument/],
])('exit code and streams of a process: %s', async (_name, code, args, stdout, stderr) => {
  const outcome = await runCliProcess(args, { ...CLI_ENV, DATABASE_URL: await newDatabase() });
  expect(outcome).toEqual({
    code,
    stdout: expect.stringMatching(stdout) as string,
    stderr: expect.stringMatching(stderr) as string,
  });
});

test('wrong usage exits 2 whatever the state of the database', async () => {
  const { code, stderr } = await cli(NOWHERE, 'grant-credit', 'ann@example.com', 'ten');
  expect(code).toBe(2);
  expect(stderr).toMatch(/^Usage: tandem/m);
});

test('--help lists the commands and exits 0', async () => {
  const { code, stdout, stderr } = await cli(NOWHERE, '--help');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const listed = [...stdout.matchAll(/^ {2}([a-z-]+) .*\S/gm)].map(([, name]) => name);
  expect(listed.sort()).toEqual([
    'audit',
    'backup',
    'check-config',
    'doctor',
    'event',
    'events',
    'explain',
    'grant-credit',
    'mail',
    'mail-resend',
    'migrate',
    'migrate-to',
    'prune',
    'reconcile',
    'relink',
    'replay',
    'reset-link',
    'status',
    'user',
    'users',
  ]);
});

test.each([
  ['wrong_usage', 2, ['user'], /^missing required argument 'who'$/],
  ['wrong_usage', 2, ['usr', 'ann@example.com'], /^unknown command 'usr' \(Did you mean user\?\)$/],
  ['wrong_usage', 2, ['grant-credit', 'ann@example.com', '0'], /It must be a whole number from 1 to 3650\.$/],
  ['wrong_usage', 2, ['reconcile', '--since', 'monday'], /such as 36h or 7d\.$/],
  ['not_found', 1, ['user', 'nobody@example.com'], /^No account has the address nobody@example\.com\.$/],
  ['failed', 1, ['reconcile'], /^STRIPE_API_KEY is not set/],
])('with --json an error is one JSON document: %s', async (code, exit, args, message) => {
  const outcome = await cli({ databaseUrl: await newDatabase() }, ...args, '--json');
  expect({ code: outcome.code, stderr: outcome.stderr }).toEqual({ code: exit, stderr: '' });
  expect(JSON.parse(outcome.stdout)).toEqual({
    error: { code, message: expect.stringMatching(message) as string },
  });
});

test('with --json a wrong variable and a database that cannot be opened are JSON documents, too', async () => {
  const unopened = await cli(NOWHERE, 'user', 'ann@example.com', '--json');
  expect(JSON.parse(unopened.stdout)).toMatchObject({ error: { code: 'failed' } });
  const wrong = await runCli(['status', '--json'], {
    ...CLI_ENV,
    DATABASE_URL: NOWHERE.databaseUrl,
    PORT: 'a port',
  });
  expect({ code: wrong.code, stderr: wrong.stderr }).toEqual({ code: 1, stderr: '' });
  expect(JSON.parse(wrong.stdout)).toMatchObject({
    error: { message: expect.stringContaining('PORT') as string },
  });
});

test.each([
  [
    'with the nearest one',
    'grant-credits',
    "error: unknown command 'grant-credits'\n(Did you mean grant-credit?)\n",
  ],
  ['that is like no other', 'dance', "error: unknown command 'dance'\n"],
])('an unknown command %s is wrong usage, and says where all commands are', async (_which, name, error) => {
  const { code, stdout, stderr } = await cli(NOWHERE, name, 'ann@example.com', '1');
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toBe(`${error}Add --help to see all commands.\n`);
});

test('npx tandem runs the command line, and --version prints the version of package.json', async () => {
  const read = async (name: string): Promise<string> => readFile(join(ROOT, name), 'utf8');
  const { version, bin } = JSON.parse(await read('package.json')) as { version: string; bin: object };
  expect(bin).toEqual({ tandem: 'bin/tandem.js' });
  const { stdout } = await promisify(execFile)(join(ROOT, 'bin/tandem.js'), ['--version']);
  expect(stdout).toBe(`${version}\n`);
  expect(await cli(NOWHERE, '--version')).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
});

describe('on a terminal', () => {
  beforeEach(() => {
    vi.stubEnv('FORCE_COLOR', undefined);
    vi.stubEnv('NO_COLOR', undefined);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  const onTerminal = ({ databaseUrl }: TestServer, ...args: string[]): Promise<string> =>
    runCliOnTerminal(args, { ...CLI_ENV, DATABASE_URL: databaseUrl });

  test('lists are tables with aligned columns, and columns without a value are left out', async () => {
    vi.stubEnv('NO_COLOR', '1');
    const { server, ann } = await withAnn();
    const bob = await signUp(server, 'bob-with-a-long-address@example.com');
    const lines = (await onTerminal(server, 'users')).trimEnd().split('\n');
    const [head = '', ...rows] = lines;
    expect(head).toMatch(/^SIGNED UP +ADDRESS +CODE +TIER +CREDIT +ID$/);
    expect(rows).toHaveLength(2);
    for (const { email, code, id } of [ann, bob]) {
      const row = rows.find((one) => one.includes(id)) ?? '';
      expect(row.indexOf(email)).toBe(head.indexOf('ADDRESS'));
      expect(row.indexOf(code)).toBe(head.indexOf('CODE'));
      expect(row.indexOf(id)).toBe(head.indexOf('ID'));
    }
    await deliverAll(server, [buyer(ann.id).checkoutCompleted()]);
    expect(await onTerminal(server, 'events')).toMatch(
      /^RECEIVED +OUTCOME +TYPE +ID\n\S+ +applied +checkout/,
    );
  });

  test('what went wrong is red; with NO_COLOR, --json or no terminal nothing is coloured', async () => {
    const { server } = await withAnn();
    await server.db.event.create({
      data: {
        id: 'evt_1',
        type: 'invoice.paid',
        created: new Date(0),
        receivedAt: new Date(0),
        status: 'failed',
        error: 'Error: \u001b[2J',
      },
    });
    const red = '\u001b[31mfailed\u001b[39m';
    const coloured = await onTerminal(server, 'events');
    expect(coloured).toContain(red);
    expect(coloured).toContain('\\u001b[2J');
    expect(await onTerminal(server, 'status')).toContain('\u001b[31m1 failed\u001b[39m');
    expect(await onTerminal(server, 'event', 'evt_1')).toContain(red);
    const plain = [await cliText(server, 'status'), await onTerminal(server, 'status', '--json')];
    vi.stubEnv('NO_COLOR', '1');
    plain.push(await onTerminal(server, 'events'), await onTerminal(server, 'explain', 'ann@example.com'));
    for (const text of plain) expect(text).not.toContain('\u001b');
  });
});
