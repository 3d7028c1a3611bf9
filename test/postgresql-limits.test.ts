import { expect, onTestFinished, test, vi } from 'vitest';

import { expectTooMany, failLogIns, WRONG } from './support/failed-logins.ts';
import { otherConnection } from './support/other-connection.ts';
import { until } from './support/process.ts';
import { holdBefore } from './support/race-point.ts';
import { me, PASSWORD, postFrom, signUp, START, startTestServer } from './support/server.ts';

// On PostgreSQL all servers count in the database. limits.test.ts tests what is limited, on both engines.

test('two servers share the limits, and store no address', async () => {
  const one = await startTestServer();
  const other = await startTestServer({ DATABASE_URL: one.databaseUrl });
  await failLogIns(one, 5, '192.0.2.1');
  await failLogIns(other, 5, '192.0.2.1');
  expectTooMany(await postFrom(one, '/login', '192.0.2.1', WRONG));
  expectTooMany(await postFrom(other, '/login', '192.0.2.1', WRONG));
  const rows = await one.db.rateLimit.findMany();
  expect(rows).toMatchObject([{ points: 10 }, { points: 10 }]);
  expect(JSON.stringify(rows)).not.toMatch(/192\.0\.2\.1|nobody/);
});

test('a try that outlasts its window gives nothing back to the next one', async () => {
  vi.useFakeTimers({ toFake: ['Date'], now: START });
  onTestFinished(() => void vi.useRealTimers());
  const server = await startTestServer();
  await signUp(server, 'ann@example.com');
  await failLogIns(server, 1, '192.0.2.1');
  const { arrived, open } = await holdBefore(server, 'INSERT', 'Session');
  const right = postFrom(server, '/login', '192.0.2.1', { email: 'ann@example.com', password: PASSWORD });
  await arrived();
  vi.setSystemTime(new Date(START.getTime() + 601_000));
  await failLogIns(server, 10, '192.0.2.1');
  await open();
  expect((await right).statusCode).toBe(303);
  expectTooMany(await postFrom(server, '/login', '192.0.2.1', WRONG));
});

test('windows that have ended are deleted, and others stay', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  onTestFinished(() => void vi.useRealTimers());
  const { db } = await startTestServer();
  const inMinutes = (minutes: number) => new Date(Date.now() + minutes * 60_000);
  await db.rateLimit.createMany({
    data: [
      { key: 'ended', points: 10, expire: inMinutes(-1) },
      { key: 'open', points: 10, expire: inMinutes(30) },
    ],
  });
  vi.advanceTimersByTime(10 * 60_000);
  const left = () => db.rateLimit.findMany({ select: { key: true } });
  await until(async () => (await left()).length === 1 || undefined);
  expect(await left()).toEqual([{ key: 'open' }]);
});

test('a restarted server continues counting', async () => {
  const first = await startTestServer();
  await failLogIns(first, 10, '192.0.2.1');
  const second = await startTestServer({ DATABASE_URL: first.databaseUrl });
  expectTooMany(await postFrom(second, '/login', '192.0.2.1', WRONG));
});

test('a flood from one /48 of IPv6 waits for its count on one connection, so that others get their pages', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const unknown = (home: number) =>
    server.app.inject({ url: '/none', remoteAddress: `2001:db8:0:${home}00::1` });
  await unknown(1);
  const { run, rows } = await otherConnection(server);
  await run('BEGIN; SELECT 1 FROM "RateLimit" FOR UPDATE');
  // More than the pool has connections.
  const flood = Array.from({ length: 15 }, (_, n) => unknown(2 + n));
  const waiting = `SELECT 1 FROM pg_stat_activity WHERE "wait_event_type" = 'Lock' AND "datname" = current_database()`;
  await until(async () => (await rows(waiting)).length > 0 || undefined);
  for (let n = 0; n < 5; n += 1) expect(await me(server, ann)).not.toBeNull();
  expect(await rows(waiting)).not.toHaveLength(0);
  await run('COMMIT');
  for (const { statusCode } of await Promise.all(flood)) expect(statusCode).toBe(404);
});

test('a count whose query never settles delays the next ones of its site, and then they go on', async () => {
  const server = await startTestServer();
  const dead = new Promise<never>(() => undefined);
  vi.spyOn(server.db.rateLimit, 'deleteMany').mockReturnValueOnce(dead as never);
  const unknown = () => server.app.inject({ url: '/none', remoteAddress: '192.0.2.1' });
  void unknown();
  for (const { statusCode } of await Promise.all([unknown(), unknown()])) expect(statusCode).toBe(404);
});

test('a server that cannot count in the database counts in memory', async () => {
  const server = await startTestServer();
  const { run } = await otherConnection(server);
  await run('ALTER TABLE "RateLimit" RENAME TO "Away"');
  onTestFinished(() => run('ALTER TABLE IF EXISTS "Away" RENAME TO "RateLimit"'));
  await failLogIns(server, 10, '192.0.2.1');
  expectTooMany(await postFrom(server, '/login', '192.0.2.1', WRONG));
  await run('ALTER TABLE "Away" RENAME TO "RateLimit"');
  expect((await postFrom(server, '/login', '192.0.2.1', WRONG)).statusCode).toBe(401);
});
