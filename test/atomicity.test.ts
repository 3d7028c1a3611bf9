import { describe, expect, test } from 'vitest';

import { refuseWrites } from './support/other-connection.ts';
import {
  daysAfter,
  deliver,
  deliverAll,
  domainRows,
  signUp,
  startTestServer,
  userRow,
} from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

/**
 * Every write of a conversion: its kind, its table, the event that causes it, and the events delivered before. A row
 * that exists already is updated.
 */
const WRITES = [
  ['INSERT', 'Subscription', 'created', ['checkout']],
  ['UPDATE', 'Subscription', 'created', ['checkout', 'invoice']],
  ['UPDATE', 'User', 'created', ['checkout']],
  ['INSERT', 'CreditEntry', 'created', ['checkout']],
  ['INSERT', 'AuditRow', 'created', ['checkout']],
  ['UPDATE', 'Referral', 'created', ['checkout']],
  ['UPDATE OF "creditUntil"', 'User', 'created', ['checkout']],
  ['INSERT', 'Invoice', 'invoice', []],
  ['INSERT', 'Customer', 'invoice', []],
  ['UPDATE', 'Customer', 'checkout', ['created']],
] as const;

describe('when a single write fails (design: rules 1 and 10)', () => {
  test.each(WRITES)(
    '%s of %s: 5xx, nothing is left but the failed event, and the redelivery applies everything',
    async (...args) => {
      const [write, table, failing, heard] = args;
      const server = await startTestServer();
      const referrer = await signUp(server, 'referrer@example.com');
      const friend = await signUp(server, 'friend@example.com', referrer.code);
      const stripe = buyer(friend.id);
      const events = {
        checkout: stripe.checkoutCompleted(),
        created: stripe.created(),
        invoice: stripe.invoicePaid(),
      };
      await deliverAll(
        server,
        heard.map((name) => events[name]),
      );
      const before = await domainRows(server);
      const event = events[failing];

      const refusal = await refuseWrites(server, write, table);
      const answer = await deliver(server, event);
      expect(answer.statusCode).toBe(500);
      expect(await domainRows(server)).toEqual(before);
      const failed = await server.db.event.findUnique({ where: { id: event.id } });
      expect(failed).toMatchObject({ status: 'failed', payload: JSON.stringify(event) });
      expect(failed?.error).toMatch(/^PrismaClientKnownRequestError: \w+/);

      await refusal.lift();
      await deliverAll(server, [event]);
      expect(await server.db.event.findUnique({ where: { id: event.id } })).toMatchObject({
        status: 'applied',
        error: null,
      });
      expect((await deliver(server, event)).json()).toEqual({ status: 'duplicate' });

      for (const other of Object.values(events)) await deliver(server, other);
      expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
      expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
    },
  );

  test.each([1, 2, 3])(
    'ledger entry number %i of the conversion fails: everything is rolled back, and the redelivery applies everything',
    async (nth) => {
      const server = await startTestServer();
      const referrer = await signUp(server, 'referrer@example.com');
      const friend = await signUp(server, 'friend@example.com', referrer.code);
      const stripe = buyer(friend.id);
      await deliverAll(server, [stripe.checkoutCompleted()]);
      const before = await domainRows(server);

      const earlier = '(SELECT count(*) FROM "CreditEntry")';
      const refusal = await refuseWrites(server, 'INSERT', 'CreditEntry', `${earlier} = ${nth - 1}`);
      const event = stripe.created();
      expect((await deliver(server, event)).statusCode).toBe(500);
      expect(await domainRows(server)).toEqual(before);

      await refusal.lift();
      await deliverAll(server, [event]);
      expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
      expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
    },
  );

  test('an event whose claim fails is answered 5xx, and applied when it is sent again', async () => {
    const server = await startTestServer();
    const friend = await signUp(server, 'friend@example.com');
    const stripe = buyer(friend.id);
    const checkout = stripe.checkoutCompleted();
    const refusal = await refuseWrites(server, 'INSERT', 'Event');
    expect((await deliver(server, checkout)).statusCode).toBe(500);
    await refusal.lift();
    await deliverAll(server, [checkout, stripe.created()]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
  });

  test('recording a failure late does not overwrite an event that was applied in the meantime', async () => {
    const server = await startTestServer();
    const friend = await signUp(server, 'friend@example.com');
    const event = buyer(friend.id).checkoutCompleted();
    await deliverAll(server, [event]);
    const { recordFailure } = await import('../src/stripe/event-ledger.ts');
    const { readEvent } = await import('../src/stripe/objects/event.ts');
    const read = readEvent(event, server.clock.now);
    if (!read) throw new Error('unreadable');
    await recordFailure(server.db, read, '{}', 'too late', server.clock.now);
    expect(await server.db.event.findUnique({ where: { id: event.id } })).toMatchObject({
      status: 'applied',
      error: null,
    });
  });
});
