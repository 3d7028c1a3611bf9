import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { beforeEach, describe, expect, inject, test, vi } from 'vitest';

import { Prisma } from '../src/db/generated/client.ts';
import { inTransaction } from '../src/db/transaction.ts';
import { registry } from '../src/metrics.ts';
import { queueNow } from '../src/outbox/queue.ts';
import { invitedFriend } from './support/invited-friend.ts';
import { startMailServer } from './support/mail-server.ts';
import { otherConnection, refuseCommits, refuseWrites } from './support/other-connection.ts';
import { until } from './support/process.ts';
import { mailEnv, startTestSender } from './support/sender.ts';
import {
  daysAfter,
  deliver,
  deliverAll,
  PATIENT,
  postForm,
  signUp,
  START,
  startTestServer,
  userRow,
} from './support/server.ts';
import { buyer, stripeEvent } from './support/stripe-events.ts';

beforeEach(() => {
  registry.resetMetrics();
});

/** The values of `GET /metrics` by line; 0 for an absent line. */
async function scrape(app: FastifyInstance): Promise<(line: string) => number> {
  const { statusCode, headers, body } = await app.inject({ url: '/metrics' });
  expect(statusCode).toBe(200);
  expect(headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
  const values = new Map(
    body
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
  return (line) => values.get(line) ?? 0;
}

function events(type: string, outcome: string): string {
  return `tandem_events_total{type="${type}",outcome="${outcome}"}`;
}

describe('event metrics', () => {
  test('events are counted by type and outcome', async () => {
    const server = await startTestServer();
    const event = buyer().created();
    await deliver(server, event);
    await deliver(server, event);
    await deliver(server, buyer().created({ customer: null }));
    await deliver(server, buyer().created({ status: 7 }));
    const value = await scrape(server.app);
    for (const outcome of ['applied', 'duplicate', 'ignored', 'failed'])
      expect(value(events('customer.subscription.created', outcome))).toBe(1);
    expect(value('tandem_event_handling_seconds_count{outcome="applied"}')).toBe(1);
    expect(value('tandem_event_handling_seconds_count{outcome="failed"}')).toBe(1);
  });

  test('unused event types share one label, whatever they are called', async () => {
    const server = await startTestServer();
    for (const type of ['product.created', 'made.up', '__proto__'])
      await deliver(server, stripeEvent(type, { id: 'x' }));
    expect((await scrape(server.app))(events('other', 'ignored'))).toBe(3);
  });

  test('record the lag of an event once, not again when it is redelivered', async () => {
    const server = await startTestServer();
    const event = buyer().created({}, { at: new Date(START.getTime() - 7_200_000) });
    await deliver(server, event);
    await deliver(server, event);
    const early = buyer().created({}, { at: new Date(START.getTime() + 2_000) });
    await deliver(server, early);
    const value = await scrape(server.app);
    expect(value('tandem_event_lag_seconds_count')).toBe(2);
    expect(value('tandem_event_lag_seconds_sum')).toBe(7200);
    expect(value('tandem_event_lag_seconds_bucket{le="3600"}')).toBe(1);
  });
});

describe('metrics of conversions, reversals, restorations and days granted', () => {
  test('conversions, reversals, restorations and granted days are counted when they happen', async () => {
    const server = await startTestServer();
    const { stripe } = await invitedFriend(server);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    await deliverAll(server, [stripe.invoicePaid(), stripe.invoicePaymentPaid()]);
    const converted = await scrape(server.app);
    expect(converted('tandem_conversions_total')).toBe(1);
    expect(converted('tandem_credit_days_granted_total')).toBe(90);

    server.clock.now = daysAfter(5);
    await deliverAll(server, [stripe.chargeRefunded({}, { at: daysAfter(5) })]);
    server.clock.now = daysAfter(6);
    await deliverAll(server, [stripe.refundFailed({}, { at: daysAfter(6) })]);
    const restored = await scrape(server.app);
    expect(restored('tandem_reversals_total')).toBe(1);
    expect(restored('tandem_restorations_total')).toBe(1);
    expect(restored('tandem_conversions_total')).toBe(1);
    expect(restored('tandem_credit_days_granted_total')).toBe(90);
  });

  test('only committed changes are counted', async () => {
    const server = await startTestServer();
    const { friend, stripe } = await invitedFriend(server);
    await deliverAll(server, [stripe.checkoutCompleted()]);
    const { lift } = await refuseCommits(server, 'CreditEntry');
    const event = stripe.created();
    expect((await deliver(server, event)).statusCode).toBe(500);
    const failed = await scrape(server.app);
    expect(failed(events(event.type, 'failed'))).toBe(1);
    expect(failed('tandem_conversions_total')).toBe(0);
    expect(failed('tandem_credit_days_granted_total')).toBe(0);

    await lift();
    await deliverAll(server, [event]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
    const applied = await scrape(server.app);
    expect(applied('tandem_conversions_total')).toBe(1);
    expect(applied('tandem_credit_days_granted_total')).toBe(90);
  });
});

describe('metrics are updated after the commit', () => {
  const conflict = new Prisma.PrismaClientKnownRequestError('conflict', {
    code: 'P2034',
    clientVersion: 'x',
  });

  test('a retried transaction counts its last attempt only, and counts the retry', async () => {
    const { app, db } = await startTestServer();
    const done: number[] = [];
    let tries = 0;
    await inTransaction(db, START, async (tx) => {
      tries += 1;
      const mine = tries;
      tx.afterCommit(() => void done.push(mine));
      expect(done).toEqual([]);
      await tx.setting.findMany();
      if (tries < 3) throw conflict;
    });
    expect(done).toEqual([3]);
    const value = await scrape(app);
    expect(value('tandem_transaction_retries_total{code="P2034"}')).toBe(2);
    expect(value('tandem_transactions_given_up_total{code="P2034"}')).toBe(0);
  });

  test('a transaction that gives up is counted, but none of its changes are', async () => {
    const { app, db } = await startTestServer();
    const done = vi.fn();
    const given = inTransaction(db, START, (tx) => {
      tx.afterCommit(done);
      return Promise.reject(conflict);
    });
    await expect(given).rejects.toBe(conflict);
    expect(done).not.toHaveBeenCalled();
    expect((await scrape(app))('tandem_transactions_given_up_total{code="P2034"}')).toBe(1);
  });

  test('an error in an afterCommit callback does not fail the committed transaction', async () => {
    const { db } = await startTestServer();
    const warning = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const done = vi.fn();
    const result = await inTransaction(db, START, async (tx) => {
      tx.afterCommit(() => {
        throw new Error('miscounted');
      });
      tx.afterCommit(done);
      await tx.setting.create({ data: { key: 'kept', value: 'x' } });
      return 'done';
    });
    expect(result).toBe('done');
    expect(done).toHaveBeenCalledOnce();
    expect(warning).toHaveBeenCalledOnce();
    warning.mockRestore();
    expect(await db.setting.count({ where: { key: 'kept' } })).toBe(1);
  });
});

test('the metrics measure the process itself and name nobody', async () => {
  const server = await startTestServer();
  const { referrer, friend, stripe } = await invitedFriend(server);
  const all = [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()];
  await deliverAll(server, all);
  const { body } = await server.app.inject({ url: '/metrics' });
  expect(body).toContain('nodejs_eventloop_lag_seconds');
  for (const { id, email, code } of [referrer, friend])
    for (const personal of [id, email, code]) expect(body).not.toContain(personal);
  for (const { id } of [...all, { id: stripe.customer }, { id: stripe.subscription }])
    expect(body).not.toContain(id);
});

describe('GET /metrics', () => {
  const proxy = '127.0.0.1';
  test.each([
    ['127.0.0.1', {}, '', 200],
    ['127.8.9.10', {}, '', 200],
    ['::1', {}, '', 200],
    ['::ffff:127.0.0.1', {}, '', 200],
    ['127.0.0.1', { host: '127.0.0.1:3000' }, '', 200],
    ['127.0.0.1', { host: 'localhost:3000' }, proxy, 200],
    ['::1', { host: '[::1]:3000' }, '', 200],
    ['192.0.2.7', {}, '', 404],
    ['::ffff:192.0.2.7', {}, '', 404],
    ['2001:db8::1', {}, '', 404],
    // A proxy on this machine, trusted or not, is recognised by one of these headers.
    ['127.0.0.1', { 'x-forwarded-for': '192.0.2.7' }, '', 404],
    ['127.0.0.1', { 'x-forwarded-for': '127.0.0.1' }, '', 404],
    ['127.0.0.1', { 'x-forwarded-proto': 'https' }, '', 404],
    ['127.0.0.1', { 'x-forwarded-host': 'localhost' }, '', 404],
    ['127.0.0.1', { 'x-forwarded-port': '443' }, '', 404],
    ['127.0.0.1', { 'x-forwarded-server': 'proxy' }, '', 404],
    ['127.0.0.1', { forwarded: 'for=127.0.0.1' }, '', 404],
    ['127.0.0.1', { forwarded: 'proto=https' }, '', 404],
    ['127.0.0.1', { via: '1.1 proxy' }, '', 404],
    ['127.0.0.1', { 'x-real-ip': '127.0.0.1' }, '', 404],
    ['127.0.0.1', { 'x-client-ip': '127.0.0.1' }, '', 404],
    ['127.0.0.1', { 'true-client-ip': '127.0.0.1' }, '', 404],
    ['127.0.0.1', { 'cf-connecting-ip': '127.0.0.1' }, '', 404],
    ['127.0.0.1', { 'x-forwarded-for': '192.0.2.7' }, proxy, 404],
    ['127.0.0.1', { 'x-forwarded-for': '127.0.0.1, 192.0.2.7' }, proxy, 404],
    ['127.0.0.1', { forwarded: 'for=192.0.2.7' }, proxy, 404],
    ['127.0.0.1', { 'x-forwarded-proto': 'http' }, proxy, 404],
    // It forwards what its client claims.
    ['127.0.0.1', { 'x-forwarded-for': '127.0.0.1' }, proxy, 404],
    ['127.0.0.1', { 'x-forwarded-for': '::1' }, proxy, 404],
    // It sends no such header, but the request's Host is the site's.
    ['127.0.0.1', { host: 'tandem.test' }, '', 404],
    ['127.0.0.1', { host: 'tandem.test' }, proxy, 404],
    ['127.0.0.1', { host: 'localhost.tandem.test' }, '', 404],
    // A proxy elsewhere is not this machine, whatever it claims.
    ['192.0.2.1', { 'x-forwarded-for': '127.0.0.1' }, '192.0.2.1', 404],
  ])('from %s with %j, TRUST_PROXY=%s: %i', async (remoteAddress, headers, TRUST_PROXY, status) => {
    const { app } = await startTestServer({ TRUST_PROXY });
    const answer = await app.inject({ url: '/metrics', remoteAddress, headers });
    expect(answer.statusCode).toBe(status);
    if (status === 200) return;
    const nothing = await app.inject({ url: '/nothing', remoteAddress, headers });
    expect(answer.body.replaceAll('/metrics', '/nothing')).toBe(nothing.body);
    expect(answer.headers['content-type']).toBe(nothing.headers['content-type']);
  });
});

test('the outbox: what was queued, what came of each try, what waits, and for how long', async () => {
  const mailServer = await startMailServer();
  const server = await startTestServer(mailEnv(mailServer), { now: START });
  const ann = await signUp(server, 'ann@example.com');
  await server.db.user.update({ where: { id: ann.id }, data: { emailProvenAt: START } });
  const queue = (count: number) =>
    inTransaction(server.db, server.clock.now, (tx) =>
      queueNow(
        tx,
        Array.from({ length: count }, () => ({ kind: 'mail.password-changed', userId: ann.id, data: null })),
      ),
    );
  await queue(2);
  const first = await startTestSender(server);
  await first.wake();
  mailServer.refuse = () => ({ code: 451, text: 'later' });
  await queue(1);
  await first.wake();
  mailServer.refuse = () => ({ code: 550, text: 'never' });
  await queue(1);
  await first.wake();
  await first.close();

  // A sender measures when it begins.
  server.clock.now = daysAfter(1 / 24 / 60);
  await startTestSender(server);
  const oldest = 'tandem_outbox_oldest_seconds';
  await until(async () => (await scrape(server.app))(oldest) === 60 || undefined);
  const value = await scrape(server.app);
  const tries = (outcome: string): number =>
    value(`tandem_outbox_tries_total{kind="mail.password-changed",outcome="${outcome}"}`);
  expect(value('tandem_outbox_queued_total')).toBe(4);
  expect([tries('done'), tries('again'), tries('failed')]).toEqual([2, 1, 1]);
  expect(value('tandem_outbox_items{status="queued"}')).toBe(1);
  expect(value('tandem_outbox_items{status="failed"}')).toBe(1);
});

describe('the log', () => {
  async function logging() {
    const lines: string[] = [];
    const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) });
    const server = await startTestServer({}, { now: START }, PATIENT, logger);
    const said = (msg: string) =>
      lines.map((line) => JSON.parse(line) as Record<string, unknown>).filter((line) => line['msg'] === msg);
    return { server, lines, said };
  }

  test('the log names the request, event and type of a failure, and no personal data', async () => {
    const { server, lines, said } = await logging();
    const { friend, stripe } = await invitedFriend(server);
    await deliverAll(server, [stripe.checkoutCompleted()]);
    await refuseWrites(server, 'UPDATE', 'User');
    const event = stripe.created();
    expect((await deliver(server, event)).statusCode).toBe(500);
    const [line] = said('handling a Stripe event failed');
    expect(line).toMatchObject({ level: 50, eventId: event.id, type: event.type });
    expect(line).toHaveProperty('err.stack', expect.stringMatching(/^\s+at /));
    expect(said('request').at(-1)).toMatchObject({
      eventId: event.id,
      reqId: line?.['reqId'],
      statusCode: 500,
    });
    expect(line?.['reqId']).toMatch(/\w/);
    for (const personal of ['@example.com', friend.id]) expect(lines.join('')).not.toContain(personal);
  });

  test('leaves out what the database says about a row', async () => {
    const { server, lines, said } = await logging();
    const { run } = await otherConnection(server);
    const words = 'no row for ann@example.com of Ann';
    await run(
      inject('engine') === 'sqlite'
        ? `CREATE TRIGGER wordy BEFORE INSERT ON "User" BEGIN SELECT RAISE(ABORT, '${words}'); END`
        : `CREATE FUNCTION wordy() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'refused: ann@example.com' USING DETAIL = '${words}'; END $$;
           CREATE TRIGGER wordy BEFORE INSERT ON "User" FOR EACH ROW EXECUTE FUNCTION wordy()`,
    );
    const form = { email: 'ann@example.com', password: 'correct horse' };
    expect((await postForm(server.app, '/signup', form)).statusCode).toBe(500);
    expect(said('a request failed')).toHaveLength(1);
    expect(lines.join('')).not.toMatch(/ann@example\.com|of Ann/);
  });
});
