import { once } from 'node:events';
import { IncomingMessage } from 'node:http';
import { connect, Socket } from 'node:net';
import type { AddressInfo } from 'node:net';

import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { describe, expect, onTestFinished, test, vi } from 'vitest';

import type { Bounds } from '../src/http/bounds.ts';
import { readBody } from '../src/http/read-body.ts';
import { addSeconds } from '../src/instants.ts';
import { MAIL } from './support/mail.ts';
import { Collected, until } from './support/process.ts';
import { PASSWORD, PATIENT, sign, signUp, startTestServer } from './support/server.ts';
import type { Person } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

const ONE = { ofNetwork: 1, inAll: 10 };
const CHANGING = { inAll: 9, forMs: 600_000 };

/** One connection to the server under test. */
interface Client {
  socket: Socket;
  /** Everything that the server has answered so far. */
  answered: () => string;
  /** Resolves to everything that the server answered, once it has closed the connection. */
  closed: Promise<string>;
}

/** A server that listens, with some bounds of its own; `open` connects from one of this machine's addresses. */
async function listen(bounds: Partial<Bounds>, env: NodeJS.ProcessEnv = {}) {
  const log = new Collected();
  const { app, db, config, clock } = await startTestServer(
    env,
    undefined,
    { ...PATIENT, ...bounds },
    pino(log),
  );
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as AddressInfo;

  async function open(text: string, localAddress = '127.0.0.1'): Promise<Client> {
    const socket = connect({ host: '127.0.0.1', port, localAddress });
    onTestFinished(() => void socket.destroy());
    let answered = '';
    socket.on('data', (chunk) => (answered += chunk.toString()));
    // The server may close it while we write.
    socket.on('error', () => undefined);
    const closed = new Promise<string>((resolve) => {
      socket.once('close', () => {
        resolve(answered);
      });
    });
    await once(socket, 'connect');
    socket.write(text);
    return { socket, answered: () => answered, closed };
  }
  return { app, db, config, clock, open, log };
}

function webhook(headers: string, body = ''): string {
  return `POST /api/stripe/webhook HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n${headers}\r\n\r\n${body}`;
}

const connectionsOf = ({ server }: FastifyInstance) =>
  new Promise<number>((resolve) => {
    server.getConnections((_error, count) => {
      resolve(count);
    });
  });

const PAGE = 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n';
const LAST_PAGE = PAGE.replace('Host: x', 'Host: x\r\nConnection: close');
const WRONG_LOGIN = 'email=nobody%40example.com&password=wrong';
const LOG_IN = `POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: ${WRONG_LOGIN.length}\r\n\r\n${WRONG_LOGIN}`;
const NEVER = 10 * 60_000;

/** More than what the kernel and Node hold for a connection, bytes. */
const SIZE = 16 * 1024 * 1024;
const BACKUPS = 20;

/** Somebody whose export is larger than what the buffers of a connection hold. */
async function withLargeExport(bounds: Partial<Bounds>) {
  const server = await listen(bounds);
  const ann = await withBackups(server, 'ann@example.com');
  const request = `GET /settings/export HTTP/1.1\r\nHost: x\r\nCookie: ${ann.cookie}\r\n\r\n`;
  return { ...server, request };
}

async function withBackups(server: Awaited<ReturnType<typeof listen>>, email: string): Promise<Person> {
  const { db, clock } = server;
  const person = await signUp(server, email);
  const document = JSON.stringify('x'.repeat(SIZE / BACKUPS));
  await db.backup.createMany({
    data: Array.from({ length: BACKUPS }, (_, number) => ({
      id: `${email} ${number}`,
      userId: person.id,
      number,
      document,
      createdAt: clock.now,
    })),
  });
  return person;
}

describe('closing slow connections', () => {
  const slow = {
    headersMs: NEVER,
    requestMs: NEVER,
    idleMs: { proxy: NEVER, direct: NEVER },
    checkEveryMs: 50,
  };

  test.each([
    ['no headers', ''],
    ['only half its headers', 'POST /login HTTP/1.1\r\nHost: x\r\n'],
  ])('a connection that sends %s is closed', async (_name, text) => {
    const { open } = await listen({ ...slow, headersMs: 100 });
    expect(await (await open(text)).closed).toMatch(/^(HTTP\/1\.1 408 |$)/);
  });

  test.each(['/login', '/api/stripe/webhook', '/api/backups', '/no-such-page'])(
    'a connection that sends its body for %s too slowly is closed, even if it never pauses',
    async (path) => {
      const { open } = await listen({ ...slow, headersMs: 100, requestMs: 200 });
      const type = 'Content-Type: application/json\r\nContent-Length: 60000\r\n';
      const client = await open(`POST ${path} HTTP/1.1\r\nHost: x\r\n${type}\r\n`);
      const drip = setInterval(() => client.socket.write(' '), 10);
      onTestFinished(() => {
        clearInterval(drip);
      });
      await client.closed;
    },
  );

  test('a connection that is idle between two requests is closed', async () => {
    const { open } = await listen({ ...slow, idleMs: { proxy: NEVER, direct: 1 } });
    expect(await (await open(PAGE)).closed).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('a connection that stalls in the middle of a request is closed', async () => {
    const { open } = await listen({ ...slow, stalledMs: 100 });
    expect(await (await open(webhook('Content-Length: 9', 'x'))).closed).toBe('');
  });

  test('a connection that reads a large answer too slowly is closed', async () => {
    const { app, open, request } = await withLargeExport({ answerMs: 1_000, answerBytesPerSecond: Infinity });
    const slow = await open(request);
    await once(slow.socket, 'data');
    slow.socket.pause();
    await until(async () => (await connectionsOf(app)) === 0 || undefined);
    slow.socket.resume();
    expect((await slow.closed).length).toBeLessThan(SIZE);
  });

  test.each([
    ['a file', '/public/offer.png'],
    ['a page', '/docs'],
  ])(
    'a timer limits the time to read %s of more than 16 KiB, and is cleared with the answer',
    async (_what, path) => {
      const { open } = await listen({ answerMs: NEVER, answerBytesPerSecond: Infinity });
      const timers = vi.spyOn(globalThis, 'setTimeout');
      const cleared = vi.spyOn(globalThis, 'clearTimeout');
      onTestFinished(() => {
        vi.restoreAllMocks();
      });
      const client = await open(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
      expect((await client.closed).length).toBeGreaterThan(16 * 1024);
      const started = timers.mock.calls.findIndex(([, ms]) => ms === NEVER);
      expect(started).not.toBe(-1);
      expect(cleared).toHaveBeenCalledWith(timers.mock.results[started]?.value);
    },
  );

  test('a webhook that arrives in pieces of one byte is read whole', async () => {
    const { open, clock } = await listen({});
    const body = JSON.stringify(buyer().created());
    const signature = `Stripe-Signature: ${sign(body, clock.now)}`;
    const client = await open(webhook(`Connection: close\r\nContent-Length: ${body.length}\r\n${signature}`));
    client.socket.setNoDelay();
    for (const letter of body) await new Promise((resolve) => client.socket.write(letter, resolve));
    expect(await client.closed).toMatch(/^HTTP\/1\.1 200 .*"status":"ok"/s);
  });

  test('a request whose session ended while its body arrived is not acted on', async () => {
    const server = await listen({});
    const ann = await signUp(server, 'ann@example.com');
    const queries = vi.spyOn(server.db, '$queryRaw');
    const late = await server.open(
      [
        'POST /settings/mail HTTP/1.1',
        'Host: x',
        'Connection: close',
        `Cookie: ${ann.cookie}`,
        'Content-Type: application/x-www-form-urlencoded',
        'Content-Length: 9\r\n\r\nwanted=',
      ].join('\r\n'),
    );
    // The headers have arrived, and their session was found.
    await until(async () => (await queries.mock.results[0]?.value) as unknown);
    await server.db.session.deleteMany({ where: { userId: ann.id } });
    late.socket.write('no');
    expect(await late.closed).toMatch(/^HTTP\/1\.1 303 .*\r\nlocation: \/login\r\n/is);
    expect(await server.db.user.findUnique({ where: { id: ann.id } })).toMatchObject({ mailOff: false });
  });

  test('a reset link is mailed, and the request logged, even if whoever asked for it left before the answer', async () => {
    const server = await listen({}, MAIL);
    const { app, open, log } = server;
    await signUp(server, 'ann@example.com');
    const form = (path: string, fields: Record<string, string>) => {
      const body = new URLSearchParams(fields).toString();
      const type = 'Content-Type: application/x-www-form-urlencoded';
      return `POST ${path} HTTP/1.1\r\nHost: x\r\n${type}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    };
    // The answer is held up once the email is counted.
    const { resetMailsOfAddress } = app.limits;
    const take = resetMailsOfAddress.take.bind(resetMailsOfAddress);
    let isCounted = false;
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    vi.spyOn(resetMailsOfAddress, 'take').mockImplementationOnce(async (key) => {
      const taken = await take(key);
      isCounted = true;
      await held;
      return taken;
    });
    const { socket } = await open(form('/forgot', { email: 'ann@example.com' }));
    await until(() => Promise.resolve(isCounted || undefined));
    socket.resetAndDestroy();
    await until(async () => (await connectionsOf(app)) === 0 || undefined);
    release();
    const mails = { where: { kind: 'mail.reset-password' } };
    await until(async () => (await server.db.outboxItem.count(mails)) > 0 || undefined);
    const line = await until(() =>
      Promise.resolve(log.text.split('\n').find((one) => one.includes('"msg":"request"'))),
    );
    expect(line).toMatch(/"route":"\/forgot".*"clientLeft":true/);
    expect(log.text).not.toContain('"level":50');
  });

  test('an account has one export at a time', async () => {
    const { app, open, request } = await withLargeExport({});
    const first = await open(request);
    await once(first.socket, 'data');
    first.socket.pause();
    const second = await open(request.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
    expect(await second.closed).toContain('An export of your data is already running');
    first.socket.destroy();
    await until(async () => (await connectionsOf(app)) === 0 || undefined);
    const next = await open(request);
    await once(next.socket, 'data');
    expect(next.answered()).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('of exports that nobody reads, only so many are kept at a time', async () => {
    const server = await withLargeExport({});
    const slow = [];
    for (let n = 0; n < 10; n += 1) {
      const { cookie } = await withBackups(server, `slow${n}@example.com`);
      const request = server.request.replace(/Cookie: .*/, `Cookie: ${cookie}`);
      const client = await server.open(request, `127.0.0.${100 + n}`);
      await once(client.socket, 'data');
      client.socket.pause();
      slow.push(client);
    }
    const refused = await server.open(server.request);
    await once(refused.socket, 'data');
    expect(refused.answered()).toMatch(/^HTTP\/1\.1 503 .*\r\nretry-after: /is);
    const [first, second] = slow;
    first?.socket.destroy();
    await until(async () => {
      const next = await server.open(server.request);
      await once(next.socket, 'data');
      return next.answered().startsWith('HTTP/1.1 200 ') || undefined;
    });

    // All places are taken again. Twenty seconds later, the oldest gives way.
    const { cookie } = await withBackups(server, 'late@example.com');
    const late = () => server.open(server.request.replace(/Cookie: .*/, `Cookie: ${cookie}`));
    const tooEarly = await late();
    await once(tooEarly.socket, 'data');
    expect(tooEarly.answered()).toMatch(/^HTTP\/1\.1 503 /);
    server.clock.now = addSeconds(server.clock.now, 20);
    const inTime = await late();
    await once(inTime.socket, 'data');
    expect(inTime.answered()).toMatch(/^HTTP\/1\.1 200 /);
    second?.socket.resume();
    expect((await second?.closed)?.length).toBeLessThan(SIZE);
  });

  test('of one address, two exports that nobody reads are kept at a time, and others have theirs', async () => {
    const server = await withLargeExport({});
    for (let n = 0; n < 2; n += 1) {
      const { cookie } = await withBackups(server, `slow${n}@example.com`);
      const request = server.request.replace(/Cookie: .*/, `Cookie: ${cookie}`);
      const client = await server.open(request, '127.0.0.2');
      await once(client.socket, 'data');
      client.socket.pause();
    }
    // Refusals because of others do not count towards one's own five exports.
    for (let n = 0; n < 6; n += 1) {
      const refused = await server.open(server.request, '127.0.0.2');
      await once(refused.socket, 'data');
      expect(refused.answered()).toMatch(/^HTTP\/1\.1 503 .*\r\nretry-after: /is);
    }
    const other = await server.open(server.request, '127.0.0.3');
    await once(other.socket, 'data');
    expect(other.answered()).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('of restores that nobody reads, only so many are kept at a time', async () => {
    const server = await listen({ restores: { ofNetwork: 2, inAll: 3 } });
    const { id, cookie } = await signUp(server, 'ann@example.com');
    const document = JSON.stringify('x'.repeat(SIZE));
    await server.db.backup.create({
      data: { id: 'b', userId: id, number: 1, document, createdAt: server.clock.now },
    });
    const restore = `POST /api/backups/b/restore HTTP/1.1\r\nHost: x\r\nCookie: ${cookie}\r\nContent-Length: 0\r\n\r\n`;
    const ask = async (from: string) => {
      const client = await server.open(restore, from);
      await once(client.socket, 'data');
      client.socket.pause();
      return client;
    };
    const status = async (from: string) => (await ask(from)).answered().slice(9, 12);
    const [first] = [await ask('127.0.0.2'), await ask('127.0.0.2')];
    expect(await status('127.0.0.2')).toBe('503');
    expect(await status('127.0.0.3')).toBe('200');
    expect(await status('127.0.0.4')).toBe('503');
    first.socket.destroy();
    await until(async () => (await status('127.0.0.4')) === '200' || undefined);
  });

  test('an export whose reader left before it began does not stand in the way of the next', async () => {
    const { app, db, open, request } = await withLargeExport({});
    const query = db.$queryRaw.bind(db) as (...args: unknown[]) => Promise<unknown>;
    let hasLeft = false;
    // The reader leaves while the server looks for the session.
    vi.spyOn(db, '$queryRaw').mockImplementationOnce((async (...args: unknown[]) => {
      const session = await query(...args);
      first.socket.destroy();
      await until(async () => (await connectionsOf(app)) === 0 || undefined);
      hasLeft = true;
      return session;
    }) as never);
    const first = await open(request);
    await until(() => Promise.resolve(hasLeft || undefined));
    const next = await open(request);
    await once(next.socket, 'data');
    expect(next.answered()).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('a connection over the limit is closed, and another is accepted once one has ended', async () => {
    const { open } = await listen({ connections: 1, patienceMs: NEVER });
    const first = await open(PAGE);
    expect(await (await open(PAGE)).closed).toBe('');
    first.socket.destroy();
    await until(async () => {
      const next = await open(PAGE);
      await Promise.race([next.closed, once(next.socket, 'data')]);
      return next.answered().startsWith('HTTP/1.1 200 ') || undefined;
    });
  });

  test('when there is no room, the oldest connection that waits for no answer makes way', async () => {
    const { open } = await listen({ connections: 2, patienceMs: 0 });
    const slow = [
      await open('GET / HTTP/1.1\r\n'),
      await open('POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na'),
    ];
    const honest = await open(PAGE);
    await once(honest.socket, 'data');
    expect(honest.answered()).toMatch(/^HTTP\/1\.1 200 /);
    expect(await slow[0]?.closed).toBe('');
    const another = await open(PAGE);
    await once(another.socket, 'data');
    expect(await slow[1]?.closed).toBe('');
    expect(honest.socket.destroyed).toBe(false);
  });

  test('when there is no room, the oldest connection of the network that has the most makes way, even if it reads an answer', async () => {
    const { open, request } = await withLargeExport({ connections: 3, patienceMs: NEVER });
    const honest = await open('GET / HTTP/1.1\r\n', '127.0.0.3');
    const slow = await open(request, '127.0.0.2');
    await once(slow.socket, 'data');
    slow.socket.pause();
    const newer = await open('', '127.0.0.2');
    const next = await open(PAGE, '127.0.0.4');
    await once(next.socket, 'data');
    expect(next.answered()).toMatch(/^HTTP\/1\.1 200 /);
    slow.socket.resume();
    expect((await slow.closed).length).toBeLessThan(SIZE);
    expect([honest.socket.destroyed, newer.socket.destroyed]).toEqual([false, false]);
    // Now each network has one, and none is old enough.
    expect(await (await open(PAGE, '127.0.0.5')).closed).toBe('');
  });

  test('a connection that made way is not held against its network', async () => {
    const { app, open } = await listen({
      ...{ connections: 1, patienceMs: 0, abandonedOfNetwork: 1, shutOutMs: NEVER },
    });
    const arrived = once(app.server, 'request');
    const upload = await open('POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na', '127.0.0.2');
    await arrived;
    const next = await open(PAGE, '127.0.0.3');
    await once(next.socket, 'data');
    expect(await upload.closed).toBe('');
    const later = await open(PAGE, '127.0.0.2');
    await once(later.socket, 'data');
    expect(later.answered()).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('a network that has more than its share makes room for itself, and others keep their slow uploads', async () => {
    const { open } = await listen({ connections: 4, patienceMs: 0 });
    const upload = await open('POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na', '127.0.0.3');
    const flood = [];
    for (let n = 0; n < 3; n += 1) flood.push(await open('GET / HTTP/1.1\r\n', '127.0.0.2'));
    const next = await open(PAGE, '127.0.0.2');
    await once(next.socket, 'data');
    expect(next.answered()).toMatch(/^HTTP\/1\.1 200 /);
    expect(await flood[0]?.closed).toBe('');
    upload.socket.end('23456789');
    expect(await upload.closed).toMatch(/^HTTP\/1\.1 4/);
  });

  test('a network that has more than its share makes room for itself, even if its oldest connection reads an answer', async () => {
    const { open, request } = await withLargeExport({ connections: 3, patienceMs: NEVER });
    const honest = await open('GET / HTTP/1.1\r\n', '127.0.0.3');
    const slow = await open(request, '127.0.0.2');
    await once(slow.socket, 'data');
    slow.socket.pause();
    await open('', '127.0.0.2');
    const next = await open(PAGE, '127.0.0.2');
    await once(next.socket, 'data');
    expect(next.answered()).toMatch(/^HTTP\/1\.1 200 /);
    slow.socket.resume();
    expect((await slow.closed).length).toBeLessThan(SIZE);
    expect(honest.socket.destroyed).toBe(false);
  });

  test('a connection that reads its answer is kept while no network has more than its share', async () => {
    const { open, request } = await withLargeExport({ connections: 1, patienceMs: 0 });
    const reading = await open(request);
    await once(reading.socket, 'data');
    reading.socket.pause();
    expect(await (await open(PAGE)).closed).toBe('');
  });

  test('connections whose answers have not begun are kept, but of a network that has too many, the youngest makes way', async () => {
    const { open, db } = await listen({ connections: 2, patienceMs: 0 });
    const held: Client[] = [];
    const query = vi.spyOn(db.user, 'findUnique').mockReturnValue(new Promise(() => undefined) as never);
    for (const times of [1, 2]) {
      const client = await open(LOG_IN, '127.0.0.2');
      held.push(client);
      await until(() => Promise.resolve(query.mock.calls.length === times || undefined));
    }
    // Its own further connection gets no room.
    expect(await (await open(PAGE, '127.0.0.2')).closed).toBe('');
    const other = await open(PAGE, '127.0.0.3');
    await once(other.socket, 'data');
    expect(other.answered()).toMatch(/^HTTP\/1\.1 200 /);
    expect(await held[1]?.closed).toBe('');
    expect(held[0]?.socket.destroyed).toBe(false);
  });
});

describe('one network has a limited number of requests under way and waiting', () => {
  /** One request under way, and one waiting. The first to look for its session waits until `found` is called. */
  async function oneAtATime(
    patienceMs: number,
    bounds: Partial<Bounds['requests']> = {},
    line = 'GET /settings',
  ) {
    const requests = { ofSite: 1, inAll: 2, changing: CHANGING, waitingOfSite: 1, ...bounds };
    const server = await listen({ requests, patienceMs });
    const { app, db, open } = server;
    let all = 0;
    app.server.on('request', () => (all += 1));
    const arrived = (count: number) => until(() => Promise.resolve(all === count || undefined));
    const ann = await signUp(server, 'ann@example.com');
    const settings = `${line} HTTP/1.1\r\nHost: x\r\nCookie: ${ann.cookie}\r\nContent-Length: 0\r\n\r\n`;
    const query = db.$queryRaw.bind(db) as (...args: unknown[]) => Promise<unknown>;
    let found = (): void => undefined;
    const isFound = new Promise<void>((resolve) => (found = resolve));
    const looking = vi.spyOn(db, '$queryRaw').mockImplementationOnce((async (...args: unknown[]) => {
      await isFound;
      return query(...args);
    }) as never);
    const first = await open(settings, '127.0.0.2');
    await until(() => Promise.resolve(looking.mock.calls.length === 1 || undefined));
    return { ...server, arrived, settings, looking, first, found };
  }

  const LANDING_PAGE = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';

  const answerTo = async ({ socket, answered }: Client): Promise<string> => {
    if (answered() === '') await once(socket, 'data');
    return answered();
  };

  test('and another network is served meanwhile', async () => {
    const { open, arrived, first, found } = await oneAtATime(NEVER);
    const waits = await open(LANDING_PAGE, '127.0.0.2');
    await arrived(2);
    expect(await answerTo(await open(LANDING_PAGE, '127.0.0.2'))).toMatch(
      /^HTTP\/1\.1 503 [^]*retry-after: 5[^]*Too many requests from your network/,
    );
    expect(await answerTo(await open(LANDING_PAGE, '127.0.0.3'))).toMatch(/^HTTP\/1\.1 200 /);
    // Health checks and the webhook are still answered.
    expect(await answerTo(await open(PAGE, '127.0.0.2'))).toMatch(/^HTTP\/1\.1 200 /);
    expect(await answerTo(await open(webhook('Content-Length: 2', '{}'), '127.0.0.2'))).toMatch(
      /^HTTP\/1\.1 400 /,
    );
    expect([first.answered(), waits.answered()]).toEqual(['', '']);
    found();
    expect(await answerTo(first)).toMatch(/^HTTP\/1\.1 200 /);
    expect(await answerTo(waits)).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('and when all places are taken, networks take turns', async () => {
    const { open, arrived, first, found } = await oneAtATime(NEVER, { ofSite: 9, inAll: 1 });
    const order: string[] = [];
    const addresses = ['127.0.0.2', '127.0.0.2', '127.0.0.3'];
    for (const [index, address] of addresses.entries()) {
      const { socket } = await open(LANDING_PAGE, address);
      socket.once('data', () => order.push(address));
      await arrived(index + 2);
    }
    found();
    expect(await answerTo(first)).toMatch(/^HTTP\/1\.1 200 /);
    await until(() => Promise.resolve(order.length === 3 || undefined));
    expect(order).toEqual(['127.0.0.2', '127.0.0.3', '127.0.0.2']);
  });

  test('and when too many hash a password, networks take turns', async () => {
    const { open, db } = await listen({
      hashing: { ofSite: 8, inAll: 1, waitingInAll: 9 },
      patienceMs: NEVER,
    });
    let found = (_user: null): void => undefined;
    const isFound = new Promise<null>((resolve) => (found = resolve));
    const looking = vi.spyOn(db.user, 'findUnique').mockReturnValueOnce(isFound as never);
    const logIn = (address: string) => open(LOG_IN, address);
    const first = await logIn('127.0.0.2');
    await until(() => Promise.resolve(looking.mock.calls.length === 1 || undefined));
    const order: string[] = [];
    for (const address of ['127.0.0.2', '127.0.0.2', '127.0.0.3']) {
      const { socket } = await logIn(address);
      socket.once('data', () => order.push(address));
      // Once this page is answered, the login sent before it has arrived.
      expect(await answerTo(await open(LANDING_PAGE, '127.0.0.4'))).toMatch(/^HTTP\/1\.1 200 /);
    }
    expect(looking).toHaveBeenCalledTimes(1);
    found(null);
    expect(await answerTo(first)).toMatch(/^HTTP\/1\.1 401 /);
    await until(() => Promise.resolve(order.length === 3 || undefined));
    expect(order).toEqual(['127.0.0.2', '127.0.0.3', '127.0.0.2']);
  });

  test('and a client that leaves while its password is hashed does not make room for the next', async () => {
    const { app, open, db } = await listen({
      hashing: { ofSite: 8, inAll: 1, waitingInAll: 9 },
      patienceMs: NEVER,
    });
    let found = (_user: null): void => undefined;
    const isFound = new Promise<null>((resolve) => (found = resolve));
    const looking = vi.spyOn(db.user, 'findUnique').mockReturnValueOnce(isFound as never);
    const leaves = await open(LOG_IN, '127.0.0.2');
    await until(() => Promise.resolve(looking.mock.calls.length === 1 || undefined));
    const next = await open(LOG_IN, '127.0.0.3');
    leaves.socket.resetAndDestroy();
    await until(async () => (await connectionsOf(app)) === 1 || undefined);
    // Once these are answered, the next login would have begun.
    for (let n = 0; n < 2; n += 1)
      expect(await answerTo(await open(LANDING_PAGE, '127.0.0.4'))).toMatch(/^HTTP\/1\.1 200 /);
    expect(looking).toHaveBeenCalledTimes(1);
    found(null);
    expect(await answerTo(next)).toMatch(/^HTTP\/1\.1 401 /);
  });

  test('and while one waits to hash a password, the next of its network waits behind it', async () => {
    const { open } = await listen({
      requests: { ofSite: 1, inAll: 9, changing: CHANGING, waitingOfSite: 9 },
      hashing: { ofSite: 8, inAll: 0, waitingInAll: 9 },
      patienceMs: 1_000,
    });
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    await open(LOG_IN, '127.0.0.2');
    // Once these are answered, the login waits to hash.
    for (let n = 0; n < 3; n += 1)
      expect(await answerTo(await open(LANDING_PAGE, '127.0.0.3'))).toMatch(/^HTTP\/1\.1 200 /);
    vi.advanceTimersByTime(60_000);
    const next = await open(LANDING_PAGE, '127.0.0.2');
    for (let n = 0; n < 2; n += 1)
      expect(await answerTo(await open(LANDING_PAGE, '127.0.0.3'))).toMatch(/^HTTP\/1\.1 200 /);
    expect(next.answered()).toBe('');
  });

  test.each([
    ['', ''],
    [' with a body', 'next=x'],
  ])(
    'and a change%s waits for those of other networks, while pages and logins do not',
    async (_what, body) => {
      const changing = { inAll: 1, forMs: NEVER };
      const bounds = { ofSite: 9, inAll: 9, waitingOfSite: 9, changing };
      const { open, found } = await oneAtATime(NEVER, bounds, 'POST /logout');
      const post = (path: string, form: string): string =>
        `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: ${form.length}\r\n\r\n${form}`;
      const second = await open(post('/logout', body), '127.0.0.3');
      expect(await answerTo(await open(LANDING_PAGE, '127.0.0.3'))).toMatch(/^HTTP\/1\.1 200 /);
      const login = await open(post('/login', 'email=x%40example.com&password=wrong'), '127.0.0.3');
      expect(await answerTo(login)).toMatch(/^HTTP\/1\.1 401 /);
      expect(second.answered()).toBe('');
      found();
      expect(await answerTo(second)).toMatch(/^HTTP\/1\.1 303 /);
    },
  );

  test('and a change whose client leaves keeps its place until its work is done', async () => {
    const bounds = { ofSite: 9, inAll: 9, waitingOfSite: 9, changing: { inAll: 1, forMs: NEVER } };
    const { app, open, first, found } = await oneAtATime(NEVER, bounds, 'POST /logout');
    first.socket.resetAndDestroy();
    await until(async () => (await connectionsOf(app)) === 0 || undefined);
    const next = await open('POST /logout HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n', '127.0.0.3');
    expect(await answerTo(await open(LANDING_PAGE, '127.0.0.3'))).toMatch(/^HTTP\/1\.1 200 /);
    expect(next.answered()).toBe('');
    found();
    expect(await answerTo(next)).toMatch(/^HTTP\/1\.1 303 /);
  });

  test('and before its visitor is looked up, a form waits for a place among the requests that read', async () => {
    const bounds = { ofSite: 9, inAll: 1, waitingOfSite: 9 };
    const { open, found, first, looking } = await oneAtATime(NEVER, bounds);
    const type = 'Content-Type: application/x-www-form-urlencoded';
    const cookie = `Cookie: tandem_session=${'A'.repeat(43)}`;
    const form = await open(
      `POST /logout HTTP/1.1\r\nHost: x\r\n${cookie}\r\n${type}\r\nContent-Length: 3\r\n\r\na=b`,
      '127.0.0.3',
    );
    expect(await answerTo(await open('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n', '127.0.0.3'))).toMatch(
      /^HTTP\/1\.1 200 /,
    );
    expect(looking).toHaveBeenCalledTimes(1);
    found();
    expect(await answerTo(first)).toMatch(/^HTTP\/1\.1 200 /);
    expect(await answerTo(form)).toMatch(/^HTTP\/1\.1 303 /);
  });

  test('and a change that takes a long time, such as one that waits for Stripe, makes way for the next one', async () => {
    const bounds = { ofSite: 9, inAll: 9, waitingOfSite: 9, changing: { inAll: 1, forMs: 250 } };
    const { open, first } = await oneAtATime(NEVER, bounds, 'POST /logout');
    const next = await open('POST /logout HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n', '127.0.0.3');
    expect(await answerTo(next)).toMatch(/^HTTP\/1\.1 303 /);
    expect(first.answered()).toBe('');
  });

  test.each([
    ['a form', 'POST /login'],
    ['an OPTIONS', 'OPTIONS /nothing'],
  ])(
    'and %s whose body is still arriving takes none of the places that all networks share',
    async (_what, line) => {
      const server = await listen({
        requests: { ofSite: 1, inAll: 1, changing: CHANGING, waitingOfSite: 1 },
        patienceMs: NEVER,
      });
      const { app, open } = server;
      let requests = 0;
      app.server.on('request', () => (requests += 1));
      const type = 'Content-Type: application/x-www-form-urlencoded';
      const arriving = await open(
        `${line} HTTP/1.1\r\nHost: x\r\n${type}\r\nContent-Length: 9\r\n\r\n`,
        '127.0.0.2',
      );
      await until(() => Promise.resolve(requests === 1 || undefined));
      expect(await answerTo(await open(LANDING_PAGE, '127.0.0.3'))).toMatch(/^HTTP\/1\.1 200 /);
      expect(arriving.answered()).toBe('');
    },
  );

  test('and a request whose body comes after its place was given back waits for another one', async () => {
    const server = await listen({
      requests: { ofSite: 1, inAll: 9, changing: CHANGING, waitingOfSite: 0 },
      patienceMs: 1_000,
    });
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const { app, open } = server;
    let requests = 0;
    app.server.on('request', () => (requests += 1));
    const form = (path: string) =>
      open(
        `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\n`,
        '127.0.0.2',
      );
    const late = await form('/logout');
    await until(() => Promise.resolve(requests === 1 || undefined));
    vi.advanceTimersByTime(1_000);
    // Another request of the site has the place now.
    await form('/login');
    await until(() => Promise.resolve(requests === 2 || undefined));
    late.socket.write('123456789');
    expect(await answerTo(late)).toMatch(/^HTTP\/1\.1 503 [^]*Too many requests from your network/);
  });

  test('behind a proxy, a request with too many headers is refused, and the connection goes on', async () => {
    const { open } = await listen({}, { TRUST_PROXY: '127.0.0.1' });
    const headers = Array.from({ length: 101 }, (_, n) => `X-${n}: 1\r\n`).join('');
    const client = await open(`GET / HTTP/1.1\r\nHost: x\r\n${headers}\r\n`);
    expect(await answerTo(client)).toMatch(/^HTTP\/1\.1 431 /);
    client.socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    expect(await client.closed).toMatch(/HTTP\/1\.1 200 OK/);
  });

  test.each(['GET /', 'POST /login'])('and %s with a body counts', async (request) => {
    const { open, arrived } = await oneAtATime(NEVER);
    await open(LANDING_PAGE, '127.0.0.2');
    await arrived(2);
    const withBody = `${request} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx`;
    expect(await answerTo(await open(withBody, '127.0.0.2'))).toMatch(/^HTTP\/1\.1 503 /);
  });

  test('a request whose client left while it waited is not served', async () => {
    const { app, open, arrived, settings, looking, first, found } = await oneAtATime(NEVER);
    const leaves = await open(settings, '127.0.0.2');
    await arrived(2);
    leaves.socket.destroy();
    await until(async () => (await connectionsOf(app)) === 1 || undefined);
    found();
    expect(await answerTo(first)).toMatch(/^HTTP\/1\.1 200 /);
    expect(await answerTo(await open(LANDING_PAGE, '127.0.0.2'))).toMatch(/^HTTP\/1\.1 200 /);
    const queries = looking.mock.calls.length;
    await answerTo(await open(settings, '127.0.0.2'));
    // The first page took as many queries, so the abandoned one ran none.
    expect(looking.mock.calls.length - queries).toBe(queries);
  });

  test('an answer that nobody reads makes the next one wait only until most of it could have been sent', async () => {
    const { open, request } = await withLargeExport({
      requests: { ofSite: 1, inAll: 1, changing: CHANGING, waitingOfSite: 9 },
      patienceMs: NEVER,
    });
    const reading = await open(request, '127.0.0.2');
    await once(reading.socket, 'data');
    reading.socket.pause();
    expect(await answerTo(await open(LANDING_PAGE, '127.0.0.2'))).toMatch(/^HTTP\/1\.1 200 /);
    expect(await answerTo(await open(LANDING_PAGE, '127.0.0.3'))).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('a request that takes a long time makes the next one wait only for a while', async () => {
    const { open, first } = await oneAtATime(50);
    expect(await answerTo(await open(LANDING_PAGE, '127.0.0.2'))).toMatch(/^HTTP\/1\.1 200 /);
    expect(first.answered()).toBe('');
  });
});

describe('one address can open only a limited number of connections', () => {
  test('and another one once one of them has ended', async () => {
    const { open } = await listen({ connectionsOfNetwork: 1 });
    const first = await open('');
    expect(await (await open(PAGE)).closed).toBe('');
    const other = await open(PAGE, '127.0.0.2');
    await once(other.socket, 'data');
    first.socket.destroy();
    await until(async () => {
      const next = await open(PAGE);
      await Promise.race([next.closed, once(next.socket, 'data')]);
      return next.answered().startsWith('HTTP/1.1 200 ') || undefined;
    });
  });

  test('and so can a site', async () => {
    const { open } = await listen({ connectionsOfSite: 1 });
    await open('', '127.0.0.2');
    expect(await (await open(PAGE, '127.0.0.2')).closed).toBe('');
    const other = await open(PAGE, '127.0.0.3');
    await once(other.socket, 'data');
    expect(other.answered()).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('and when it keeps opening more, it loses all of them and gets none for a while', async () => {
    const { open } = await listen({ connectionsOfNetwork: 1, refusalsOfNetwork: 3, shutOutMs: NEVER });
    const only = await open('GET / HTTP/1.1\r\n', '127.0.0.2');
    for (let times = 0; times < 2; times += 1) await (await open('', '127.0.0.2')).closed;
    expect(only.socket.destroyed).toBe(false);
    await (
      await open('', '127.0.0.2')
    ).closed;
    expect(await only.closed).toBe('');
    expect(await (await open(PAGE, '127.0.0.2')).closed).toBe('');
    const other = await open(PAGE);
    await once(other.socket, 'data');
    expect(other.answered()).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('and a full /48 of IPv6 that keeps opening more only gets no more', async () => {
    const { app, open } = await listen({ connectionsOfSite: 1, refusalsOfNetwork: 1, shutOutMs: NEVER });
    playHomes(app);
    const only = await open('', '127.0.0.9');
    for (let n = 0; n < 31; n += 1)
      expect(await (await open(LAST_PAGE, `127.0.0.${1 + (n % 8)}`)).closed).toBe('');
    only.socket.write(LAST_PAGE);
    expect(await only.closed).toMatch(/^HTTP\/1\.1 200 /);
    expect(await (await open(LAST_PAGE, '127.0.0.1')).closed).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe('an address that keeps leaving before it is answered', () => {
  test.each([
    ['a whole request', PAGE],
    ['half a form', 'POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n'],
    ['half a webhook', webhook('Content-Length: 9')],
  ])('after %s loses all its connections and gets none for a while', async (_what, sent) => {
    const nothingBegins = { requests: { ofSite: 0, inAll: 0, changing: CHANGING, waitingOfSite: 9 } };
    const { app, open } = await listen({ ...nothingBegins, abandonedOfNetwork: 2, shutOutMs: NEVER });
    const idle = await open('', '127.0.0.2');
    const leave = async ({ socket }: Client, left: number): Promise<void> => {
      socket.destroy();
      await until(async () => (await connectionsOf(app)) === left || undefined);
    };
    let requests = 0;
    app.server.on('request', () => (requests += 1));
    const begin = async (): Promise<Client> => {
      const before = requests;
      const client = await open(sent, '127.0.0.2');
      await until(() => Promise.resolve(requests > before || undefined));
      return client;
    };
    const answered = await open(webhook('Content-Length: 2', '{}'), '127.0.0.2');
    await once(answered.socket, 'data');
    await leave(answered, 1);
    await leave(await begin(), 1);
    expect(idle.socket.destroyed).toBe(false);
    await leave(await begin(), 0);
    expect(await idle.closed).toBe('');
    expect(await (await open(webhook('Content-Length: 2', '{}'), '127.0.0.2')).closed).toBe('');
    const other = await open(webhook('Content-Length: 2', '{}'));
    await once(other.socket, 'data');
    expect(other.answered()).toMatch(/^HTTP\/1\.1 400 /);
  });

  test.each([
    ['without a request', ''],
    ['in the middle of the headers', 'GET / HTTP/1.1\r\nHost: x\r\n'],
  ])('soon after it came, %s, gets no connection for a while', async (_when, sent) => {
    const { app, open } = await listen({ abandonedOfNetwork: 2, shutOutMs: NEVER, patienceMs: NEVER });
    for (let times = 0; times < 2; times += 1) {
      expect(await connectionsOf(app)).toBe(0);
      const { socket } = await open(sent, '127.0.0.2');
      await until(async () => (await connectionsOf(app)) === 1 || undefined);
      socket.resetAndDestroy();
      await until(async () => (await connectionsOf(app)) === 0 || undefined);
    }
    expect(await (await open(PAGE, '127.0.0.2')).closed).toBe('');
    expect(await (await open(LAST_PAGE, '127.0.0.3')).closed).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('later, without a request, is not shut out: browsers keep connections that they may not need', async () => {
    const { app, open } = await listen({ abandonedOfNetwork: 1, shutOutMs: NEVER, patienceMs: 0 });
    const { socket } = await open('', '127.0.0.2');
    await until(async () => (await connectionsOf(app)) === 1 || undefined);
    socket.destroy();
    await until(async () => (await connectionsOf(app)) === 0 || undefined);
    expect(await (await open(LAST_PAGE, '127.0.0.2')).closed).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('in the middle of its answer gets no connection for a while', async () => {
    const { app, open, request } = await withLargeExport({ abandonedOfNetwork: 1, shutOutMs: NEVER });
    const { socket } = await open(request, '127.0.0.2');
    await once(socket, 'data');
    socket.resetAndDestroy();
    await until(async () => (await connectionsOf(app)) === 0 || undefined);
    expect(await (await open(PAGE, '127.0.0.2')).closed).toBe('');
  });
});

describe('behind a proxy', () => {
  test('incomplete requests of all networks count together, and webhooks separately', async () => {
    const incomplete = {
      webhooks: { ofNetwork: 2, inAll: 2 },
      others: { ofNetwork: 2, inAll: 2 },
      patienceMs: NEVER,
    };
    const { open, clock } = await listen({ incomplete, patienceMs: NEVER }, { TRUST_PROXY: '127.0.0.1' });
    const half = (client: string): string =>
      `POST /login HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: ${client}\r\nContent-Length: 9\r\n\r\nemail`;
    for (const client of ['192.0.2.1', '192.0.2.2']) await open(half(client));
    await until(async () => {
      const next = await open(half('192.0.2.3'));
      await Promise.race([next.closed, once(next.socket, 'data')]);
      return next.answered().startsWith('HTTP/1.1 503 ') || undefined;
    });
    // Stripe's events are counted apart.
    const event = JSON.stringify(buyer().created());
    const signature = `Stripe-Signature: ${sign(event, clock.now)}`;
    const headers = `X-Forwarded-For: 192.0.2.3\r\nConnection: close\r\nContent-Length: ${event.length}\r\n${signature}`;
    expect(await (await open(webhook(headers, event))).closed).toContain('{"status":"ok"}');
  });

  test('only the end of a long X-Forwarded-For is read, which the proxy has appended', async () => {
    const { app, open } = await listen({}, { TRUST_PROXY: '127.0.0.1' });
    const read: unknown[] = [];
    app.server.on('request', ({ headers }: IncomingMessage) => read.push(headers['x-forwarded-for']));
    for (const forged of ['1,'.repeat(7_000), '1'.repeat(14_000)])
      await (
        await open(LAST_PAGE.replace('Host: x', `Host: x\r\nX-Forwarded-For: ${forged}, 192.0.2.1`))
      ).closed;
    expect(read).toEqual([expect.stringMatching(/^[1,]{1,500}, 192\.0\.2\.1$/), ' 192.0.2.1']);
  });

  test('a form that has arrived and waits for others of its network is not incomplete', async () => {
    const { db, open } = await listen(
      {
        incomplete: { webhooks: ONE, others: ONE },
        requests: { ofSite: 1, inAll: 9, changing: CHANGING, waitingOfSite: 9 },
        patienceMs: NEVER,
      },
      { TRUST_PROXY: '127.0.0.1' },
    );
    let goOn = (): void => undefined;
    const looking = vi.spyOn(db.user, 'findUnique').mockReturnValue(
      new Promise((resolve) => {
        goOn = () => {
          resolve(null);
        };
      }) as never,
    );
    const login = 'email=nobody%40example.com&password=wrong';
    const form =
      'POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n' +
      `X-Forwarded-For: 192.0.2.1\r\nConnection: close\r\nContent-Length: ${login.length}\r\n\r\n${login}`;
    const first = await open(form);
    await until(() => Promise.resolve(looking.mock.calls.length === 1 || undefined));
    const others = [await open(form), await open(form)];
    // Connections are accepted in order, so once this is answered, the forms have arrived.
    await (
      await open(LAST_PAGE)
    ).closed;
    goOn();
    for (const client of [first, ...others]) expect(await client.closed).toMatch(/^HTTP\/1\.1 401 /);
  });

  test('an event gets through when slow requests of others take up all the room', async () => {
    const room = { ofNetwork: 1, inAll: 1 };
    const { open, clock } = await listen(
      { incomplete: { webhooks: room, others: room }, patienceMs: 0 },
      { TRUST_PROXY: '127.0.0.1' },
    );
    for (const client of ['192.0.2.1', '192.0.2.2', '192.0.2.3']) {
      const slow = await open(webhook(`X-Forwarded-For: ${client}\r\nContent-Length: 9`));
      await until(async () => {
        const event = JSON.stringify(buyer().created());
        const signature = `Stripe-Signature: ${sign(event, clock.now)}`;
        const headers = `X-Forwarded-For: 192.0.2.9\r\nConnection: close\r\nContent-Length: ${event.length}\r\n${signature}`;
        expect(await (await open(webhook(headers, event))).closed).toContain('{"status":"ok"}');
        // The slow one may arrive after the event.
        return slow.socket.destroyed || undefined;
      });
      expect(await slow.closed).toBe('');
    }
  });

  test.each([
    ['a form', '/login', 'Content-Length: 9', 'email=a&b'],
    ['a webhook', '/api/stripe/webhook', 'Content-Length: 9', '{"id": 1}'],
    ['a chunked form', '/login', 'Transfer-Encoding: chunked', '9\r\nemail=a&b\r\n0\r\n\r\n'],
    ['a form that nobody reads', '/no-such-page', 'Content-Length: 9', 'email=a&b'],
  ])('an incomplete request counts: %s', async (_name, path, length, body) => {
    const { open, log } = await listen(
      { incomplete: { webhooks: ONE, others: ONE }, patienceMs: NEVER },
      { TRUST_PROXY: '127.0.0.1' },
    );
    const of = (client: string): string =>
      [
        `POST ${path} HTTP/1.1`,
        'Host: x',
        `X-Forwarded-For: ${client}`,
        'Content-Type: application/x-www-form-urlencoded',
        `${length}\r\n\r\n`,
      ].join('\r\n');
    const get = 'GET /healthz HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n\r\n';
    const half = body.slice(0, 5);

    const held = await open(of('192.0.2.1') + half);
    const refused = await until(async () => {
      const next = await open(of('192.0.2.1') + half);
      await Promise.race([next.closed, once(next.socket, 'data')]);
      return next.answered().startsWith('HTTP/1.1 503 ') ? next : undefined;
    });
    expect(log.text).not.toContain('handling a Stripe event failed');
    // Not kept for the rest of the body.
    expect(await refused.closed).toMatch(/\r\nretry-after: [1-9]/i);
    expect(await (await open(get)).closed).toMatch(/^HTTP\/1\.1 200 /);
    const other = await open(of('192.0.2.2') + body);
    await once(other.socket, 'data');
    expect(other.answered()).toMatch(/^HTTP\/1\.1 40[04] /);

    held.socket.write(body.slice(5));
    await until(async () => {
      const next = await open(of('192.0.2.1') + body);
      await Promise.race([next.closed, once(next.socket, 'data')]);
      return /^HTTP\/1\.1 40[04] /.test(next.answered()) || undefined;
    });
  });
});

describe('behind a proxy, a request that was answered before its body arrived', () => {
  const refusals: [string, string][] = [
    [
      'from another site',
      'POST /login HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: cross-site\r\nContent-Length: 30',
    ],
    ['too large', 'POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 300000'],
    ['too large, in chunks', `POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked`],
    ['a body that no page takes', 'GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 30'],
  ];
  const BODY = `11170\r\n${'x'.repeat(70_000)}\r\n`;

  test.each(refusals)('does not count once its client has gone: %s', async (_name, headers) => {
    const { open } = await listen(
      { incomplete: { webhooks: ONE, others: ONE }, patienceMs: NEVER },
      { TRUST_PROXY: '127.0.0.1' },
    );
    const type = 'Content-Type: application/x-www-form-urlencoded\r\nX-Forwarded-For: 192.0.2.1';
    const request = `${headers}\r\n${type}\r\n\r\n${headers.includes('chunked') ? BODY : 'a'}`;
    for (let times = 1; times <= 3; times += 1) {
      await until(async () => {
        const client = await open(request);
        await Promise.race([client.closed, once(client.socket, 'data')]);
        client.socket.destroy();
        await client.closed;
        // The server may still hold the connection of the client before.
        return /^HTTP\/1\.1 (?!503)/.test(client.answered()) || undefined;
      });
    }
  });
});

/** Local addresses up to 127.0.0.9 play homes of one /48 of IPv6, later ones homes of another. */
function playHomes({ server }: FastifyInstance): void {
  server.prependListener('connection', (socket: Socket) => {
    const n = Number(socket.remoteAddress?.split('.').at(-1));
    const home = `2001:db8:${n < 10 ? 1 : 2}:${n}00::1`;
    Object.defineProperty(socket, 'remoteAddress', { value: home });
  });
}

/** Node's parser, which calls its `kOnBody` with each piece of a body. */
type Parser = { constructor: { kOnBody: number } } & Record<
  number,
  ((...given: unknown[]) => void) | undefined
>;

describe('a body in many tiny pieces', () => {
  const tiny = '1\r\nx\r\n';
  const patient = { requestMs: NEVER, stalledMs: NEVER, idleMs: { proxy: NEVER, direct: NEVER } };

  test.each([
    ['a form', 'POST /login', 'application/x-www-form-urlencoded', /^$/],
    // Whether it is refused before it is cut off depends on when its turn comes.
    ['a backup without a session', 'POST /api/backups', 'application/json', /^(HTTP\/1\.1 401 |$)/],
    ['a webhook', 'POST /api/stripe/webhook', 'application/json', /^$/],
    ['a mail program’s POST', 'POST /unsubscribe/x', 'multipart/form-data; boundary=x', /^$/],
  ])('ends the connection: %s', async (_name, route, type, answer) => {
    const { open } = await listen(patient);
    const headers = `Host: x\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked`;
    const client = await open(`${route} HTTP/1.1\r\n${headers}\r\n\r\n${tiny.repeat(100)}`);
    expect(await client.closed).toMatch(answer);
  });

  test.each(['/healthz', '/pricing'])('of a page that takes none ends the connection: %s', async (page) => {
    const { open } = await listen(patient);
    const client = await open(
      `GET ${page} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${tiny.repeat(100)}`,
    );
    expect(await client.closed).toMatch(/^(HTTP\/1\.1 200 |$)/);
  });

  test.each([
    ['a large one', 1024 * 1024 + 1],
    ['5 MB', 5 * 1024 * 1024],
  ])('after %s that was refused ends the connection of a webhook', async (_first, large) => {
    const { open } = await listen(patient);
    const first = `${large.toString(16)}\r\n${'x'.repeat(large)}\r\n`;
    const headers = 'Host: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked';
    const client = await open(
      `POST /api/stripe/webhook HTTP/1.1\r\n${headers}\r\n\r\n${first}${tiny.repeat(5_000)}`,
    );
    expect(await client.closed).toBe('');
  });

  test.each([
    ['in small chunks between larger ones', `200\r\n${'x'.repeat(512)}\r\n${tiny}`.repeat(500)],
    ['with trailers', `${tiny}0\r\nTrailing: x\r\n\r\n`],
  ])('in chunks, %s, ends the connection unless a proxy sent it', async (_what, chunks) => {
    const { open } = await listen(patient);
    const body = chunks.includes('Trailing') ? chunks : `${chunks}0\r\n\r\n`;
    const request = webhook('Connection: close\r\nTransfer-Encoding: chunked', body);
    expect(await (await open(request)).closed).toBe('');
    const behind = await listen(patient, { TRUST_PROXY: '127.0.0.1' });
    expect(await (await behind.open(request)).closed).toMatch(/^HTTP\/1\.1 4/);
  });

  test('is not read after an Expect header that Node itself refuses', async () => {
    const { open } = await listen(patient);
    const headers = 'Host: x\r\nExpect: something\r\nTransfer-Encoding: chunked';
    const client = await open(`POST /login HTTP/1.1\r\n${headers}\r\n\r\n${tiny.repeat(100)}`);
    expect(await client.closed).toMatch(/^HTTP\/1\.1 417 /);
  });

  test('whose connection has ended already is not waited for', async () => {
    const request = Object.assign(new IncomingMessage(new Socket()), { headers: {} }).destroy();
    await once(request, 'close');
    await expect(readBody(request, { bytes: 1, error: new Error('too large') })).rejects.toThrow(
      'ended before',
    );
  });

  test.each([
    ['an unknown Expect', 'Host: x\r\nExpect: something\r\n'],
    ['too many headers', `Host: x\r\n${'h:\r\n'.repeat(130)}`],
    ['no Host', ''],
  ])('is not handed over when its request is refused for %s', async (_what, headers) => {
    const { app, open } = await listen({});
    let pieces = 0;
    app.server.once('connection', ({ parser }: Socket & { parser: Parser }) => {
      const { kOnBody } = parser.constructor;
      const handOver = parser[kOnBody];
      parser[kOnBody] = function count(...given) {
        pieces += 1;
        handOver?.apply(this, given);
      };
      onTestFinished(() => void (parser[kOnBody] = handOver));
    });
    const head = `POST /login HTTP/1.1\r\n${headers}Transfer-Encoding: chunked\r\n\r\n`;
    const client = await open(`${head}${tiny.repeat(10_000)}`);
    expect(await client.closed).toMatch(/^HTTP\/1\.1 4\d\d /);
    expect(pieces).toBeLessThan(20);
  });

  test('is handed over no further once it is cut off, and later bodies arrive', async () => {
    const server = await listen({});
    const { app, open } = server;
    await signUp(server, 'ann@example.com');
    let pieces = 0;
    app.server.once('request', (request: IncomingMessage) => {
      const push = request.push.bind(request);
      request.push = (...given: Parameters<typeof push>) => {
        pieces += 1;
        return push(...given);
      };
    });
    const head = `POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n`;
    const client = await open(`${head}Transfer-Encoding: chunked\r\n\r\n${tiny.repeat(10_000)}`);
    await client.closed;
    expect(pieces).toBe(17);
    const form = new URLSearchParams({ email: 'ann@example.com', password: PASSWORD }).toString();
    for (let n = 0; n < 3; n += 1) {
      const later = await open(`${head}Connection: close\r\nContent-Length: ${form.length}\r\n\r\n${form}`);
      expect(await later.closed).toMatch(/^HTTP\/1\.1 303 /);
    }
  });

  test('is accepted while its pieces are few', async () => {
    const { open } = await listen(patient);
    const form = 'email=nobody%40example.com&password=not+the+one';
    const letters = form
      .slice(0, 15)
      .split('')
      .map((letter) => `1\r\n${letter}\r\n`)
      .join('');
    const rest = form.slice(15);
    const pieces = `${letters}${rest.length.toString(16)}\r\n${rest}\r\n`;
    const headers =
      'Host: x\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded';
    const client = await open(
      `POST /login HTTP/1.1\r\n${headers}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n${pieces}0\r\n\r\n`,
    );
    expect(await client.closed).toMatch(/^HTTP\/1\.1 401 /);
  });
});

describe('a network whose connections had to be cut off', () => {
  test.each([
    ['pipelined requests', PAGE.repeat(50)],
    [
      'a body in tiny pieces',
      `POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\nx\r\n'.repeat(100)}`,
    ],
    [
      'a page with a body in tiny pieces that ends',
      `GET /pricing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\nx\r\n'.repeat(100)}0\r\n\r\n`,
    ],
    [
      'a body in tiny pieces that nobody reads',
      `POST /no-such-page HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\nx\r\n'.repeat(100)}0\r\n\r\n`,
    ],
    [
      'a body in tiny pieces behind another request',
      `${PAGE}POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\nx\r\n'.repeat(100)}0\r\n\r\n`,
    ],
    ['a request without Host', 'GET /healthz HTTP/1.1\r\n\r\n'],
    ['one behind another request', `${PAGE}GET /healthz HTTP/1.1\r\n\r\n`],
    ['an unknown Expect behind another request', `${PAGE}${PAGE.replace('Host: x', 'Host: x\r\nExpect: x')}`],
    ['very many headers', `GET /healthz HTTP/1.1\r\nHost: x\r\n${'a: b\r\n'.repeat(100)}\r\n`],
    [
      'a refused form without end',
      `POST /login HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: cross-site\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n`,
    ],
    [
      'a page with a body without end',
      `GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n`,
    ],
  ])('loses its other ones and gets none for a while, and others go on: %s', async (_name, abuse) => {
    const { open } = await listen({ cutOffsOfNetwork: 2, shutOutMs: NEVER });
    const waiting = await open('GET /healthz HTTP/1.1\r\n', '127.0.0.2');
    await (
      await open(abuse, '127.0.0.2')
    ).closed;
    expect(await (await open(LAST_PAGE, '127.0.0.2')).closed).toMatch(/^HTTP\/1\.1 200 /);
    await (
      await open(abuse, '127.0.0.2')
    ).closed;
    expect(await waiting.closed).toBe('');
    expect(await (await open(LAST_PAGE, '127.0.0.2')).closed).toBe('');
    expect(await (await open(LAST_PAGE, '127.0.0.1')).closed).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('at five times that number from one /48 of IPv6, all its connections are closed and none is accepted', async () => {
    const { app, open } = await listen({ cutOffsOfNetwork: 1, shutOutMs: NEVER });
    playHomes(app);
    const waiting = await open('GET /healthz HTTP/1.1\r\n', '127.0.0.9');
    for (let n = 1; n <= 5; n += 1) {
      expect(await (await open(LAST_PAGE, '127.0.0.9')).closed).toMatch(/^HTTP\/1\.1 200 /);
      await (
        await open(PAGE + PAGE, `127.0.0.${n}`)
      ).closed;
    }
    expect(await waiting.closed).toBe('');
    expect(await (await open(LAST_PAGE, '127.0.0.9')).closed).toBe('');
    expect(await (await open(LAST_PAGE, '127.0.0.10')).closed).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('does not lose them for pages that are asked for with an empty body in chunks', async () => {
    const { open } = await listen({ cutOffsOfNetwork: 1, shutOutMs: NEVER });
    const empty = 'GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n';
    for (let times = 0; times < 3; times += 1)
      expect(await (await open(empty, '127.0.0.2')).closed).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('gets none for the whole time after the last one that was cut off', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const { open } = await listen({ cutOffsOfNetwork: 2, shutOutMs: 60_000 });
    const abuse = async (): Promise<void> => {
      await (
        await open(PAGE.repeat(50), '127.0.0.2')
      ).closed;
    };
    await abuse();
    vi.advanceTimersByTime(59_000);
    await abuse();
    vi.advanceTimersByTime(59_000);
    expect(await (await open(LAST_PAGE, '127.0.0.2')).closed).toBe('');
    vi.advanceTimersByTime(1_000);
    expect(await (await open(LAST_PAGE, '127.0.0.2')).closed).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('gets some again afterwards', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const { open } = await listen({ cutOffsOfNetwork: 1, shutOutMs: 60_000 });
    await (
      await open(PAGE.repeat(50), '127.0.0.2')
    ).closed;
    expect(await (await open(LAST_PAGE, '127.0.0.2')).closed).toBe('');
    vi.advanceTimersByTime(60_000);
    expect(await (await open(LAST_PAGE, '127.0.0.2')).closed).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe('requests that do not wait for the answer to an earlier one', () => {
  test('end the connection, and the address is shut out like for other abuse', async () => {
    const { open } = await listen({ cutOffsOfNetwork: 1, shutOutMs: NEVER });
    const answered = await (await open(PAGE + LAST_PAGE, '127.0.0.2')).closed;
    expect(answered.match(/HTTP\/1\.1 /g)?.length ?? 0).toBeLessThan(2);
    expect(await (await open(LAST_PAGE, '127.0.0.2')).closed).toBe('');
    expect(await (await open(LAST_PAGE, '127.0.0.3')).closed).toMatch(/^HTTP\/1\.1 200 /);
  });

  test.each(['/healthz', '/pricing', '/public/style.css'])(
    'are none when each is sent as soon as the one before is answered: %s',
    async (path) => {
      const { open } = await listen({ cutOffsOfNetwork: 1, shutOutMs: NEVER });
      const page = `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
      const client = await open(page);
      let before = 0;
      const isWhole = (): boolean => {
        const answer = client.answered().slice(before);
        const [head = '', body = ''] = answer.split(/(?<=\r\n\r\n)/, 2);
        const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? NaN);
        return Buffer.byteLength(body) >= length;
      };
      for (let n = 1; n <= 20; n += 1) {
        while (!isWhole()) await once(client.socket, 'data');
        before = client.answered().length;
        client.socket.write(n === 20 ? LAST_PAGE : page);
      }
      expect((await client.closed).match(/HTTP\/1\.1 200 /g)).toHaveLength(21);
    },
  );

  test.each([
    ['requests', PAGE],
    ['requests without Host', 'GET / HTTP/1.1\r\n\r\n'],
    ['requests with an unknown Expect', PAGE.replace('Host: x', 'Host: x\r\nExpect: x')],
  ])('are not even handed over when there are thousands of %s', async (_what, request) => {
    const { app, open } = await listen({});
    let handedOver = 0;
    for (const event of ['request', 'checkExpectation']) app.server.on(event, () => (handedOver += 1));
    await (
      await open(request.repeat(2_000))
    ).closed;
    expect(handedOver).toBeGreaterThan(0);
    expect(handedOver).toBeLessThan(10);
  });
});

describe('bodies that cannot be checked yet', () => {
  const BODY = 'x'.repeat(800);
  const WHOLE = webhook(`Connection: close\r\nContent-Length: ${BODY.length}`, BODY);
  const HALF_SENT = webhook(`Connection: close\r\nContent-Length: ${BODY.length}`, BODY.slice(1));
  const CHUNKED = webhook('Connection: close\r\nTransfer-Encoding: chunked', `320\r\n${BODY}\r\n0\r\n\r\n`);

  type Open = Awaited<ReturnType<typeof listen>>['open'];

  /**
   * Sends it repeatedly until the answer has this status: the server may not have read the earlier connections' data
   * yet.
   */
  async function untilAnswered(open: Open, text: string, status: number, from?: string): Promise<string> {
    return until(async () => {
      const answer = await (await open(text, from)).closed;
      return answer.startsWith(`HTTP/1.1 ${status} `) ? answer : undefined;
    });
  }

  test.each([
    ['announced', WHOLE],
    ['chunked', CHUNKED],
  ])(
    'an address that holds its share of half-sent webhook bodies gets 503 for a further one, %s; other addresses are not affected',
    async (_name, text) => {
      const { open } = await listen({ webhookBodies: { ofNetwork: 1_000, inAll: 10_000 } });
      const held = await open(HALF_SENT);
      expect(await untilAnswered(open, text, 503)).toMatch(/\r\nretry-after: [1-9]/i);
      expect(await (await open(text, '127.0.0.2')).closed).toMatch(/^HTTP\/1\.1 400 /);
      held.socket.write('x');
      expect(await held.closed).toMatch(/^HTTP\/1\.1 400 /);
      expect(await (await open(text)).closed).toMatch(/^HTTP\/1\.1 400 /);
    },
  );

  test.each([
    ['announced', WHOLE],
    ['chunked', CHUNKED],
  ])(
    'past the limit for half-sent webhook bodies of all addresses, one that is %s gets 503, and is accepted later',
    async (_name, text) => {
      const { open, clock } = await listen({ webhookBodies: { ofNetwork: 1_000, inAll: 2_000 } });
      await open(HALF_SENT, '127.0.0.2');
      const gone = await open(HALF_SENT, '127.0.0.3');
      expect(await untilAnswered(open, text, 503)).toMatch(/\r\nretry-after: [1-9]/i);
      // What a client leaves behind is released.
      gone.socket.destroy();
      await untilAnswered(open, text, 400);
      const event = JSON.stringify(buyer().created());
      const signature = `Stripe-Signature: ${sign(event, clock.now)}`;
      const headers = `Connection: close\r\nContent-Length: ${event.length}\r\n${signature}`;
      expect(await (await open(webhook(headers, event))).closed).toContain('{"status":"ok"}');
    },
  );

  test.each([
    ['announced', (body: string) => [`Content-Length: ${body.length}`, body]],
    [
      'chunked',
      (body: string) => ['Transfer-Encoding: chunked', `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`],
    ],
  ])('past that limit the largest one is dropped for an event that is smaller: %s', async (_name, framed) => {
    const event = JSON.stringify(buyer().created());
    const large = event.length * 2;
    const { open, clock } = await listen({ webhookBodies: { ofNetwork: large, inAll: large } });
    const held = await open(webhook(`Content-Length: ${large}`, 'x'.repeat(large - 1)), '127.0.0.2');
    // A body of the same size is refused once the server has read the first one's data.
    await untilAnswered(
      open,
      webhook(`Connection: close\r\nContent-Length: ${large}`, 'x'.repeat(large)),
      503,
      '127.0.0.3',
    );
    const [length = '', body = ''] = framed(event);
    const signature = `Stripe-Signature: ${sign(event, clock.now)}`;
    const answer = await (await open(webhook(`Connection: close\r\n${length}\r\n${signature}`, body))).closed;
    expect(answer).toContain('{"status":"ok"}');
    expect(await held.closed).toBe('');
  });

  test.each([
    ['announced', 'Content-Length: 1048577', ''],
    ['chunked', 'Transfer-Encoding: chunked', '100001\r\n'],
  ])('a webhook body over 1 MiB is 413: %s', async (_name, header, before) => {
    const { open } = await listen({});
    const client = await open(webhook(`Connection: close\r\n${header}`, `${before}${'x'.repeat(1_048_577)}`));
    if (before !== '') client.socket.write('\r\n0\r\n\r\n');
    expect(await client.closed).toMatch(/^HTTP\/1\.1 413 /);
  });
});

describe('uploads of backups', () => {
  const DOCUMENT = JSON.stringify({
    format: 'tandem-portfolio',
    version: 1,
    currency: 'EUR',
    holdings: [{ symbol: 'ACME', quantity: 1, price: 2, note: 'x'.repeat(500) }],
  });

  type Server = Awaited<ReturnType<typeof listen>>;

  /** Somebody with access: one of their uploads whole, and all but its last byte. */
  async function uploader(server: Server, email: string) {
    const { id, cookie } = await signUp(server, email);
    await server.db.user.update({
      where: { id },
      data: { creditUntil: addSeconds(server.clock.now, 60 * 60) },
    });
    const headers = `Host: x\r\nConnection: close\r\nCookie: ${cookie}\r\nContent-Type: application/json`;
    const whole = `POST /api/backups HTTP/1.1\r\n${headers}\r\nContent-Length: ${DOCUMENT.length}\r\n\r\n${DOCUMENT}`;
    return { whole, halfSent: whole.slice(0, -1) };
  }

  const answerTo = async ({ open }: Server, text: string, from?: string): Promise<string> =>
    (await open(text, from)).closed;

  /** Sends it until the server has read the data of the earlier connections. */
  const untilAnswered = (server: Server, text: string, status: number, from?: string): Promise<string> =>
    until(async () => {
      const answer = await answerTo(server, text, from);
      return answer.startsWith(`HTTP/1.1 ${status} `) ? answer : undefined;
    });

  test('an account makes one backup at a time; other accounts are not affected', async () => {
    const server = await listen({});
    const [ann, ben] = [await uploader(server, 'ann@example.com'), await uploader(server, 'ben@example.com')];
    const first = await server.open(ann.halfSent);
    const refused = await untilAnswered(server, ann.whole, 429);
    expect(refused).toMatch(/\r\nretry-after: [1-9]/i);
    expect(refused).toContain('Another backup of this account is still being made.');
    expect(await answerTo(server, ben.whole)).toMatch(/^HTTP\/1\.1 201 /);
    first.socket.write('}');
    expect(await first.closed).toMatch(/^HTTP\/1\.1 201 /);
    expect(await answerTo(server, ann.whole)).toMatch(/^HTTP\/1\.1 201 /);
  });

  test.each([
    ['its client leaves', (text: string) => text.slice(0, -1)],
    ['its document is wrong', (text: string) => text.replace('EUR', 'eur')],
    ['its body is not JSON', (text: string) => text.replace('"format"', '"format')],
  ])('an upload ends when %s, and the account can make another one', async (_when, spoiled) => {
    const server = await listen({});
    const ann = await uploader(server, 'ann@example.com');
    const first = await server.open(spoiled(ann.whole));
    if (spoiled(ann.whole).length < ann.whole.length) {
      await untilAnswered(server, ann.whole, 429);
      first.socket.destroy();
    }
    await first.closed;
    await untilAnswered(server, ann.whole, 201);
  });

  test('an address that holds its share of bodies gets 503 for a further one; other addresses are not affected', async () => {
    const server = await listen({ backupBodies: { ofNetwork: 1_000, inAll: 10_000 } });
    const [ann, ben] = [await uploader(server, 'ann@example.com'), await uploader(server, 'ben@example.com')];
    const first = await server.open(ann.halfSent);
    expect(await untilAnswered(server, ben.whole, 503)).toMatch(/\r\nretry-after: [1-9]/i);
    expect(await answerTo(server, ben.whole, '127.0.0.2')).toMatch(/^HTTP\/1\.1 201 /);
    first.socket.write('}');
    expect(await first.closed).toMatch(/^HTTP\/1\.1 201 /);
    expect(await answerTo(server, ben.whole)).toMatch(/^HTTP\/1\.1 201 /);
  });

  test('past the limit for bodies of all addresses, a further one gets 503', async () => {
    const server = await listen({ backupBodies: { ofNetwork: 1_000, inAll: 1_000 } });
    const [ann, ben] = [await uploader(server, 'ann@example.com'), await uploader(server, 'ben@example.com')];
    const gone = await server.open(ann.halfSent);
    await untilAnswered(server, ben.whole, 503, '127.0.0.2');
    gone.socket.destroy();
    await untilAnswered(server, ben.whole, 201, '127.0.0.2');
  });
});
