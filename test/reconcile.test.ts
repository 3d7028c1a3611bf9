import type { Stripe } from 'stripe';
import { describe, expect, inject, onTestFinished, test, vi } from 'vitest';

import type { CommandResult } from '../src/operator/command.ts';
import { reconcile as runCommand } from '../src/operator/reconcile.ts';
import type { ReconcileReport } from '../src/stripe/reconcile/report.ts';
import { commandContext } from './support/command-context.ts';
import { expectSound } from './support/findings.ts';
import { invitedFriend } from './support/invited-friend.ts';
import { refuseWrites } from './support/other-connection.ts';
import { clientOf, DAY, daysAfter, deleteAccount, newDatabase, signUp, userRow } from './support/server.ts';
import { noteConnections } from './support/sqlite-connections.ts';
import {
  deliverWaiting,
  dropWaiting,
  passTime,
  paymentOf,
  pressUpgrade,
  reconcileWorld,
  sessionIdOf,
  startWorld,
  subscribe,
} from './support/stand-in.ts';
import type { World } from './support/stand-in.ts';

const HOUR = 3600;

/** Runs reconcile at the world's clock and checks the rows afterwards. */
async function reconcile(
  world: World,
  { seconds = null, dryRun = false }: { seconds?: number | null; dryRun?: boolean } = {},
): Promise<ReconcileReport> {
  const report = await reconcileWorld(world, seconds, dryRun);
  await expectSound(world);
  return report;
}

/** The command's function itself, for tests of what it prints or throws. */
function command(world: World): Promise<CommandResult> {
  const { config, stripe } = world;
  return runCommand({ ...commandContext(world), config, stripe }, null, false);
}

describe('a server that was down', () => {
  test('for a week catches up with Stripe, and a second run finds nothing', async () => {
    const world = await startWorld({ STRIPE_TRIAL_DAYS: '3' });
    const { referrer, friend } = await invitedFriend(world);
    const cancels = await signUp(world, 'cancels@example.com', referrer.code);
    const refunded = await signUp(world, 'refunded@example.com', referrer.code);
    // Before the outage: one user is paid and will cancel, one starts a trial, one has paid and will be refunded.
    const old = await subscribe(world, cancels);
    await passTime(world, 4 * DAY);
    await deliverWaiting(world);
    expect(await userRow(world, cancels.id)).toMatchObject({ tier: 'paid' });

    // During the week nothing is delivered.
    const money = await subscribe(world, refunded);
    await subscribe(world, friend);
    await passTime(world, 3 * DAY + 2 * HOUR);
    await world.merchant.refunds.create({ payment_intent: paymentOf(world, money, 1) });
    await world.merchant.subscriptions.cancel(old);
    await passTime(world, 4 * DAY);
    dropWaiting(world);
    expect(await userRow(world, friend.id)).toMatchObject({ tier: 'free' });

    const dry = await reconcile(world, { dryRun: true });
    expect(dry.differences.every(({ fixed }) => !fixed)).toBe(true);
    expect(dry.differences.length).toBeGreaterThan(5);
    expect(await userRow(world, friend.id)).toMatchObject({ tier: 'free' });

    const report = await reconcile(world);
    expect(report.events.missing).toBeGreaterThan(5);
    expect(report.differences.every(({ fixed }) => fixed)).toBe(true);
    expect(await userRow(world, friend.id)).toMatchObject({ tier: 'paid' });
    expect(await userRow(world, cancels.id)).toMatchObject({ tier: 'free' });
    const referrals = await world.db.referral.findMany({ orderBy: { createdAt: 'asc' } });
    expect(referrals.map(({ reversedAt }) => reversedAt !== null).sort()).toEqual([false, false, true]);
    expect(referrals.every(({ convertedAt }) => convertedAt !== null)).toBe(true);

    expect(await reconcile(world)).toMatchObject({ events: { missing: 0 }, differences: [] });
  });

  test('for longer than Stripe lists events is repaired from the objects', async () => {
    const world = await startWorld();
    const { referrer, friend } = await invitedFriend(world);
    const gone = await signUp(world, 'gone@example.com', referrer.code);
    await subscribe(world, friend);
    const back = await subscribe(world, gone);
    await world.merchant.refunds.create({ payment_intent: paymentOf(world, back) });
    await world.merchant.subscriptions.cancel(back);
    await passTime(world, 70 * DAY);
    dropWaiting(world);
    const report = await reconcile(world);
    expect(new Set(report.differences.map(({ object }) => object))).toEqual(
      new Set(['event', 'subscription', 'invoice', 'payment']),
    );
    expect(await userRow(world, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(115) });
    expect(await userRow(world, gone.id)).toMatchObject({ tier: 'free', creditUntil: daysAfter(70) });
    expect(await world.db.referral.count({ where: { reversedAt: null } })).toBe(1);
    expect(await reconcile(world)).toMatchObject({ events: { missing: 0 }, differences: [] });
  });

  test('reconcile finds a lost dispute, and one that was won afterwards', async () => {
    const world = await startWorld();
    const { friend } = await invitedFriend(world);
    // A yearly plan: the money of a renewal in between would hold by itself.
    const session = sessionIdOf(await pressUpgrade(world, friend, 'annual'));
    const { subscription } = world.sandbox.acts.pay(session);
    await deliverWaiting(world);
    const dispute = world.sandbox.acts.openDispute(paymentOf(world, subscription ?? ''));
    await passTime(world, 40 * DAY);
    world.sandbox.acts.closeDispute(dispute, 'lost');
    await passTime(world, 40 * DAY);
    dropWaiting(world);
    await reconcile(world);
    const reversed = () =>
      world.db.referral
        .findUniqueOrThrow({ where: { referredId: friend.id } })
        .then(({ reversedAt }) => reversedAt !== null);
    expect(await reversed()).toBe(true);
    world.sandbox.acts.closeDispute(dispute, 'won');
    await passTime(world, 40 * DAY);
    dropWaiting(world);
    await reconcile(world);
    expect(await reversed()).toBe(false);
  });

  test('reconcile finds a refund that failed', async () => {
    const world = await startWorld();
    const { friend } = await invitedFriend(world);
    const subscription = await subscribe(world, friend);
    const refund = await world.merchant.refunds.create({ payment_intent: paymentOf(world, subscription) });
    await deliverWaiting(world);
    expect(await world.db.referral.count({ where: { reversedAt: { not: null } } })).toBe(1);
    world.sandbox.acts.failRefund(refund.id);
    await passTime(world, 40 * DAY);
    dropWaiting(world);
    await reconcile(world);
    expect(await world.db.referral.count({ where: { reversedAt: { not: null } } })).toBe(0);
  });

  test('reconcile reports a payment that was refunded in two parts once', async () => {
    const world = await startWorld();
    const { friend } = await invitedFriend(world);
    const payment = paymentOf(world, await subscribe(world, friend));
    await deliverWaiting(world);
    await world.merchant.refunds.create({ payment_intent: payment, amount: 1 });
    await world.merchant.refunds.create({ payment_intent: payment });
    await passTime(world, 40 * DAY);
    dropWaiting(world);
    const refunds = async (dryRun: boolean) =>
      (await reconcile(world, { dryRun })).differences.filter(({ field }) => field === 'refunded in full');
    expect(await refunds(true)).toMatchObject([{ id: payment, fixed: false }]);
    expect(await refunds(false)).toMatchObject([{ id: payment, fixed: true }]);
  });

  test('reconcile learns from the checkout whose customer it is', async () => {
    const world = await startWorld();
    const { friend } = await invitedFriend(world);
    await subscribe(world, friend);
    await passTime(world, 40 * DAY);
    dropWaiting(world);
    await world.db.customer.updateMany({ data: { userId: null } });
    await reconcile(world);
    expect(await userRow(world, friend.id)).toMatchObject({ tier: 'paid' });
    expect(await world.db.referral.count({ where: { convertedAt: { not: null } } })).toBe(1);
  });
});

describe('reconcile', () => {
  test("the progress bar changes none of the terminal's modes, so Ctrl-C leaves the terminal as it was", async () => {
    const world = await startWorld();
    const { stderr } = process;
    const isTTY = stderr.isTTY;
    const written: string[] = [];
    vi.spyOn(stderr, 'write').mockImplementation((chunk) => written.push(String(chunk)) > 0);
    onTestFinished(() => {
      stderr.isTTY = isTTY;
      vi.restoreAllMocks();
    });
    stderr.isTTY = true;
    await command(world);
    expect(written.join('')).toContain('Asking Stripe');
    // oxlint-disable-next-line no-control-regex
    expect(written.join('')).not.toMatch(/\u001B\[\?/);
  });

  test('handles a failed event again', async () => {
    const world = await startWorld();
    const { friend } = await invitedFriend(world);
    await subscribe(world, friend);
    await deliverWaiting(world);
    await world.db.event.updateMany({
      where: { type: 'customer.updated' },
      data: { status: 'failed', error: 'a bug', reason: null },
    });
    await world.db.event.updateMany({
      where: { type: 'invoice.paid' },
      data: { status: 'failed', error: 'a bug' },
    });
    const report = await reconcile(world);
    expect(report.differences).toMatchObject([{ object: 'event', field: 'invoice.paid', fixed: true }]);
    expect(await world.db.event.count({ where: { status: 'failed' } })).toBe(0);
  });

  test('reconcile names an event that fails again, and the next run retries it', async () => {
    const world = await startWorld();
    const { friend } = await invitedFriend(world);
    await subscribe(world, friend);
    dropWaiting(world);
    const refusal = await refuseWrites(world, 'INSERT', 'AuditRow');
    const first = await reconcileWorld(world);
    expect(first.events.failed).toBeGreaterThan(0);
    expect(first.differences.some(({ fixed }) => !fixed)).toBe(true);
    await refusal.lift();
    await reconcile(world);
    expect(await userRow(world, friend.id)).toMatchObject({ tier: 'paid' });
  });

  test('starts where the last complete run ended, unless --since asks for more', async () => {
    const world = await startWorld();
    const { friend } = await invitedFriend(world);
    await subscribe(world, friend);
    await passTime(world, 3 * DAY);
    dropWaiting(world);
    expect((await reconcile(world)).events.seen).toBeGreaterThan(0);
    expect((await reconcile(world)).events.seen).toBe(0);
    expect((await reconcile(world, { seconds: 7 * DAY })).events.seen).toBeGreaterThan(0);
  });

  test('with --since asks for the events of at most 30 days, which is all that Stripe lists', async () => {
    const world = await startWorld();
    const list = vi.spyOn(clientOf(world).events, 'list');
    const report = await reconcileWorld(world, 99_999 * DAY);
    const earliest = world.clock.now.getTime() - 30 * DAY * 1000;
    expect(report.since).toEqual(new Date(earliest));
    expect(list.mock.calls[0]?.[0]).toMatchObject({ created: { gte: earliest / 1000 } });
  });

  test.each([
    { sent: 100, asked: 4, requests: 'twice for each group of types while all events fit on one page' },
    { sent: 101, asked: 64, requests: 'for each day and group of types when there are more' },
  ])("reconcile asks for Stripe's events $requests", async ({ sent, asked }) => {
    const world = await startWorld();
    const { id } = await world.merchant.customers.create();
    await passTime(world, 20 * DAY);
    for (let count = 0; count < sent; count += 1) {
      await world.merchant.customers.update(id, { name: `Name ${count}` });
    }
    dropWaiting(world);
    const stripe = clientOf(world);
    const list = vi.spyOn(stripe.events, 'list');
    expect((await reconcileWorld(world)).events.missing).toBe(sent);
    expect(list).toHaveBeenCalledTimes(asked);
  });

  /** More subscriptions than fit on a page of Stripe's, none of them heard of. */
  async function manyUnheard() {
    const world = await startWorld();
    for (let count = 0; count < 130; count += 1) {
      const session = await world.merchant.checkout.sessions.create({
        mode: 'subscription',
        line_items: [{ price: 'price_a', quantity: 1 }],
        success_url: 'http://another-product.test/',
      });
      world.sandbox.acts.pay(session.id);
    }
    await passTime(world, 31 * DAY);
    dropWaiting(world);
    const stripe = clientOf(world);
    return { world, stripe };
  }

  async function interruptedRun(seconds: number | null) {
    const { world, stripe } = await manyUnheard();
    const list = stripe.subscriptions.list.bind(stripe.subscriptions);
    stripe.subscriptions.list = (query: Stripe.SubscriptionListParams) => {
      if (query.starting_after !== undefined) throw new Error('interrupted');
      return list(query);
    };
    await expect(reconcileWorld(world, seconds)).rejects.toThrow('interrupted');
    expect(await world.db.subscription.count({ where: { status: 'active' } })).toBe(100);
    const asked: Stripe.SubscriptionListParams[] = [];
    stripe.subscriptions.list = (query: Stripe.SubscriptionListParams) => {
      asked.push(query);
      return list(query);
    };
    return { world, asked };
  }

  test('resumes an interrupted list at the same page', async () => {
    const { world, asked } = await interruptedRun(null);
    await reconcile(world);
    expect(asked).toMatchObject([{ starting_after: expect.stringMatching(/^sub_/) as string }]);
    expect(await world.db.subscription.count({ where: { status: 'active' } })).toBe(130);
    await reconcile(world);
    expect(asked[1]?.starting_after).toBeUndefined();
  });

  test('compares everything after an interrupted run with --since, which lists other subscriptions', async () => {
    const { world, asked } = await interruptedRun(7 * DAY);
    await reconcile(world);
    expect(asked[0]?.starting_after).toBeUndefined();
    expect(await world.db.subscription.count({ where: { status: 'active' } })).toBe(130);
  });

  test('neither a full run nor one with --since resumes where the other one was interrupted', async () => {
    const { world, stripe } = await manyUnheard();
    const list = stripe.invoices.list.bind(stripe.invoices);
    stripe.invoices.list = (query: Stripe.InvoiceListParams) => {
      if (query.starting_after !== undefined) throw new Error('interrupted');
      return list(query);
    };
    await expect(reconcileWorld(world)).rejects.toThrow('interrupted');
    let asked: Stripe.InvoiceListParams[] = [];
    stripe.invoices.list = (query: Stripe.InvoiceListParams) => {
      asked.push(query);
      return list(query);
    };
    await reconcileWorld(world, 40 * DAY);
    expect(asked[0]?.starting_after).toBeUndefined();
    asked = [];
    await reconcileWorld(world);
    expect(asked[0]?.starting_after).toMatch(/^in_/);
  });

  test('starts from the newest when the object where it was interrupted no longer exists at Stripe', async () => {
    const { world, asked } = await interruptedRun(null);
    const { key, value } = await world.db.setting.findFirstOrThrow({
      where: { key: 'reconcile subscriptions' },
    });
    await world.db.setting.update({
      where: { key },
      data: { value: value.replace(/sub_\w+/, 'sub_deletedTestData') },
    });
    await reconcile(world);
    expect(asked.map(({ starting_after: after }) => after)).toEqual([
      'sub_deletedTestData',
      undefined,
      expect.stringMatching(/^sub_/) as string,
    ]);
    expect(await world.db.subscription.count({ where: { status: 'active' } })).toBe(130);
  });

  test('dates each fix by the clock of that moment, not by the start of the run', async () => {
    const world = await startWorld();
    const referrer = await signUp(world, 'referrer@example.com');
    const friends = [
      await signUp(world, 'first@example.com', referrer.code),
      await signUp(world, 'second@example.com', referrer.code),
    ];
    for (const friend of friends) await subscribe(world, friend);
    dropWaiting(world);
    const { db, config, stripe, clock } = world;
    // Each reading of the clock is an hour later, like a run that takes its time.
    const ticking = (): Date => (clock.now = new Date(clock.now.getTime() + HOUR * 1000));
    const context = { ...commandContext(world), config, stripe, clock: ticking };
    expect((await runCommand(context, null, false)).failed).toBe(false);
    const referrals = await db.referral.findMany({ orderBy: { convertedAt: 'asc' } });
    const [first, second] = referrals.map(({ convertedAt }) => convertedAt?.getTime() ?? 0);
    expect(first).toBeGreaterThan(context.now.getTime());
    expect(second).toBeGreaterThan(first ?? 0);
    expect(await userRow(world, referrer.id)).toMatchObject({ tier: 'free' });
  });

  test('with --since leaves alone what is older, except subscriptions that are not over', async () => {
    const world = await startWorld();
    const { friend, referrer } = await invitedFriend(world);
    const old = await subscribe(world, friend);
    await deliverWaiting(world);
    await passTime(world, 20 * DAY);
    const young = await subscribe(world, referrer);
    await deliverWaiting(world);
    await passTime(world, 2 * DAY);
    await world.db.invoice.updateMany({ data: { first: false } });
    await world.db.subscription.updateMany({ data: { priceId: 'another' } });
    const report = await reconcileWorld(world, 5 * DAY);
    const invoice = (subscription: string) =>
      world.db.invoice.findFirstOrThrow({ where: { subscriptionId: subscription } });
    expect(await invoice(old)).toMatchObject({ first: false });
    expect(await invoice(young)).toMatchObject({ first: true });
    expect(await world.db.subscription.count({ where: { priceId: 'another' } })).toBe(0);
    expect(report.since).toEqual(new Date(world.clock.now.getTime() - 5 * DAY * 1000));
    await reconcileWorld(world);
    expect(await invoice(old)).toMatchObject({ first: true });
  });

  test('reconcile --since finds an old subscription that ended, and one that started and ended meanwhile', async () => {
    const world = await startWorld();
    const old = await subscribe(world, await signUp(world, 'old@example.com'));
    await deliverWaiting(world);
    await passTime(world, 100 * DAY);
    await deliverWaiting(world);
    const young = await subscribe(world, await signUp(world, 'young@example.com'));
    for (const id of [old, young]) await world.merchant.subscriptions.cancel(id);
    await passTime(world, 35 * DAY);
    dropWaiting(world);
    // Stripe lists events for 30 days.
    (world.sandbox.objects.events as Map<string, unknown>).clear();
    await reconcile(world, { seconds: 40 * DAY });
    for (const id of [old, young]) {
      expect(await world.db.subscription.findUnique({ where: { id } })).toMatchObject({ status: 'canceled' });
    }
  });

  /** PostgreSQL sends the same statements by another path. */
  test.runIf(inject('engine') === 'sqlite')(
    'reconcile reads a page of objects in few statements',
    async () => {
      const connections = noteConnections();
      const world = await startWorld({ DATABASE_URL: await newDatabase() });
      const customers = inject('thorough') ? 90 : 30;
      for (let count = 0; count < customers; count += 1) {
        const session = await world.merchant.checkout.sessions.create({
          mode: 'subscription',
          line_items: [{ price: 'price_a', quantity: 1 }],
          success_url: 'http://another-product.test/',
        });
        world.sandbox.acts.pay(session.id);
      }
      await deliverWaiting(world);
      expect((await reconcileWorld(world)).differences).toEqual([]);
      const queries = (await connections()).map((connection) => vi.spyOn(connection, 'queryRaw'));
      const report = await reconcileWorld(world);
      expect(report).toMatchObject({ differences: [], compared: 4 * customers });
      const count = queries.flatMap(({ mock }) => mock.calls).length;
      expect(count).toBeGreaterThan(5);
      expect(count).toBeLessThan(60);
    },
  );

  test('leaves objects of a test clock alone', async () => {
    const world = await startWorld();
    const customer = await world.merchant.customers.create({ test_clock: 'clock_1' });
    const session = await world.merchant.checkout.sessions.create({
      mode: 'subscription',
      customer: customer.id,
      line_items: [{ price: 'price_m', quantity: 1 }],
      success_url: 'http://tandem.test/',
    });
    world.sandbox.acts.pay(session.id);
    dropWaiting(world);
    await reconcile(world);
    expect(await world.db.subscription.count()).toBe(0);
  });

  test('a fetched snapshot does not overwrite what a webhook brought meanwhile', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const subscription = await subscribe(world, ann);
    await deliverWaiting(world);
    await world.db.subscription.update({ where: { id: subscription }, data: { status: 'past_due' } });
    // Another event arrives between the list and the repair: here, right after Stripe has answered.
    const stripe = clientOf(world);
    const list = stripe.subscriptions.list.bind(stripe.subscriptions);
    let once = true;
    stripe.subscriptions.list = ((...args: Parameters<typeof list>) =>
      list(...args).then(async (page) => {
        if (once) {
          once = false;
          await world.merchant.subscriptions.cancel(subscription);
          await deliverWaiting(world);
        }
        return page;
      })) as unknown as typeof list;
    await reconcile(world);
    expect(await world.db.subscription.findUniqueOrThrow({ where: { id: subscription } })).toMatchObject({
      status: 'canceled',
    });
  });

  test('a customer who is deleted after a first payment that never came is fixed once', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await subscribe(world, ann, { outcome: 'incomplete' });
    await passTime(world, 2 * DAY);
    const [customer = ''] = world.sandbox.objects.customers.keys();
    await world.merchant.customers.del(customer);
    await reconcile(world);
    expect((await reconcile(world)).differences).toEqual([]);
  });

  test('reconcile never asks Stripe while a transaction is open', async () => {
    const world = await startWorld();
    const { friend } = await invitedFriend(world);
    let open = 0;
    let asked = 0;
    const transaction = world.db.$transaction.bind(world.db) as (...args: unknown[]) => Promise<unknown>;
    vi.spyOn(world.db, '$transaction').mockImplementation(async (...args: unknown[]) => {
      open += 1;
      return transaction(...args).finally(() => {
        open -= 1;
      });
    });
    const stripe = world.stripe as unknown as { on: (name: 'request', listener: () => void) => void };
    let askedWhileOpen = 0;
    stripe.on('request', () => {
      asked += 1;
      if (open > 0) askedWhileOpen += 1;
    });
    await subscribe(world, friend);
    await pressUpgrade(world, friend, 'annual');
    dropWaiting(world);
    await reconcile(world);
    await deleteAccount(world, friend);
    expect(asked).toBeGreaterThan(10);
    expect(askedWhileOpen).toBe(0);
  });

  test('reconcile without a key says so', async () => {
    const world = await startWorld();
    await expect(command({ ...world, stripe: null })).rejects.toThrow('STRIPE_API_KEY is not set');
  });

  test('says so when Stripe does not answer, and keeps what was done', async () => {
    const world = await startWorld();
    const { friend } = await invitedFriend(world);
    const subscription = await subscribe(world, friend);
    await passTime(world, 3 * DAY);
    dropWaiting(world);
    const stripe = clientOf(world);
    // Stripe goes down between the subscriptions and the invoices.
    const list = stripe.invoices.list.bind(stripe.invoices);
    stripe.invoices.list = ((query?: Stripe.InvoiceListParams) =>
      world.sandbox.close().then(() => list(query))) as unknown as typeof list;
    await expect(command(world)).rejects.toThrow('Asking Stripe failed');
    expect(await world.db.subscription.findUnique({ where: { id: subscription } })).toMatchObject({
      status: 'active',
    });
    expect(await userRow(world, friend.id)).toMatchObject({ tier: 'paid' });
    expect(await world.db.referral.count({ where: { convertedAt: { not: null } } })).toBe(1);
  });
});
