import { Stripe } from 'stripe';
import { describe, expect, test, vi } from 'vitest';

import { explain } from '../src/operator/explain.ts';
import type { AccountStory } from '../src/operator/explain.ts';
import { grantCredit } from '../src/operator/grant-credit.ts';
import { relink } from '../src/operator/relink.ts';
import { cli } from './support/cli.ts';
import { commandContext } from './support/command-context.ts';
import { expectSound, findings } from './support/findings.ts';
import { startMailServer } from './support/mail-server.ts';
import { MAIL, outbox } from './support/mail.ts';
import { mailEnv, startTestSender } from './support/sender.ts';
import {
  clientOf,
  DAY,
  daysAfter,
  deleteAccount,
  deliver,
  deliverAll,
  domainRows,
  referralOf,
  signUp,
  START,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import {
  deliverWaiting,
  letBankDecide,
  openSessions,
  pressUpgrade,
  sessionIdOf,
  startWorld,
  subscribe,
} from './support/stand-in.ts';
import { buyer, epoch } from './support/stripe-events.ts';
import type { Buyer } from './support/stripe-events.ts';

/** Moves the customer at the instant of the server's clock, and checks that every invariant holds afterwards. */
async function move(server: TestServer, { customer }: Pick<Buyer, 'customer'>, to: Pick<Person, 'id'>) {
  const context = { ...commandContext(server, MAIL), stripe: server.stripe };
  const result = await relink(context, customer, to.id, 'wrong account');
  await expectSound(server);
  return result;
}

/** Pays for a first month today. */
async function pays(server: TestServer, stripe: Buyer): Promise<void> {
  const at = server.clock.now;
  await deliverAll(server, [
    stripe.checkoutCompleted({}, { at }),
    stripe.created({ created: epoch(at) }, { at }),
    stripe.invoicePaid({}, { at }),
    stripe.invoicePaymentPaid({}, { at }),
  ]);
}

/** Ann and Ben were invited by the same friend. Ann's account has the customer who pays, which is really Ben's. */
async function wrongAccount(env: NodeJS.ProcessEnv = MAIL) {
  const server = await startTestServer(env);
  const friend = await signUp(server, 'friend@example.com');
  const ann = await signUp(server, 'ann@example.com', friend.code);
  const ben = await signUp(server, 'ben@example.com', friend.code);
  const stripe = buyer(ann.id);
  await pays(server, stripe);
  return { server, friend, ann, ben, stripe };
}

function at(server: TestServer, day: number): void {
  server.clock.now = daysAfter(day);
}

describe('relink moves everything that the customer gave', () => {
  test('relink reverses the conversion of the account that loses the customer, and converts the other one', async () => {
    const { server, friend, ann, ben, stripe } = await wrongAccount();
    at(server, 10);
    await move(server, stripe, ben);

    // Ann's 45 days had been held since she paid; nothing of them was spent.
    expect(await userRow(server, ann.id)).toMatchObject({
      tier: 'free',
      creditHeldAt: null,
      creditUntil: daysAfter(10),
    });
    expect(await userRow(server, ben.id)).toMatchObject({
      tier: 'paid',
      creditHeldAt: daysAfter(10),
      creditUntil: daysAfter(55),
    });
    expect(await referralOf(server, ann)).toMatchObject({ convertedAt: START, reversedAt: daysAfter(10) });
    expect(await referralOf(server, ben)).toMatchObject({ convertedAt: daysAfter(10), reversedAt: null });
    // The friend has spent ten days of the ones that Ann brought, and has those that Ben brings.
    expect(await userRow(server, friend.id)).toMatchObject({ creditUntil: daysAfter(55) });
    expect(await server.db.customer.findUnique({ where: { id: stripe.customer } })).toMatchObject({
      userId: ben.id,
      linkedAt: daysAfter(10),
    });
  });

  test('relink is in the audit of both accounts, with the note and what followed', async () => {
    const { server, ann, ben, stripe } = await wrongAccount();
    at(server, 10);
    await move(server, stripe, ben);
    const since = (person: Person) =>
      server.db.auditRow.findMany({ where: { userId: person.id, at: daysAfter(10), actor: 'operator' } });
    const note = 'wrong account';
    const lost = await since(ann);
    expect(lost).toHaveLength(3);
    expect(lost).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ kind: 'unlink', customerId: stripe.customer, otherUserId: ben.id, note }),
        expect.objectContaining({ kind: 'tier', fromTier: 'paid', toTier: 'free', note }),
        expect.objectContaining({ kind: 'credit', seconds: -45 * DAY, note }),
      ]),
    );
    const got = await since(ben);
    expect(got).toHaveLength(2);
    expect(got).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ kind: 'link', customerId: stripe.customer, otherUserId: ann.id, note }),
        expect.objectContaining({ kind: 'tier', fromTier: 'free', toTier: 'paid', note }),
      ]),
    );
    expect(new Set([...lost, ...got].map(({ causeId }) => causeId)).size).toBe(1);
  });

  test('explain says that credit is held and runs because the customer was moved', async () => {
    const { server, ann, ben, stripe } = await wrongAccount();
    at(server, 10);
    await move(server, stripe, ben);
    const lost = await cli(server, 'explain', ann.id);
    expect(lost.stdout).toContain('runs again because their customer was moved to another account');
    const got = await cli(server, 'explain', ben.id);
    expect(got.stdout).toContain('held because a paying customer was moved to this account');
  });

  test('relink back returns exactly what the first move took', async () => {
    const { server, friend, ann, ben, stripe } = await wrongAccount();
    at(server, 10);
    await move(server, stripe, ben);
    at(server, 20);
    await move(server, stripe, ann);
    expect(await userRow(server, ann.id)).toMatchObject({
      tier: 'paid',
      creditHeldAt: daysAfter(20),
      creditUntil: daysAfter(65),
    });
    expect(await userRow(server, ben.id)).toMatchObject({ tier: 'free', creditUntil: daysAfter(20) });
    expect(await referralOf(server, ann)).toMatchObject({ reversedAt: null });
    expect(await referralOf(server, ben)).toMatchObject({ reversedAt: daysAfter(20) });
    // Of Ann's 45 the friend spent ten, and of Ben's 45 ten more.
    expect(await userRow(server, friend.id)).toMatchObject({ creditUntil: daysAfter(55) });
  });

  test('an account that still has a subscription of its own stays paid and converted', async () => {
    const { server, ann, ben, stripe } = await wrongAccount();
    const own = buyer(ann.id);
    at(server, 5);
    await deliverAll(server, [own.checkoutCompleted(), own.created({ status: 'canceled' }, { at: START })]);
    const third = buyer(ann.id);
    await pays(server, third);
    at(server, 10);
    await relink(commandContext(server), stripe.customer, ben.id, undefined);
    expect(await userRow(server, ann.id)).toMatchObject({ tier: 'paid', creditHeldAt: START });
    expect(await referralOf(server, ann)).toMatchObject({ reversedAt: null });
    await expectSound(server);
  });

  test('credit of the account that loses the customer runs from the move, whenever an older plan of theirs ended', async () => {
    const { server, ann, ben, stripe } = await wrongAccount();
    const own = buyer(ann.id);
    at(server, 5);
    await pays(server, own);
    at(server, 20);
    await deliverAll(server, [own.ended(daysAfter(20))]);
    at(server, 40);
    await move(server, stripe, ben);
    // Ann's own payment holds, so the 45 days stay.
    expect(await userRow(server, ann.id)).toMatchObject({
      tier: 'free',
      creditHeldAt: null,
      creditUntil: daysAfter(85),
    });
  });

  test('credit of the account that gets the customer is held from when its owner really began to pay', async () => {
    const { server, ben, stripe } = await wrongAccount();
    await grantCredit(commandContext(server), ben.id, 30, undefined);
    at(server, 12);
    await deliverAll(server, [stripe.updated({ cancel_at_period_end: true }, { at: daysAfter(12) })]);
    at(server, 20);
    await move(server, stripe, ben);
    // Granted and paying since day 0: all 30 are left, and the 45 of the conversion come on top.
    expect(await userRow(server, ben.id)).toMatchObject({
      creditHeldAt: daysAfter(20),
      creditUntil: daysAfter(95),
    });
  });

  test('what Stripe says of the customer later concerns its new account only', async () => {
    const { server, ann, ben, stripe } = await wrongAccount();
    at(server, 10);
    await move(server, stripe, ben);
    const before = await userRow(server, ann.id);
    at(server, 12);
    await deliverAll(server, [stripe.chargeRefunded({}, { at: daysAfter(12) }), stripe.ended(daysAfter(12))]);
    expect(await userRow(server, ben.id)).toMatchObject({ tier: 'free', creditUntil: daysAfter(12) });
    expect(await referralOf(server, ben)).toMatchObject({ reversedAt: daysAfter(12) });
    expect(await userRow(server, ann.id)).toEqual(before);
    await expectSound(server);
  });

  test('a customer whose payment went back converts nobody', async () => {
    const { server, friend, ann, ben, stripe } = await wrongAccount();
    at(server, 5);
    await deliverAll(server, [stripe.chargeRefunded({}, { at: daysAfter(5) })]);
    at(server, 10);
    await move(server, stripe, ben);
    expect(await userRow(server, ben.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(10) });
    expect(await referralOf(server, ann)).toMatchObject({ reversedAt: daysAfter(5) });
    expect(await referralOf(server, ben)).toMatchObject({ reversedAt: daysAfter(10) });
    expect((await userRow(server, friend.id)).creditUntil).toEqual(daysAfter(10));
    const { credit, invitedBy } = (await explain(commandContext(server), ben.id)).json as AccountStory;
    expect(invitedBy).toMatchObject({
      says: expect.stringContaining('because the payment was refunded') as string,
    });
    expect(credit.history).toContainEqual(
      expect.objectContaining({ kind: 'reversal', because: 'their payment was refunded' }),
    );
  });

  test('a customer that belongs to nobody can be linked', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const stripe = buyer();
    await deliverAll(server, [stripe.created(), stripe.invoicePaid()]);
    const { json, text } = await move(server, stripe, ann);
    expect(json).toMatchObject({ from: null, to: { id: ann.id } });
    expect(text).toContain('It belonged to nobody before.');
    expect(await userRow(server, ann.id)).toMatchObject({ tier: 'paid' });
    expect(await server.db.auditRow.findMany({ where: { kind: { in: ['link', 'unlink'] } } })).toMatchObject([
      { userId: ann.id, kind: 'link', otherUserId: null },
    ]);
  });

  test('a customer that belongs to nobody and has no subscription that began can be linked', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const stripe = buyer();
    await deliverAll(server, [stripe.created({ status: 'incomplete_expired' })]);
    expect((await move(server, stripe, ann)).json).toMatchObject({ from: null, to: { id: ann.id } });
  });

  test('the account that invited another one can lose the customer to it, and the other way round', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const ben = await signUp(server, 'ben@example.com', ann.code);
    const stripe = buyer(ann.id);
    await pays(server, stripe);
    at(server, 10);
    await move(server, stripe, ben);
    expect(await userRow(server, ann.id)).toMatchObject({ tier: 'free', creditUntil: daysAfter(55) });
    expect(await userRow(server, ben.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(55) });
    at(server, 20);
    await move(server, stripe, ann);
    // Ann pays again, and her days go with Ben's payment.
    expect(await userRow(server, ann.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(20) });
    expect(await userRow(server, ben.id)).toMatchObject({ tier: 'free', creditUntil: daysAfter(20) });
  });

  test('a customer of a deleted account can be moved; the deleted account gets no mail', async () => {
    const mailServer = await startMailServer();
    const { server, friend, ann, ben, stripe } = await wrongAccount(mailEnv(mailServer));
    const sender = await startTestSender(server);
    at(server, 3);
    await deliverAll(server, [stripe.ended(daysAfter(3)), stripe.customerDeleted({ at: daysAfter(3) })]);
    await sender.wake();
    const answer = await deleteAccount(server, ann);
    expect(answer.statusCode).toBe(303);
    await sender.wake();
    const before = mailServer.mails.map(({ to }) => to);
    expect(before).toContain(ann.email);
    at(server, 10);
    await move(server, stripe, ben);
    await sender.wake();
    const since = mailServer.mails.slice(before.length).map(({ to }) => to);
    expect(since.sort()).toEqual([ben.email, friend.email, friend.email]);
    expect(await outbox(server, 'mail.days-reversed')).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ userId: ann.id, status: 'dropped' }),
        expect.objectContaining({ userId: friend.id, status: 'done' }),
      ]),
    );
    expect(await referralOf(server, ann)).toMatchObject({ reversedAt: daysAfter(10) });
    expect(await referralOf(server, ben)).toMatchObject({ convertedAt: daysAfter(10) });
    expect(await userRow(server, friend.id)).toMatchObject({ creditUntil: daysAfter(55) });
    expect(await outbox(server, 'stripe.customer-address')).toEqual([]);
  });
});

describe('a trial that moves with its customer', () => {
  const TRIAL = { status: 'trialing', trial_end: epoch(daysAfter(14)) };

  async function trialOf(email: string, other: string) {
    const server = await startTestServer();
    const ann = await signUp(server, email);
    const ben = await signUp(server, other);
    const stripe = buyer(ann.id);
    await deliverAll(server, [stripe.checkoutCompleted({ payment_status: 'no_payment_required' })]);
    await deliverAll(server, [stripe.created(TRIAL), stripe.invoicePaid({ amount_paid: 0 })]);
    const trial = () => server.db.subscription.findUniqueOrThrow({ where: { id: stripe.subscription } });
    return { server, ann, ben, stripe, trial };
  }

  test('is the trial of the address that it comes to, and no longer of the one that it leaves', async () => {
    const { server, ann, ben, stripe, trial } = await trialOf('ann@example.com', 'ben@example.com');
    await move(server, stripe, ben);
    expect(await userRow(server, ann.id)).toMatchObject({ tier: 'free' });
    const { emailHash, tier } = await userRow(server, ben.id);
    expect(tier).toBe('trial');
    expect(await trial()).toMatchObject({ trialHash: emailHash, trialRefused: false });

    const second = buyer(ann.id);
    await deliverAll(server, [second.checkoutCompleted(), second.created(TRIAL)]);
    expect(await userRow(server, ann.id)).toMatchObject({ tier: 'trial' });
    await expectSound(server);
  });

  test('goes on when both accounts are of one address', async () => {
    const { server, ann, ben, stripe } = await trialOf('ann+1@example.com', 'ann+2@example.com');
    await move(server, stripe, ben);
    expect(await userRow(server, ben.id)).toMatchObject({ tier: 'trial' });
    expect(await userRow(server, ann.id)).toMatchObject({ tier: 'free' });
  });

  test('gives no access where somebody with the same address has had one', async () => {
    const { server, ben, stripe, trial } = await trialOf('ann@example.com', 'ben@example.com');
    const other = await signUp(server, 'ben+1@example.com');
    const theirs = buyer(other.id);
    await deliverAll(server, [theirs.checkoutCompleted(), theirs.created(TRIAL)]);
    await move(server, stripe, ben);
    expect(await userRow(server, ben.id)).toMatchObject({ tier: 'free' });
    expect(await trial()).toMatchObject({ trialHash: null, trialRefused: true });
  });

  test('gives the access that was refused to the wrong account', async () => {
    const { server, ben, trial } = await trialOf('ann@example.com', 'ben@example.com');
    const other = await signUp(server, 'ann+1@example.com');
    const refused = buyer(other.id);
    await deliverAll(server, [refused.checkoutCompleted(), refused.created(TRIAL)]);
    expect(await userRow(server, other.id)).toMatchObject({ tier: 'free' });
    await move(server, refused, ben);
    expect(await userRow(server, ben.id)).toMatchObject({ tier: 'trial' });
    expect(await trial()).not.toMatchObject({ trialHash: null });
  });
});

describe('what relink tells', () => {
  test('both sides of the conversion that is reversed read why, and Stripe gets the address of the new account', async () => {
    const { server, friend, ann, ben, stripe } = await wrongAccount();
    await server.db.outboxItem.deleteMany();
    at(server, 10);
    await move(server, stripe, ben);
    const items = (await outbox(server)).map(({ kind, userId, data }) => ({
      kind,
      userId,
      ...(JSON.parse(data) as object | null),
    }));
    expect(items).toHaveLength(6);
    expect(items).toEqual(
      expect.arrayContaining([
        // Dropped when it is its turn, because no days are left.
        expect.objectContaining({ kind: 'mail.days-running', userId: ann.id }),
        expect.objectContaining({ kind: 'mail.days-reversed', userId: ann.id, because: 'moved' }),
        expect.objectContaining({ kind: 'mail.days-reversed', userId: friend.id, because: 'moved' }),
        expect.objectContaining({ kind: 'mail.days-granted', userId: ben.id, side: 'referred' }),
        expect.objectContaining({ kind: 'mail.days-granted', userId: friend.id, side: 'referrer' }),
        expect.objectContaining({
          kind: 'stripe.customer-address',
          userId: ben.id,
          customerId: stripe.customer,
        }),
      ]),
    );
  });

  test('explain says that the payment belongs to another account, on both sides', async () => {
    const { server, friend, ann, ben, stripe } = await wrongAccount();
    at(server, 10);
    await move(server, stripe, ben);
    const story = async ({ id }: Person) => (await explain(commandContext(server), id)).json as AccountStory;
    const { credit, invitedBy } = await story(ann);
    expect(invitedBy).toMatchObject({
      state: 'reversed',
      says: expect.stringContaining('because the payment belongs to another account') as string,
    });
    expect(credit.history).toContainEqual(
      expect.objectContaining({
        kind: 'reversal',
        by: 'operator',
        because: 'their payment belongs to another account',
      }),
    );
    expect((await story(friend)).credit.history).toContainEqual(
      expect.objectContaining({
        kind: 'reversal',
        because: 'the payment of ann@example.com belongs to another account',
      }),
    );
  });

  test('the export of an account names no other account', async () => {
    const { server, ann, ben, stripe } = await wrongAccount();
    await move(server, stripe, ben);
    const answer = await server.app.inject({ url: '/settings/export', headers: { cookie: ann.cookie } });
    expect(answer.statusCode).toBe(200);
    expect(answer.body).toContain('"unlink"');
    expect(answer.body).not.toContain(ben.id);
  });

  test('doctor has no finding once the account whose checkout named the customer has it', async () => {
    const { server, ann, ben, stripe } = await wrongAccount();
    const claim = stripe.checkoutCompleted({ client_reference_id: ben.id });
    expect((await deliver(server, claim)).json()).toMatchObject({ status: 'ignored' });
    expect(await findings(server)).toMatchObject([{ check: 'one-owner' }]);
    await move(server, stripe, ben);
    // Moving it back makes it contradict the claim again.
    await relink(commandContext(server), stripe.customer, ann.id, undefined);
    expect(await findings(server)).toMatchObject([{ check: 'one-owner' }]);
  });
});

describe('a first payment that awaits the bank’s approval', () => {
  /** Ann's has to be approved yet, and Ben has a live subscription. One of their customers moves to the other account. */
  async function movedTo(whose: 'ann' | 'ben') {
    const world = await startWorld();
    const [ann, ben] = [await signUp(world, 'ann@example.com'), await signUp(world, 'ben@example.com')];
    const id = await subscribe(world, ann, { outcome: 'incomplete' });
    await subscribe(world, ben);
    await deliverWaiting(world);
    const [from, to] = whose === 'ann' ? [ben, ann] : [ann, ben];
    const { id: customer } = await world.db.customer.findFirstOrThrow({ where: { userId: from.id } });
    const statusOf = () => world.sandbox.objects.subscriptions.get(id)?.status;
    return { world, id, statusOf, moved: () => move(world, { customer }, to) };
  }

  test.each(['ann', 'ben'] as const)(
    'ends when its account would get a second subscription: the one of %s',
    async (whose) => {
      const { world, id, statusOf, moved } = await movedTo(whose);
      const { text, json } = await moved();
      expect(text).toContain(`The first payment of ${id} can no longer go through`);
      expect(json).toMatchObject({ firstPaymentsStopped: [id], mayPayTwice: [] });
      expect(statusOf()).toBe('canceled');
      expect([...world.sandbox.objects.invoices.values()].map(({ status }) => status).sort()).toEqual([
        'paid',
        'void',
      ]);
    },
  );

  test('is named to the operator when it cannot be ended yet', async () => {
    const { world, id, statusOf, moved } = await movedTo('ben');
    letBankDecide(world);
    const { text, json } = await moved();
    expect(text).toContain(`the first payment of ${id} could not be stopped`);
    expect(json).toMatchObject({ mayPayTwice: [id] });
    expect(statusOf()).toBe('incomplete');
  });

  test('is ended by repeating a command that died after the move, which then has nothing left to do', async () => {
    const { world, id, statusOf, moved } = await movedTo('ben');
    const killed = new Error('the command was killed');
    vi.spyOn(clientOf(world).subscriptions, 'retrieve').mockRejectedValueOnce(killed);
    await expect(moved()).rejects.toThrow(killed);
    expect(statusOf()).toBe('incomplete');

    const again = await moved();
    expect(again.text).toMatch(/^cus_\w+ already belongs to ben@example\.com\.\n/);
    expect(again.text).toContain(`The first payment of ${id} can no longer go through`);
    expect(again.json).toMatchObject({
      changes: [],
      checkoutsClosed: null,
      firstPaymentsStopped: [id],
      mayPayTwice: [],
    });
    expect(statusOf()).toBe('canceled');

    await deliverWaiting(world);
    expect((await moved()).text).toMatch(
      /^cus_\w+ already belongs to ben@example\.com\. Nothing was changed\.$/,
    );
  });

  test('stays when its account has no other subscription', async () => {
    const world = await startWorld();
    const [ann, ben] = [await signUp(world, 'ann@example.com'), await signUp(world, 'ben@example.com')];
    const id = await subscribe(world, ann, { outcome: 'incomplete' });
    await deliverWaiting(world);
    const { id: customer } = await world.db.customer.findFirstOrThrow();
    await move(world, { customer }, ben);
    expect(world.sandbox.objects.subscriptions.get(id)).toMatchObject({ status: 'incomplete' });
  });
});

describe('an open checkout', () => {
  /** Ann's customer, who has a live subscription, and Ben, who has none. */
  async function subscribed() {
    const world = await startWorld(MAIL);
    const ann = await signUp(world, 'ann@example.com');
    const ben = await signUp(world, 'ben@example.com');
    const id = await subscribe(world, ann);
    await deliverWaiting(world);
    const { customerId: customer } = await world.db.subscription.findUniqueOrThrow({ where: { id } });
    return { world, ben, customer };
  }

  test('of the account that loses the customer is closed at Stripe, and the next one is for a new customer', async () => {
    const world = await startWorld(MAIL);
    const ann = await signUp(world, 'ann@example.com');
    const ben = await signUp(world, 'ben@example.com');
    const session = sessionIdOf(await pressUpgrade(world, ann));
    const customer = world.sandbox.objects.checkouts.get(session)?.customer ?? '';
    await move(world, { customer }, ben);
    expect(await world.db.checkout.count()).toBe(0);
    expect(world.sandbox.objects.checkouts.get(session)).toMatchObject({ status: 'expired' });

    const sender = await startTestSender(world);
    await sender.wake();
    expect(await outbox(world, 'stripe.expire-checkout')).toMatchObject([{ status: 'done', userId: ann.id }]);
    const next = world.sandbox.objects.checkouts.get(sessionIdOf(await pressUpgrade(world, ann)));
    expect(next?.customer).not.toBe(customer);
    expect(world.sandbox.objects.customers.get(customer)).toMatchObject({ email: 'ben@example.com' });
  });

  test('of the account that gets a live subscription is closed, later if Stripe does not answer the command', async () => {
    const { world, ben, customer } = await subscribed();
    const session = sessionIdOf(await pressUpgrade(world, ben));
    const { sessions } = clientOf(world).checkout;
    const refused = vi
      .spyOn(sessions, 'expire')
      .mockRejectedValue(new Stripe.errors.StripeConnectionError({ message: 'lost', type: 'api_error' }));
    const told = await move(world, { customer }, ben);
    expect(told.text).toContain(
      'The open checkout could not be closed at Stripe yet. A server will try again.',
    );
    expect(told.json).toMatchObject({ checkoutsClosed: false, mayPayTwice: [] });
    refused.mockRestore();
    expect(openSessions(world)).toEqual([session]);

    const sender = await startTestSender(world);
    await sender.wake();
    expect(world.sandbox.objects.checkouts.get(session)).toMatchObject({ status: 'expired' });
    expect(await pressUpgrade(world, ben)).toContain('/portal/');
  });

  test('is not opened for an account that gets a live subscription meanwhile', async () => {
    const { world, ben, customer } = await subscribed();
    const { sessions } = clientOf(world).checkout;
    const create = sessions.create.bind(sessions);
    vi.spyOn(sessions, 'create').mockImplementationOnce(async (...args) => {
      const session = await create(...args);
      await move(world, { customer }, ben);
      return session;
    });
    expect(await pressUpgrade(world, ben)).toContain('/portal/');
    expect(openSessions(world)).toEqual([]);
  });

  test('of the account that gets the customer stays open when no subscription that comes with it is live', async () => {
    const world = await startWorld(MAIL);
    const ann = await signUp(world, 'ann@example.com');
    const ben = await signUp(world, 'ben@example.com');
    const { customer } =
      world.sandbox.objects.checkouts.get(sessionIdOf(await pressUpgrade(world, ann))) ?? {};
    const url = await pressUpgrade(world, ben);
    await move(world, { customer: customer ?? '' }, ben);
    expect(await pressUpgrade(world, ben)).toBe(url);
  });
});

describe('relink on the command line', () => {
  test('relink prints whose the customer was and is, and what followed', async () => {
    const { server, friend, ann, ben, stripe } = await wrongAccount();
    const { code, stdout, stderr } = await cli(server, 'relink', stripe.customer, ben.code, '--note', 'oops');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const [first, ...rest] = stdout.trimEnd().split('\n');
    expect(first).toBe(
      `${stripe.customer} now belongs to ben@example.com. It belonged to ann@example.com before.`,
    );
    expect(rest.sort()).toEqual([
      'ann@example.com: credit -45 days',
      'ann@example.com: paid -> free',
      'ben@example.com: credit +45 days',
      'ben@example.com: free -> paid',
      'friend@example.com: credit +45 days',
      'friend@example.com: credit -45 days',
    ]);

    const back = await cli(server, 'relink', stripe.customer, 'ann@example.com', '--json');
    expect({ code: back.code, stderr: back.stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(back.stdout)).toMatchObject({
      customerId: stripe.customer,
      from: { id: ben.id, email: 'ben@example.com' },
      to: { id: ann.id, email: 'ann@example.com' },
      changes: expect.arrayContaining([
        expect.objectContaining({ id: friend.id, kind: 'credit', seconds: 45 * DAY }),
        expect.objectContaining({ id: ann.id, kind: 'tier', fromTier: 'free', toTier: 'paid' }),
      ]) as object[],
    });
    const audit = await cli(server, 'audit', 'ann@example.com');
    expect(audit.stdout).toContain(`lost the customer ${stripe.customer} to ${ben.id}`);
    expect(audit.stdout).toContain(`got the customer ${stripe.customer} from ${ben.id}`);
    expect(audit.stdout).toContain('"oops"');
    expect((await cli(server, 'doctor')).code).toBe(0);
  });

  test.each([
    [
      'an unknown customer',
      () => ['relink', 'cus_nobody', 'ben@example.com'],
      /^No customer has the id cus_nobody\. .*\n$/,
    ],
    [
      'an unknown account',
      ({ stripe }: { stripe: Buyer }) => ['relink', stripe.customer, 'nobody@example.com'],
      /^No account has the address nobody@example\.com\.\n$/,
    ],
  ])('relink of %s changes nothing and exits 1', async (_name, args, says) => {
    const story = await wrongAccount();
    const before = await domainRows(story.server);
    const { code, stdout, stderr } = await cli(story.server, ...args(story));
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(says);
    expect(await domainRows(story.server)).toEqual(before);
  });

  test('relink to the account that has the customer changes nothing and says so', async () => {
    const { server, stripe } = await wrongAccount();
    const before = await domainRows(server);
    const { code, stdout, stderr } = await cli(server, 'relink', stripe.customer, 'ann@example.com');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toBe(`${stripe.customer} already belongs to ann@example.com. Nothing was changed.\n`);
    expect(await domainRows(server)).toEqual(before);
  });

  test('relink to a deleted account changes nothing and exits 1', async () => {
    const { server, ben, stripe } = await wrongAccount();
    const answer = await deleteAccount(server, ben);
    expect(answer.statusCode).toBe(303);
    const before = await domainRows(server);
    const { code, stdout, stderr } = await cli(server, 'relink', stripe.customer, ben.id, '--json');
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    expect(JSON.parse(stdout)).toEqual({
      error: {
        code: 'failed',
        message: `The account ${ben.id} was deleted, so no customer can be linked to it.`,
      },
    });
    expect(await domainRows(server)).toEqual(before);
  });

  test.each([
    ['what is not a customer', ['relink', 'sub_1', 'ben@example.com']],
    ['no account', ['relink', 'cus_1']],
  ])('relink of %s is wrong usage', async (_name, args) => {
    const { code, stdout, stderr } = await cli(await startTestServer(), ...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^Usage: tandem relink/m);
  });
});
