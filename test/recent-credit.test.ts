import { randomUUID } from 'node:crypto';

import { expect, test } from 'vitest';

import { creditLeft, granted, held, resumed, taken } from '../src/credits/balance.ts';
import type { CreditBalance } from '../src/credits/balance.ts';
import { linesSince, pointBefore } from '../src/credits/recent.ts';
import type { CreditEntry } from '../src/db/generated/client.ts';
import { explainCredit } from '../src/operator/explain-credit.ts';
import { giveConversions } from './support/many-conversions.ts';
import { SEED, seededRandom } from './support/seeded-random.ts';
import { DAY, daysAfter, deliverAll, signUp, START, startTestServer } from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

const WANTED = 50;

/** A ledger with every case: credit runs out, is held, and is reversed whole or in part. */
function someLedger(userId: string, referralId: string, length: number): CreditEntry[] {
  const draw = seededRandom('a ledger');
  let balance: CreditBalance = { creditUntil: null, creditHeldAt: null };
  let at = START;
  return Array.from({ length }, (_, index) => {
    at = new Date(at.getTime() + draw(3) * draw(10) * DAY * 1000);
    const left = creditLeft(balance, at);
    const drawn = ['grant', 'reversal', balance.creditHeldAt ? 'resume' : 'hold'][draw(3)] ?? 'grant';
    const kind = drawn === 'reversal' && left === 0 ? 'grant' : drawn;
    const seconds = kind === 'grant' ? (1 + draw(20)) * DAY : kind === 'reversal' ? 1 + draw(left) : 0;
    if (kind === 'grant') balance = granted(balance, at, seconds);
    else if (kind === 'reversal') balance = taken(balance, at, seconds);
    else balance = kind === 'hold' ? held(balance, at) : resumed(balance, at);
    return { userId, seq: index + 1, at, kind, seconds, referralId, causeId: randomUUID() };
  });
}

test('read from the middle, a ledger gives the same lines as when it is read from its start', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await signUp(server, 'ben@example.com', ann.code);
  const { id: referralId } = await server.db.referral.findFirstOrThrow();
  const ledger = someLedger(ann.id, referralId, 700);
  await server.db.creditEntry.createMany({ data: ledger });

  // Also backwards: another server's view of the user can be older than the saved point.
  for (const count of [0, 1, 49, 99, 100, 101, 149, 150, 640, 120, 641, 700]) {
    const entries = ledger.slice(0, count);
    const at = new Date((entries.at(-1)?.at ?? START).getTime() + DAY * 1000);
    const whole = explainCredit(entries, at).lines.map((line) =>
      line.kind === 'spent' ? { kind: line.kind, from: line.from, seconds: line.seconds } : line,
    );
    const point = await pointBefore(server.db, ann.id, count, WANTED);
    const lines = linesSince(point, entries.slice(point.seq), at);
    const why = `SEED=${SEED}, ${count} entries`;
    expect(lines, why).toEqual(whole.slice(point.lines));
    expect(lines.length, why).toBeGreaterThanOrEqual(Math.min(WANTED, whole.length));
    expect(count - point.seq, why).toBeLessThan(2 * WANTED);
  }
});

/** The referral counts of `/api/me`. */
async function counts({ app }: TestServer, { cookie }: Person) {
  const me = (await app.inject({ url: '/api/me', headers: { cookie } })).json<{ referral: object }>();
  return me.referral;
}

test('the counts of an account with many conversions follow every change to them', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await giveConversions(server, ann, 120, START);
  server.clock.now = daysAfter(10);
  expect(await counts(server, ann)).toMatchObject({ invited: 120, converted: 120, activeCredits: 120 });

  const ben = await signUp(server, 'ben@example.com', ann.code);
  expect(await counts(server, ann)).toMatchObject({ invited: 121, converted: 120, activeCredits: 120 });

  const stripe = buyer(ben.id);
  const at = { at: daysAfter(10) };
  await deliverAll(server, [
    stripe.checkoutCompleted({}, at),
    stripe.created({}, at),
    stripe.invoicePaid({}, at),
    stripe.invoicePaymentPaid({}, at),
  ]);
  expect(await counts(server, ann)).toMatchObject({ invited: 121, converted: 121, activeCredits: 121 });

  server.clock.now = daysAfter(20);
  await deliverAll(server, [stripe.chargeRefunded({}, { at: daysAfter(20) })]);
  expect(await counts(server, ann)).toMatchObject({ invited: 121, converted: 120, activeCredits: 120 });

  // The first was credited exactly 45 days ago, the last 119 seconds later.
  server.clock.now = daysAfter(45);
  expect(await counts(server, ann)).toMatchObject({ converted: 120, activeCredits: 120 });
  server.clock.now = new Date(daysAfter(45).getTime() + 1000);
  expect(await counts(server, ann)).toMatchObject({ converted: 120, activeCredits: 119 });
  server.clock.now = new Date(daysAfter(45).getTime() + 119_000);
  expect(await counts(server, ann)).toMatchObject({ converted: 120, activeCredits: 1 });
  server.clock.now = daysAfter(46);
  expect(await counts(server, ann)).toMatchObject({ invited: 121, converted: 120, activeCredits: 0 });
});
