import { expect, test } from 'vitest';

import { load, union } from '../src/db/load.ts';
import { inTransaction } from '../src/db/transaction.ts';
import { deliver, signUp, startTestServer, userRow } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

/** An invited buyer with a linked customer, who has had very many addresses. */
async function withFormerAddresses(count: number) {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const ben = await signUp(server, 'ben@example.com', ann.code);
  const stripe = buyer(ben.id);
  await deliver(server, stripe.checkoutCompleted());
  const former = Array.from({ length: count }, (_, n) => ({ userId: ben.id, emailHash: `former ${n}` }));
  await server.db.formerAddress.createMany({ data: former });
  return { server, ben, stripe };
}

test('an invited buyer with thousands of former addresses takes at most 1,024 advisory locks, each once', async () => {
  const { server, ben, stripe } = await withFormerAddresses(5_000);
  const locks = await inTransaction(server.db, server.clock.now, async (tx) => {
    await load(tx, union([{ users: [ben.id] }]));
    return tx.$queryRaw<{ classid: number; objid: number; objsubid: number }[]>`
      SELECT classid::int, objid::int, objsubid::int FROM pg_locks
      WHERE locktype = 'advisory' AND pid = pg_backend_pid()`;
  });
  expect(locks.length).toBeGreaterThan(900);
  expect(locks.length).toBeLessThanOrEqual(1_024);
  // The form with two numbers, so that none is the lock of a reserved address (`reserveAddress`).
  expect(new Set(locks.map(({ classid, objsubid }) => `${classid} ${objsubid}`))).toEqual(new Set(['1 2']));
  expect((await deliver(server, stripe.created())).json()).toEqual({ status: 'ok' });
  expect(await userRow(server, ben.id)).toMatchObject({ tier: 'paid' });
  expect(await server.db.referral.count({ where: { convertedAt: { not: null } } })).toBe(1);
});
