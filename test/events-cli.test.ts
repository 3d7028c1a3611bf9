import { describe, expect, inject, test } from 'vitest';

import { doctor } from '../src/operator/doctor.ts';
import { events } from '../src/operator/events.ts';
import { replay } from '../src/operator/replay.ts';
import { createStripe } from '../src/stripe/client.ts';
import { cli } from './support/cli.ts';
import { commandContext } from './support/command-context.ts';
import { invitedFriend } from './support/invited-friend.ts';
import { impatient, keepBusy, otherConnection, refuseWrites } from './support/other-connection.ts';
import { daysAfter, deliver, deliverAll, signUp, START, startTestServer, userRow } from './support/server.ts';
import { startStripeApi } from './support/stripe-api.ts';
import { buyer, stripeEvent } from './support/stripe-events.ts';

/** A friend whose purchase failed while it was handled; the cause can be removed. */
async function failedPurchase() {
  const server = await startTestServer();
  const people = await invitedFriend(server);
  const { stripe } = people;
  await deliverAll(server, [stripe.checkoutCompleted()]);
  const refusal = await refuseWrites(server, 'INSERT', 'CreditEntry');
  const event = stripe.created();
  expect((await deliver(server, event)).statusCode).toBe(500);
  return { server, ...people, event, ...refusal };
}

describe('events', () => {
  test('events lists the newest first with their outcomes, without payloads', async () => {
    const server = await startTestServer();
    const friend = await signUp(server, 'friend@example.com');
    const stripe = buyer(friend.id);
    const checkout = stripe.checkoutCompleted();
    const other = stripeEvent('product.created', { id: 'prod_1' }, { at: daysAfter(1) });
    await deliverAll(server, [checkout]);
    server.clock.now = daysAfter(1);
    await deliver(server, other);

    const { text, json } = await events(commandContext(server), false);
    expect(json).toEqual([
      {
        id: other.id,
        type: 'product.created',
        created: daysAfter(1),
        receivedAt: daysAfter(1),
        status: 'ignored',
        reason: 'events of the type product.created are not used',
        error: null,
      },
      {
        id: checkout.id,
        type: 'checkout.session.completed',
        created: START,
        receivedAt: START,
        status: 'applied',
        reason: null,
        error: null,
      },
    ]);
    expect(text.split('\n')).toEqual([
      `2027-01-11T09:00:00Z  ignored  product.created  ${other.id}  events of the type product.created are not used`,
      `2027-01-10T09:00:00Z  applied  checkout.session.completed  ${checkout.id}`,
    ]);
  });

  test('events lists at most 100, and with --failed all failed ones, oldest first', async () => {
    const server = await startTestServer();
    const row = (n: number) => ({
      id: `evt_${String(n).padStart(3, '0')}`,
      type: 'invoice.paid',
      created: START,
      receivedAt: daysAfter(n),
      payload: '{"email": "secret@example.com"}',
    });
    await server.db.event.createMany({
      data: Array.from({ length: 150 }, (_, n) => ({ ...row(n), status: 'failed', error: `Error: ${n}` })),
    });
    await server.db.event.create({ data: { ...row(150), status: 'applied' } });

    const newest = (await events(commandContext(server), false)).json as { id: string }[];
    expect(newest).toHaveLength(100);
    expect(newest[0]?.id).toBe('evt_150');
    expect(newest[99]?.id).toBe('evt_051');
    const failed = await events(commandContext(server), true);
    expect(failed.json).toHaveLength(150);
    const [first] = failed.text.split('\n');
    expect(first).toBe('2027-01-10T09:00:00Z  failed   invoice.paid  evt_000  Error: 0');
    expect(JSON.stringify(failed)).not.toContain('secret');
  });

  test('events says when there are none', async () => {
    const server = await startTestServer();
    expect(await events(commandContext(server), false)).toEqual({
      text: 'No event has arrived yet.',
      json: [],
    });
    expect(await events(commandContext(server), true)).toEqual({ text: 'No event has failed.', json: [] });
  });
});

describe('replay', () => {
  test('replay of a failed event does everything it should have done, once', async () => {
    const { server, referrer, friend, event, lift } = await failedPurchase();
    await lift();
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free' });

    server.clock.now = daysAfter(2);
    expect(await replay(commandContext(server), event.id)).toEqual({
      text: `${event.id} was applied.`,
      json: { id: event.id, status: 'ok' },
    });
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(47) });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(47) });
    const kept = await server.db.event.findUnique({ where: { id: event.id } });
    expect(kept).toMatchObject({ status: 'applied', error: null });

    expect(await replay(commandContext(server), event.id)).toEqual({
      text: `${event.id} was already applied or ignored, so nothing changed.`,
      json: { id: event.id, status: 'duplicate' },
    });
    expect((await deliver(server, event)).json()).toEqual({ status: 'duplicate' });
    // Also when the payload has been thinned.
    await server.db.event.update({ where: { id: event.id }, data: { payload: '{}', thinned: true } });
    expect((await replay(commandContext(server), event.id)).json).toMatchObject({ status: 'duplicate' });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(47) });
  });

  test('replay of an event that fails again says why on one line, and the event stays failed', async () => {
    const { server, friend, event, lift } = await failedPurchase();
    const failing = replay(commandContext(server), event.id);
    await expect(failing).rejects.toThrow(
      /^The event \S+ failed again: PrismaClientKnownRequestError: [^\n]+$/,
    );
    await expect(failing).rejects.toMatchObject({ name: 'PlainError' });
    expect(await server.db.event.findUnique({ where: { id: event.id } })).toMatchObject({ status: 'failed' });
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free' });
    await lift();
  });

  test('replay of an event that changes nothing says why', async () => {
    const server = await startTestServer();
    const unused = stripeEvent('product.created', { id: 'prod_1' });
    await server.db.event.create({
      data: {
        id: unused.id,
        type: unused.type,
        created: START,
        receivedAt: START,
        status: 'failed',
        error: 'Error: once',
        payload: JSON.stringify(unused),
      },
    });
    expect(await replay(commandContext(server), unused.id)).toEqual({
      text: `${unused.id} was ignored: events of the type product.created are not used.`,
      json: {
        id: unused.id,
        status: 'ignored',
        reason: 'events of the type product.created are not used',
      },
    });
  });

  test('replay of an event without `created` counts from its first receipt, not from now', async () => {
    const { server, stripe, event, lift } = await failedPurchase();
    const { created, ...dateless } = event;
    expect(created).toBeGreaterThan(0);
    await server.db.event.update({ where: { id: event.id }, data: { payload: JSON.stringify(dateless) } });
    await lift();
    server.clock.now = daysAfter(2);
    await replay(commandContext(server), event.id);
    expect(await server.db.subscription.findUnique({ where: { id: stripe.subscription } })).toMatchObject({
      snapshotAt: START,
    });
  });

  test('replay asks Stripe when only Stripe can tell which of two snapshots is current', async () => {
    const { server, stripe, event, lift } = await failedPurchase();
    await lift();
    const { env } = await startStripeApi(() => ({
      body: stripe.subscriptionObject({ cancel_at_period_end: true }),
    }));
    const at = daysAfter(1);
    const tie = [
      stripe.updated({ cancel_at_period_end: true }, { at, previous: { cancel_at_period_end: false } }),
      stripe.updated({ cancel_at_period_end: false }, { at, previous: { cancel_at_period_end: true } }),
    ];
    await deliverAll(server, [event, ...tie.slice(0, 1)]);
    const second = tie[1] ?? event;
    await server.db.event.create({
      data: {
        id: second.id,
        type: second.type,
        created: at,
        receivedAt: at,
        status: 'failed',
        error: 'Error: once',
        payload: JSON.stringify(second),
      },
    });
    const context = commandContext(server, env);
    await replay({ ...context, stripe: createStripe(context.config.stripe) }, second.id);
    expect(await server.db.subscription.findUnique({ where: { id: stripe.subscription } })).toMatchObject({
      cancelAtPeriodEnd: true,
      needsReconcile: false,
      snapshotEventId: null,
    });
  });

  test('of an event that is not stored completely says so', async () => {
    const { server, event, lift } = await failedPurchase();
    await lift();
    for (const payload of [null, '{}']) {
      await server.db.event.update({ where: { id: event.id }, data: { payload } });
      await expect(replay(commandContext(server), event.id)).rejects.toThrow(
        `The event ${event.id} cannot be handled again, because its stored payload is missing or incomplete. Resend it from Stripe.`,
      );
    }
  });
});

describe('on the command line', () => {
  test('events, replay and doctor print one JSON document and exit 0', async () => {
    const { server, friend, event, lift } = await failedPurchase();
    await lift();
    const failed = await cli(server, 'events', '--failed', '--json');
    expect(failed).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(failed.stdout)).toMatchObject([{ id: event.id, status: 'failed' }]);
    const replayed = await cli(server, 'replay', event.id, '--json');
    expect(replayed).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(replayed.stdout)).toEqual({ id: event.id, status: 'ok' });
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
    const healthy = await cli(server, 'doctor');
    expect(healthy).toMatchObject({ code: 0, stderr: '' });
    expect(healthy.stdout).toMatch(/^All \d+ invariants hold\.\n$/);
  });

  test('doctor with a finding prints it on stdout and exits 1', async () => {
    const { server, friend, lift } = await failedPurchase();
    await lift();
    const { run } = await otherConnection(server);
    await run(`UPDATE "User" SET "tier" = 'trial' WHERE "id" = '${friend.id}'`);
    const inWords = await cli(server, 'doctor');
    expect(inWords).toMatchObject({ code: 1, stderr: '' });
    expect(inWords.stdout).toBe(`${(await doctor(commandContext(server))).text}\n`);
    const asJson = await cli(server, 'doctor', '--json');
    expect(asJson).toMatchObject({ code: 1, stderr: '' });
    expect(JSON.parse(asJson.stdout)).toMatchObject({
      findings: [{ check: 'tier', row: `User ${friend.id}` }],
    });
  });

  test('explain and prune work from the command line', async () => {
    const { server, lift } = await failedPurchase();
    await lift();
    const explained = await cli(server, 'explain', 'friend@example.com', '--json');
    expect(explained).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(explained.stdout)).toMatchObject({ email: 'friend@example.com', invited: [] });
    const pruned = await cli(server, 'prune', '--json');
    expect(pruned).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(pruned.stdout)).toEqual({
      events: 0,
      sessions: 0,
      resetLinks: 0,
      outboxItems: 0,
      writeAheadLogEmptied: true,
    });
  });

  test('an unknown event prints one line and exits 1', async () => {
    const server = await startTestServer();
    expect(await cli(server, 'replay', 'evt_none')).toEqual({
      code: 1,
      stdout: '',
      stderr: 'No event has the id evt_none. `reconcile` fetches what never arrived from Stripe.\n',
    });
  });

  test('replaying an event that fails again prints one line and exits 1', async () => {
    const { server, event, lift } = await failedPurchase();
    const { code, stdout, stderr } = await cli(server, 'replay', event.id);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^The event \S+ failed again: PrismaClientKnownRequestError: .+\n$/);
    await lift();
  });

  // On SQLite a command waits 30 s for the lock.
  test.runIf(inject('thorough'))(
    'a command that finds the database busy for too long exits 1 and says to try again',
    { timeout: 120_000 },
    async () => {
      const { server, friend, event, lift } = await failedPurchase();
      await lift();
      const writer = await keepBusy(server);
      expect(await cli({ databaseUrl: impatient(server.databaseUrl) }, 'replay', event.id)).toEqual({
        code: 1,
        stdout: '',
        stderr: 'The database is busy. Try again.\n',
      });
      await writer.lift();
      expect(await server.db.event.findUnique({ where: { id: event.id } })).toMatchObject({
        status: 'failed',
      });
      expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free' });
    },
  );

  test.each([
    ['replay without an event', ['replay']],
    ['one address too many', ['doctor', 'ann@example.com']],
    ['an unknown option of events', ['events', '--applied']],
    ['explain without an address', ['explain']],
    ['prune with an argument', ['prune', 'everything']],
  ])('%s is wrong usage', async (_name, args) => {
    const { code, stdout, stderr } = await cli(await startTestServer(), ...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^Usage: tandem/m);
  });
});
