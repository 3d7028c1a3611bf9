import { readFile } from 'node:fs/promises';

import { describe, expect, inject, test, vi } from 'vitest';

import { Prisma } from '../src/db/generated/client.ts';
import { databasePath } from '../src/db/open.ts';
import { relink } from '../src/operator/relink.ts';
import { eventsAbout } from '../src/stripe/event-ledger.ts';
import { commandContext } from './support/command-context.ts';
import { expectSound } from './support/findings.ts';
import { DAY, deleteAccount, deliver, PASSWORD, postForm, signUp, userRow } from './support/server.ts';
import {
  aroundExpiry,
  deliverWaiting,
  letBankDecide,
  passTime,
  paymentOf,
  pressUpgrade,
  refuseToExpire,
  sessionIdOf,
  startWorld,
  subscribe,
} from './support/stand-in.ts';
import { buyer, stripeEvent } from './support/stripe-events.ts';

describe('deleting an account', () => {
  test('deleting an account leaves a tombstone and ends every session', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const answer = await deleteAccount(world, ann);
    expect(answer.statusCode).toBe(303);
    expect(answer.headers.location).toBe('/');
    expect(await world.db.user.findUniqueOrThrow({ where: { id: ann.id } })).toMatchObject({
      email: null,
      passwordHash: null,
      deletedAt: world.clock.now,
    });
    expect(await world.db.session.count()).toBe(0);
    expect((await world.app.inject({ url: '/api/me', headers: { cookie: ann.cookie } })).statusCode).toBe(
      401,
    );
    const login = await postForm(world.app, '/login', { email: 'ann@example.com', password: PASSWORD });
    expect(login.statusCode).toBe(401);
  });

  test('is dated after a conversion that committed while it waited', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const ben = await signUp(world, 'ben@example.com', ann.code);
    const stripe = buyer(ben.id);
    const asked = world.clock.now;
    world.clock.now = new Date(asked.getTime() + 2_000);
    await deliver(world, stripe.checkoutCompleted());
    await deliver(world, stripe.created());
    world.clock.now = asked;
    expect((await deleteAccount(world, ann)).statusCode).toBe(303);
    await expectSound(world);
  });

  test('requires the password', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    expect((await deleteAccount(world, ann, 'wrong')).statusCode).toBe(403);
    expect((await deleteAccount(world, ann, '')).statusCode).toBe(400);
    expect(await userRow(world, ann.id)).toMatchObject({ deletedAt: null });
  });

  test('cancels at Stripe first, including what was paid a moment ago', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const subscription = await subscribe(world, ann);
    expect((await deleteAccount(world, ann)).statusCode).toBe(303);
    expect(world.sandbox.objects.subscriptions.get(subscription)).toMatchObject({ status: 'canceled' });
    await deliverWaiting(world);
    expect(await world.db.user.findUniqueOrThrow({ where: { id: ann.id } })).toMatchObject({ tier: 'free' });
  });

  test('voids a first invoice that the bank has yet to approve', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await subscribe(world, ann, { outcome: 'incomplete' });
    letBankDecide(world);
    const early = await deleteAccount(world, ann);
    expect([early.statusCode, early.body]).toEqual([
      409,
      expect.stringContaining('a payment is still being processed'),
    ]);
    expect((await deleteAccount(world, ann)).statusCode).toBe(303);
    const invoices = [...world.sandbox.objects.invoices.values()];
    expect(invoices.map(({ status }) => status)).toEqual(['void']);
  });

  test('cancels no plan while another payment awaits a bank’s approval', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const bea = await signUp(world, 'bea@example.com');
    const plans = await Promise.all([
      subscribe(world, ann),
      subscribe(world, bea, { outcome: 'incomplete' }),
    ]);
    await deliverWaiting(world);
    const { id } = await world.db.customer.findFirstOrThrow({ where: { userId: bea.id } });
    await relink(commandContext(world), id, ann.id, undefined);
    letBankDecide(world);
    expect((await deleteAccount(world, ann)).statusCode).toBe(409);
    const statuses = plans.map((plan) => world.sandbox.objects.subscriptions.get(plan)?.status);
    expect(statuses).toEqual(['active', 'incomplete']);
  });

  test('deleting an account closes its open checkout', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const session = sessionIdOf(await pressUpgrade(world, ann));
    await deleteAccount(world, ann);
    expect(world.sandbox.objects.checkouts.get(session)).toMatchObject({ status: 'expired' });
  });

  test('says that it is done when the first request of a double click did it while Stripe was asked', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await pressUpgrade(world, ann);
    aroundExpiry(world, { after: () => deleteAccount(world, ann) });
    const answer = await deleteAccount(world, ann);
    expect([answer.statusCode, answer.headers.location]).toEqual([303, '/']);
    expect(await userRow(world, ann.id)).toMatchObject({ email: null });
  });

  test('deletes nothing while a payment page is open that Stripe does not close', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await pressUpgrade(world, ann);
    refuseToExpire(world);
    const answer = await deleteAccount(world, ann);
    expect(answer.statusCode).toBe(409);
    expect(answer.body).toContain('a payment is still being processed');
    expect(await userRow(world, ann.id)).toMatchObject({ deletedAt: null });
    expect((await deleteAccount(world, ann)).statusCode).toBe(303);
  });

  test('deletes nothing when Stripe cannot be reached, and says so', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await subscribe(world, ann);
    await deliverWaiting(world);
    await world.sandbox.close();
    const answer = await deleteAccount(world, ann);
    expect(answer.statusCode).toBe(502);
    expect(answer.body).toContain('Your account was not deleted');
    expect(await userRow(world, ann.id)).toMatchObject({ deletedAt: null, tier: 'paid' });
  });

  test("a deleted account's open referral never converts, and friends' conversions skip it", async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const ben = await signUp(world, 'ben@example.com', ann.code);
    const cem = await signUp(world, 'cem@example.com', ann.code);
    await pressUpgrade(world, ben);
    const [customer] = await world.db.customer.findMany();
    await deleteAccount(world, ben);
    const late = buyer(ben.id);
    await deliver(world, late.created({ customer: customer?.id }));
    expect(await world.db.referral.findUniqueOrThrow({ where: { referredId: ben.id } })).toMatchObject({
      convertedAt: null,
    });

    await deleteAccount(world, ann);
    await subscribe(world, cem);
    await deliverWaiting(world);
    expect(await userRow(world, cem.id)).toMatchObject({ tier: 'paid' });
    expect(await world.db.creditEntry.count({ where: { userId: ann.id } })).toBe(0);
    expect(await world.db.creditEntry.count({ where: { userId: cem.id, kind: 'grant' } })).toBe(1);
  });

  test('somebody who paid, deleted the account and signs up again earns no second referral or trial', async () => {
    const world = await startWorld({ STRIPE_TRIAL_DAYS: '7' });
    const ann = await signUp(world, 'ann@example.com');
    const ben = await signUp(world, 'ben@example.com', ann.code);
    await subscribe(world, ben);
    await deliverWaiting(world);
    await passTime(world, 8 * DAY);
    await deliverWaiting(world);
    expect(await userRow(world, ben.id)).toMatchObject({ tier: 'paid' });
    await deleteAccount(world, ben);
    const again = await signUp(world, 'ben+2@example.com', ann.code);
    const second = await subscribe(world, again);
    expect(world.sandbox.objects.subscriptions.get(second)).toMatchObject({ status: 'active' });
    await deliverWaiting(world);
    expect(await world.db.referral.findUnique({ where: { referredId: again.id } })).toMatchObject({
      convertedAt: null,
      refusedFor: 'address-converted',
    });
  });

  test('a refund after the deletion takes the credit of the friend who stays', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const ben = await signUp(world, 'ben@example.com', ann.code);
    const subscription = await subscribe(world, ben);
    await deliverWaiting(world);
    await deleteAccount(world, ben);
    await passTime(world, 5 * DAY);
    await world.merchant.refunds.create({ payment_intent: paymentOf(world, subscription) });
    await deliverWaiting(world);
    expect(await userRow(world, ann.id)).toMatchObject({ creditUntil: world.clock.now });
  });

  test('leaves no address in the stored events', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await subscribe(world, ann);
    await deliverWaiting(world);
    const holding = () => world.db.event.count({ where: { payload: { contains: 'ann@example.com' } } });
    expect(await holding()).toBeGreaterThan(0);
    await deleteAccount(world, ann);
    expect(await holding()).toBe(0);
  });

  test('stores no address again with what Stripe says afterwards', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const subscription = await subscribe(world, ann);
    await deliverWaiting(world);
    const { id: customer } = await world.db.customer.findFirstOrThrow();
    await deleteAccount(world, ann);
    const before = await world.db.event.count();
    // A real charge contains where its receipt was sent.
    const billing = { receipt_email: 'ann@example.com', billing_details: { email: 'ann@example.com' } };
    for (const charge of world.sandbox.objects.charges.values()) Object.assign(charge, billing);
    await world.merchant.customers.update(customer, { name: 'ann@example.com' });
    const payment_intent = paymentOf(world, subscription);
    for (const part of [{ amount: 100 }, {}])
      await world.merchant.refunds.create({ payment_intent, ...part });
    await world.merchant.customers.del(customer);
    await deliverWaiting(world);
    expect(await world.db.event.count({ where: { status: 'ignored' } })).toBeGreaterThan(0);
    expect(await world.db.event.count()).toBeGreaterThan(before + 3);
    expect(await world.db.event.count({ where: { payload: { contains: 'ann@example.com' } } })).toBe(0);
  });

  test('stores no name again with ignored events about its payments, which name no customer', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const subscription = await subscribe(world, ann);
    await deliverWaiting(world);
    await deleteAccount(world, ann);
    const about = { payment_intent: paymentOf(world, subscription), metadata: { name: 'Ann Example' } };
    const invoice = await world.db.invoice.findFirstOrThrow();
    const objects: [type: string, object: Record<string, unknown>][] = [
      ['refund.updated', { object: 'refund', status: 'succeeded', ...about }],
      ['charge.dispute.funds_withdrawn', { object: 'dispute', status: 'needs_response', ...about }],
      ['invoice_payment.attempt_required', { object: 'invoice_payment', invoice: invoice.id, ...about }],
    ];
    for (const [type, object] of objects) {
      const event = stripeEvent(type, { id: 'obj_1', ...object });
      expect((await deliver(world, event)).json(), type).toMatchObject({ status: 'ignored' });
    }
    expect(await world.db.event.count({ where: { payload: { contains: 'Ann Example' } } })).toBe(0);
  });

  test('leaves no name in stored disputes, refunds and payments, which name no customer', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await subscribe(world, ann);
    const [charge = ''] = world.sandbox.objects.charges.keys();
    await world.merchant.refunds.create({ charge, amount: 100 });
    world.sandbox.acts.openDispute(charge);
    await deliverWaiting(world);
    // A real dispute contains what the customer entered when paying.
    const { id, payload } = await world.db.event.findFirstOrThrow({
      where: { type: 'charge.dispute.created' },
    });
    const filled = payload?.replace('"evidence": {}', '"evidence": {"customer_name":"Ann Example"}');
    expect(filled).toContain('Ann Example');
    await world.db.event.update({ where: { id }, data: { payload: filled ?? null } });
    await deleteAccount(world, ann);
    expect(await world.db.event.count({ where: { payload: { contains: 'Ann Example' } } })).toBe(0);
    expect(await world.db.event.findMany({ where: { thinned: false }, select: { type: true } })).toEqual([]);
  });
});

test('an account with very many events is deleted, and all of them are thinned, in small transactions', async () => {
  const world = await startWorld();
  const ann = await signUp(world, 'ann@example.com');
  await subscribe(world, ann);
  await deliverWaiting(world);
  const { id: customerId } = await world.db.customer.findFirstOrThrow();
  const at = world.clock.now;
  await world.db.event.createMany({
    data: Array.from({ length: 1_100 }, (_, n) => ({
      id: `evt_${n}`,
      type: 'customer.updated',
      created: at,
      receivedAt: at,
      status: 'applied',
      payload: '{}',
      customerId,
    })),
  });
  const transactions = vi.spyOn(world.db, '$transaction');
  expect((await deleteAccount(world, ann)).statusCode).toBe(303);
  expect(await world.db.event.count({ where: { thinned: false } })).toBe(0);
  expect(transactions.mock.calls.length).toBeGreaterThan(1_100 / 50);
});

describe.runIf(inject('engine') === 'sqlite')('on SQLite', () => {
  test('the file holds no copy of the address of a deleted account', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann.of.the.far.islands@example.com');
    await world.db.user.update({ where: { id: ann.id }, data: { pendingEmail: ann.email } });
    expect((await deleteAccount(world, ann)).statusCode).toBe(303);
    await world.db.$queryRaw`PRAGMA wal_checkpoint(TRUNCATE)`;
    const file = await readFile(databasePath(world.databaseUrl));
    expect(file.includes('User')).toBe(true);
    expect(file.includes('far.islands')).toBe(false);
  });

  // A deletion thins the account's events in its transaction, and there can be very many events.
  test('finding the events about an account reads none about others', async () => {
    const { db } = await startWorld();
    const plan = await db.$queryRaw<{ detail: string }[]>`
      EXPLAIN QUERY PLAN ${eventsAbout('u', Prisma.sql`NOT e."thinned"`)}`;
    const details = plan.map(({ detail }) => detail);
    expect(details.filter((detail) => /SCAN (e|Event)\b/.test(detail))).toEqual([]);
    expect(details.join('\n')).toContain('Event_aboutId_idx');
  });
});
