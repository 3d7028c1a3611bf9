import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';

import { DriverAdapterError } from '@prisma/driver-adapter-utils';
import type { FastifyInstance, LightMyRequestResponse } from 'fastify';
import { Client } from 'pg';
import { pino } from 'pino';
import { describe, expect, inject, onTestFinished, test, vi } from 'vitest';

import { inTransaction, isBusyOrUnreachable, isUnreachable } from '../src/db/transaction.ts';
import { BOUNDS } from '../src/http/bounds.ts';
import { registry } from '../src/metrics.ts';
import { keepBusy, otherConnection } from './support/other-connection.ts';
import { runCliProcess, until } from './support/process.ts';
import {
  deliver,
  deliverAll,
  deliverRaw,
  SESSION_SECRET,
  signUp,
  START,
  startTestServer,
} from './support/server.ts';
import type { TestServer } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

const onPostgresql = inject('engine') === 'postgresql';
const AT_A_TIME = 256;

async function refusals(app: FastifyInstance): Promise<string | undefined> {
  const { body } = await app.inject({ url: '/metrics' });
  return /^tandem_events_total\{type="unknown",outcome="refused"\} (\d+)$/m.exec(body)?.[1];
}

function expectRefused(answer: LightMyRequestResponse, why: RegExp): void {
  expect(answer.statusCode).toBe(503);
  expect(answer.headers['retry-after']).toMatch(/^[1-9]\d*$/);
  expect(answer.json<{ error: string }>().error).toMatch(why);
}

describe('too many webhooks at once', () => {
  test('webhooks over the limit are refused at once, unread, and accepted again once there is room', async () => {
    registry.resetMetrics();
    const server = await startTestServer();
    const { lift } = await keepBusy(server);
    const events = Array.from({ length: AT_A_TIME + 1 }, () => buyer().created());
    const answers = events.map((event) => deliver(server, event));
    // With the database locked, none of the other requests can be answered.
    expectRefused(await Promise.race(answers), /too many events/);
    expectRefused(await deliverRaw(server.app, 'not even signed'), /too many events/);
    expect((await server.app.inject({ url: '/healthz' })).statusCode).toBe(200);
    expect(await refusals(server.app)).toBe('2');

    await lift();
    const all = await Promise.all(answers);
    expect(all.filter(({ body }) => body.includes('too many events'))).toHaveLength(1);
    // On a slow machine some of the others may have waited too long for the database; they are sent again too.
    const again = events.filter((_event, index) => all[index]?.statusCode !== 200);
    expect(again.length).toBeLessThan(AT_A_TIME);
    await deliverAll(server, again);
    expect(await server.db.event.count({ where: { status: 'applied' } })).toBe(AT_A_TIME + 1);
  });

  test('requests with a bad signature do not use up the slots', async () => {
    const server = await startTestServer();
    const forged = Array.from({ length: AT_A_TIME }, () => deliverRaw(server.app, '{}', 't=1,v1=00'));
    const [answer] = await Promise.all([deliver(server, buyer().created()), ...forged]);
    expect(answer.statusCode).toBe(200);
    for (const { statusCode } of await Promise.all(forged)) expect(statusCode).toBe(400);
  });
});

describe('when the event loop lags', () => {
  /** Blocks the event loop. */
  function block(ms: number): void {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
  }

  /** A server whose event loop lags; for a moment it still counts as busy. */
  async function overloadedServer(): Promise<TestServer> {
    const server = await startTestServer({}, { now: START }, BOUNDS);
    await until(() => {
      const late = server.app.isUnderPressure();
      if (!late) block(3_500);
      return Promise.resolve(late || undefined);
    });
    return server;
  }

  test('a page request gets a page that says so, and /api/ gets JSON', async () => {
    const { app } = await overloadedServer();
    const urls = ['/', '/no-such-page', '/api/me'];
    const [page, nothing, api] = await Promise.all(urls.map((url) => app.inject({ url })));
    for (const answer of [page, nothing, api]) {
      expect(answer?.statusCode).toBe(503);
      expect(answer?.headers['retry-after']).toBe('5');
      expect(answer?.headers['content-security-policy']).toContain("default-src 'none'");
    }
    expect(page?.headers['content-type']).toMatch(/^text\/html/);
    expect(page?.body).toContain('Please try again in a moment.');
    expect(api?.json()).toMatchObject({ error: { code: 'busy' } });
  });

  test('a refused request is one line in the log, not logged as a server error', async () => {
    const lines: string[] = [];
    const logger = pino({}, { write: (line: string) => void lines.push(line) });
    // A threshold of zero: every delay counts as too long.
    const { app } = await startTestServer({}, { now: START }, { ...BOUNDS, delayMs: 0 }, logger);
    for (const url of ['/', '/api/me']) expect((await app.inject({ url })).statusCode).toBe(503);
    expect(lines.map((line) => JSON.parse(line) as object)).toMatchObject([
      { msg: 'request', statusCode: 503 },
      { msg: 'request', statusCode: 503 },
    ]);
  });

  test('a single pause refuses nothing', async () => {
    const { app } = await startTestServer({}, { now: START }, BOUNDS);
    block(1_500);
    const statuses = new Set<number>();
    // Until the delay has been measured, after some seconds.
    await until(async () => {
      statuses.add((await app.inject({ url: '/' })).statusCode);
      return app.memoryUsage().eventLoopDelay > 0 ? true : undefined;
    });
    statuses.add((await app.inject({ url: '/' })).statusCode);
    expect([...statuses]).toEqual([200]);
  });

  test('an overloaded server refuses webhooks, so that Stripe sends them again', async () => {
    registry.resetMetrics();
    const server = await overloadedServer();
    const event = buyer().created();
    expectRefused(await deliver(server, event), /overloaded/);
    expect(await refusals(server.app)).toBe('1');
    expect(await server.db.event.count()).toBe(0);
  });

  test('health, readiness and metrics still answer', async () => {
    const { app } = await overloadedServer();
    const urls = ['/healthz', '/readyz', '/metrics'];
    for (const { statusCode } of await Promise.all(urls.map((url) => app.inject({ url }))))
      expect(statusCode).toBe(200);
  });
});

describe('/readyz', () => {
  test.runIf(onPostgresql)('/readyz does not wait for a database that hangs', async () => {
    const server = await startTestServer();
    const { run } = await otherConnection(server);
    await run('BEGIN; LOCK TABLE "_prisma_migrations"');
    const answer = await server.app.inject({ url: '/readyz' });
    await run('COMMIT');
    expect(answer.statusCode).toBe(503);
    expect(answer.json()).toEqual({ status: 'the database is busy: no answer within 2 s' });
    // The query that hung may still be running.
    await until(async () => {
      const { statusCode } = await server.app.inject({ url: '/readyz' });
      return statusCode === 200 || undefined;
    });
  });

  test('a check that the database never answers is given up after 10 s', async () => {
    const server = await startTestServer();
    const start = server.clock.now.getTime();
    const query = vi.spyOn(server.db, '$queryRaw').mockReturnValueOnce(new Promise(() => {}) as never);
    const ready = async () => (await server.app.inject({ url: '/readyz' })).statusCode;
    const first = ready();
    await until(() => Promise.resolve(query.mock.calls.length === 1 || undefined));
    // Until then, requests share it.
    server.clock.now = new Date(start + 9_000);
    expect(await Promise.all([first, ready()])).toEqual([503, 503]);
    expect(query).toHaveBeenCalledTimes(1);
    server.clock.now = new Date(start + 10_000);
    expect(await ready()).toBe(200);
    expect(query).toHaveBeenCalledTimes(2);
  });

  test('/readyz does not mistake a long transaction for a database that hangs', async () => {
    const server = await startTestServer();
    await inTransaction(server.db, START, async () => {
      expect((await server.app.inject({ url: '/readyz' })).statusCode).toBe(200);
    });
  });

  test('/readyz says when a migration is unfinished', async () => {
    const server = await startTestServer();
    const { run } = await otherConnection(server);
    await run(`UPDATE "_prisma_migrations" SET "finished_at" = NULL WHERE "migration_name" LIKE '%_backups'`);
    const answer = await server.app.inject({ url: '/readyz' });
    expect(answer.statusCode).toBe(503);
    expect(answer.json<{ status: string }>().status).toMatch(
      /^the migration \d+_backups of the database is not finished$/,
    );
  });

  test('/readyz compares migrations by name: a missing one is 503, even when there are others', async () => {
    const server = await startTestServer();
    const { run } = await otherConnection(server);
    const name = `"migration_name" LIKE '%_backups'`;
    await run(`UPDATE "_prisma_migrations" SET "migration_name" = '20990101000000_future' WHERE ${name}`);
    const answer = await server.app.inject({ url: '/readyz' });
    expect(answer.statusCode).toBe(503);
    expect(answer.json<{ status: string }>().status).toMatch(
      /^the database lacks the migration \d+_backups: restart the server$/,
    );
  });

  test('stays 200 when a newer version has added a migration', async () => {
    const server = await startTestServer();
    const { run } = await otherConnection(server);
    await run(
      `INSERT INTO "_prisma_migrations" ("id", "checksum", "migration_name", "finished_at", "applied_steps_count")
       SELECT 'future', 'x', '20990101000000_future', "finished_at", 1 FROM "_prisma_migrations" LIMIT 1`,
    );
    expect((await server.app.inject({ url: '/readyz' })).statusCode).toBe(200);
  });
});

test.each(['EHOSTUNREACH', 'EPIPE'])(
  '%s means that the database is unreachable, and an ordinary error does not',
  (code) => {
    expect(isUnreachable(Object.assign(new Error(`connect ${code} 192.0.2.1:5432`), { code }))).toBe(true);
    expect(isUnreachable(new Error(code))).toBe(false);
  },
);

test.each([
  ['SocketTimeout', true, false],
  ['TooManyConnections', true, false],
  ['DatabaseNotReachable', true, true],
  ['ConnectionClosed', true, true],
] as const)(
  'driver error %s: busy or unreachable %s, unreachable %s',
  (kind, busyOrUnreachable, unreachable) => {
    const error = new DriverAdapterError({ kind } as ConstructorParameters<typeof DriverAdapterError>[0]);
    expect(isBusyOrUnreachable(error)).toBe(busyOrUnreachable);
    expect(isUnreachable(error)).toBe(unreachable);
  },
);

test.runIf(onPostgresql)(
  'a connection that the network lost means that the database is unreachable',
  async () => {
    const server = await startTestServer();
    const lost = Object.assign(new Error('read ETIMEDOUT'), {
      code: 'ETIMEDOUT',
      syscall: 'read',
      errno: -110,
    });
    // The connection is open by now.
    await server.db.user.count();
    vi.spyOn(Client.prototype, 'query').mockImplementationOnce((...args: unknown[]) => {
      const answer = args.at(-1) as (error: Error) => void;
      answer(lost);
    });
    const error: unknown = await server.db.user.count().catch((one: unknown) => one);
    expect(isUnreachable(error)).toBe(true);
  },
);

describe.runIf(onPostgresql)('a pool whose connections are all in use', () => {
  test('is 503 and reported as busy, not as a database that cannot be reached', async () => {
    const server = await startTestServer();
    const { cookie } = await signUp(server, 'ann@example.com');
    // As many idle transactions as there are connections.
    let letGo = (): void => undefined;
    const held = new Promise<void>((resolve) => (letGo = resolve));
    let begun = 0;
    const standing = Array.from({ length: 10 }, () =>
      inTransaction(server.db, START, async (tx) => {
        await tx.setting.findMany();
        begun += 1;
        await held;
      }),
    );
    await until(() => Promise.resolve(begun === 10 || undefined));
    const [page, api, ready, event] = await Promise.all([
      server.app.inject({ url: '/settings', headers: { cookie } }),
      server.app.inject({ url: '/api/me', headers: { cookie } }),
      server.app.inject({ url: '/readyz' }),
      deliver(server, buyer().created()),
    ]);
    letGo();
    await Promise.all(standing);
    expect(page.statusCode).toBe(503);
    expect(page.body).toContain('Our database is too busy right now.');
    expect(api.json()).toMatchObject({ error: { code: 'database_busy' } });
    expect(ready.json()).toEqual({ status: 'the database is busy: no answer within 2 s' });
    expectRefused(event, /the database is busy/);
  });
});

describe.runIf(onPostgresql)('a database that is unreachable', () => {
  /** A proxy to the database. It drops all connections when told to, or when a query contains a given text. */
  async function proxyTo(databaseUrl: string) {
    const { hostname, port } = new URL(databaseUrl);
    const sockets = new Set<Socket>();
    let fatal: string | null = null;
    const proxy = createServer((client) => {
      const database = connect(Number(port), hostname);
      for (const [socket, other] of [
        [client, database],
        [database, client],
      ] as const) {
        sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => other.destroy());
      }
      database.pipe(client);
      client.on('data', (chunk) => {
        if (fatal === null || !chunk.includes(fatal)) database.write(chunk);
        else goDown();
      });
    });
    function goDown(): void {
      proxy.close();
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    }
    async function comeUp(at: number): Promise<number> {
      fatal = null;
      proxy.listen(at, '127.0.0.1');
      await once(proxy, 'listening');
      return (proxy.address() as { port: number }).port;
    }
    const own = await comeUp(0);
    onTestFinished(goDown);
    return {
      url: Object.assign(new URL(databaseUrl), { port: String(own) }).href,
      goDown,
      goDownAt: (words: string) => (fatal = words),
      comeUp: () => comeUp(own),
    };
  }

  async function serverBehindProxy() {
    const direct = await startTestServer();
    const proxy = await proxyTo(direct.databaseUrl);
    const behind = await startTestServer({ DATABASE_URL: proxy.url }, direct.clock);
    return { direct, proxy, behind };
  }

  test.each(['BEGIN', 'INSERT INTO "Event"', '"Subscription"', 'COMMIT'])(
    'connection lost at %s: 503, no failed row, and the event is applied once the database is back',
    async (words) => {
      registry.resetMetrics();
      const { direct, proxy, behind } = await serverBehindProxy();
      proxy.goDownAt(words);
      const event = buyer().created();
      expectRefused(await deliver(behind, event), /the database cannot be reached/);
      expectRefused(await deliver(behind, event), /the database cannot be reached/);
      expect(await direct.db.event.count()).toBe(0);
      const { body } = await behind.app.inject({ url: '/metrics' });
      expect(body).toContain(`tandem_events_total{type="${event.type}",outcome="unreachable"} 2`);
      expect(body).toContain('tandem_transactions_given_up_total{code="P1017"} 1');

      await proxy.comeUp();
      expect((await deliver(behind, event)).json()).toEqual({ status: 'ok' });
    },
  );

  test('with the database down, pages and /readyz say so and /healthz stays 200', async () => {
    const { direct, proxy, behind } = await serverBehindProxy();
    const { cookie } = await signUp(direct, 'ann@example.com');
    proxy.goDown();
    const page = await behind.app.inject({ url: '/settings', headers: { cookie } });
    expect(page.statusCode).toBe(503);
    expect(page.body).toContain('Our database is not answering right now.');
    expect(page.headers['retry-after']).toBe('5');
    const api = await behind.app.inject({ url: '/api/me', headers: { cookie } });
    expect(api.json()).toMatchObject({ error: { code: 'database_unavailable' } });
    expect((await behind.app.inject({ url: '/readyz' })).statusCode).toBe(503);
    expect((await behind.app.inject({ url: '/healthz' })).statusCode).toBe(200);
    await proxy.comeUp();
    expect((await behind.app.inject({ url: '/readyz' })).statusCode).toBe(200);
  });

  test('a command whose database goes away prints one line and exits 1', async () => {
    const { proxy, behind } = await serverBehindProxy();
    await signUp(behind, 'ann@example.com');
    proxy.goDownAt('INSERT INTO "CreditEntry"');
    const answer = await runCliProcess(['grant-credit', 'ann@example.com', '30'], {
      DATABASE_URL: proxy.url,
      STRIPE_WEBHOOK_SECRET: 'whsec_test',
      SESSION_SECRET,
    });
    expect(answer).toEqual({
      code: 1,
      stdout: '',
      stderr:
        'The connection to the database was lost. Check that the database server is running, then try again.\n',
    });
  });
});
