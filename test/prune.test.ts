import { readFile } from 'node:fs/promises';

import { expect, inject, test } from 'vitest';

import { createResetToken } from '../src/accounts/reset-link.ts';
import { leaveTombstone } from '../src/accounts/tombstone.ts';
import { databasePath } from '../src/db/open.ts';
import { inTransaction } from '../src/db/transaction.ts';
import { prune } from '../src/operator/prune.ts';
import { replay } from '../src/operator/replay.ts';
import { commandContext } from './support/command-context.ts';
import {
  daysAfter,
  deleteAccount,
  deliver,
  deliverAll,
  SESSION_SECRET,
  signUp,
  START,
  startTestServer,
} from './support/server.ts';
import type { TestServer } from './support/server.ts';
import { buyer, stripeEvent } from './support/stripe-events.ts';

function justAfter(instant: Date): Date {
  return new Date(instant.getTime() + 1000);
}

async function payloadOf({ db }: TestServer, id: string): Promise<string> {
  return (await db.event.findUniqueOrThrow({ where: { id } })).payload ?? '';
}

/** Three events received at START: one applied, one ignored, one failed. Each holds an address. */
async function withEvents() {
  const server = await startTestServer();
  const person = await signUp(server, 'person@example.com');
  const stripe = buyer(person.id);
  const secret = { customer_email: 'secret@example.com' };
  const applied = stripe.checkoutCompleted(secret);
  const ignored = stripeEvent('product.created', { id: 'prod_1', ...secret });
  const failed = stripe.created({ status: 7, ...secret });
  await deliverAll(server, [applied]);
  await deliverAll(server, [ignored], 'ignored');
  expect((await deliver(server, failed)).statusCode).toBe(500);
  return { server, person, stripe, applied, ignored, failed };
}

test('prune removes from old applied and ignored events what we do not read, and keeps failed ones whole', async () => {
  const { server, person, applied, ignored, failed } = await withEvents();
  server.clock.now = justAfter(daysAfter(90));
  expect((await prune(commandContext(server))).json).toMatchObject({ events: 2 });

  for (const { id } of [applied, ignored]) {
    expect(await payloadOf(server, id)).not.toContain('secret');
    expect(await server.db.event.findUnique({ where: { id } })).toMatchObject({ thinned: true });
  }
  expect(JSON.parse(await payloadOf(server, applied.id))).toMatchObject({
    id: applied.id,
    data: { object: { client_reference_id: person.id } },
  });
  expect(await payloadOf(server, failed.id)).toBe(JSON.stringify(failed));
  expect(await server.db.event.findUnique({ where: { id: failed.id } })).toMatchObject({ thinned: false });
  await expect(replay(commandContext(server), failed.id)).rejects.toThrow('failed again');
});

test('prune thins an event once, and not before its configurable retention ends', async () => {
  const { server, applied } = await withEvents();
  server.clock.now = daysAfter(90);
  expect((await prune(commandContext(server))).json).toMatchObject({ events: 0 });
  expect(await payloadOf(server, applied.id)).toContain('secret');

  server.clock.now = justAfter(daysAfter(7));
  const week = commandContext(server, { EVENT_RETENTION_DAYS: '7' });
  expect((await prune(week)).json).toMatchObject({ events: 2 });
  const thin = await payloadOf(server, applied.id);
  expect((await prune(week)).json).toMatchObject({ events: 0 });
  expect(await payloadOf(server, applied.id)).toBe(thin);
});

test('prune thins what was stored about an account at the instant of its deletion', async () => {
  const { server, person, applied, ignored } = await withEvents();
  // The events are whole, as if they had been stored just then: the deletion did not see them.
  const user = await server.db.user.findUniqueOrThrow({ where: { id: person.id } });
  await inTransaction(server.db, START, (tx) => leaveTombstone(tx, user));
  expect((await prune(commandContext(server))).json).toMatchObject({ events: 1 });
  expect(await payloadOf(server, applied.id)).not.toContain('secret');
  expect(await payloadOf(server, ignored.id)).toContain('secret');
});

test.runIf(inject('engine') === 'sqlite')(
  'prune leaves nothing of a deleted account in the write-ahead log',
  async () => {
    const server = await startTestServer();
    const person = await signUp(server, 'leaves@example.com');
    expect((await deleteAccount(server, person)).statusCode).toBe(303);
    const path = databasePath(server.databaseUrl);
    expect(await readFile(`${path}-wal`, 'latin1')).toContain('leaves@example.com');
    await prune(commandContext(server));
    for (const file of [path, `${path}-wal`])
      expect(await readFile(file, 'latin1')).not.toContain('leaves@example.com');
  },
);

test('prune thins all old events when they exceed one transaction', async () => {
  const server = await startTestServer();
  await server.db.event.createMany({
    data: Array.from({ length: 701 }, (_, n) => {
      const event = stripeEvent('product.created', { id: `prod_${n}`, name: 'secret' });
      return {
        id: event.id,
        type: event.type,
        created: START,
        receivedAt: START,
        status: 'ignored',
        reason: 'unused',
        payload: JSON.stringify(event),
      };
    }),
  });
  server.clock.now = daysAfter(91);
  expect((await prune(commandContext(server))).json).toMatchObject({ events: 701 });
  expect(await server.db.event.count({ where: { thinned: false } })).toBe(0);
  expect(await server.db.event.count({ where: { payload: { contains: 'secret' } } })).toBe(0);
});

test('prune deletes all ended sessions and reset links when they exceed one transaction', async () => {
  const server = await startTestServer();
  const { id: userId } = await signUp(server, 'ann@example.com');
  const ended = Array.from({ length: 1_001 }, (_, n) => ({
    tokenHash: `hash ${n}`,
    userId,
    expiresAt: START,
  }));
  await server.db.session.createMany({ data: ended });
  await server.db.resetLink.createMany({ data: ended });
  server.clock.now = justAfter(START);
  expect((await prune(commandContext(server))).json).toMatchObject({ sessions: 1_001, resetLinks: 1_001 });
  expect(await server.db.session.count()).toBe(1);
  expect(await server.db.resetLink.count()).toBe(0);
});

test('prune deletes ended sessions and reset links and keeps the others', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const linkOf = (id: string, now: Date) =>
    inTransaction(server.db, now, (tx) => createResetToken(tx, SESSION_SECRET, id));
  await linkOf(ann.id, START);
  server.clock.now = daysAfter(30);
  const bob = await signUp(server, 'bob@example.com');
  await linkOf(bob.id, daysAfter(30));

  expect(await prune(commandContext(server))).toEqual({
    text: 'Thinned 0 events; deleted 1 expired session, 1 expired reset link, and 0 old outbox items (emails and changes at Stripe).',
    json: { events: 0, sessions: 1, resetLinks: 1, outboxItems: 0, writeAheadLogEmptied: true },
  });
  expect(await server.db.session.findMany()).toMatchObject([{ userId: bob.id }]);
  expect(await server.db.resetLink.findMany()).toMatchObject([{ userId: bob.id }]);
  const me = await server.app.inject({ url: '/api/me', headers: { cookie: bob.cookie } });
  expect(me.statusCode).toBe(200);
});
