import { describe, expect, test } from 'vitest';

import { rehashAddresses } from '../src/accounts/rehash-addresses.ts';
import { explain } from '../src/operator/explain.ts';
import { resetLink } from '../src/operator/reset-link.ts';
import { commandContext } from './support/command-context.ts';
import { expectSound } from './support/findings.ts';
import {
  DAY,
  daysAfter,
  deleteAccount,
  deliverAll,
  PASSWORD,
  postForm,
  referralOf,
  signUp,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import {
  deliverWaiting,
  passTime,
  pressUpgrade,
  sessionIdOf,
  startWorld,
  subscribe,
} from './support/stand-in.ts';
import type { World } from './support/stand-in.ts';
import { buyer, epoch, stripeId } from './support/stripe-events.ts';
import type { Buyer } from './support/stripe-events.ts';

async function changeAddress({ app }: TestServer, { cookie }: Person, email: string): Promise<void> {
  const answer = await postForm(app, '/settings/address', { email, currentPassword: PASSWORD }, cookie);
  expect(answer.statusCode).toBe(303);
}

/** Deletes an account, which must succeed. */
async function leave(server: TestServer, person: Person): Promise<void> {
  expect((await deleteAccount(server, person)).statusCode).toBe(303);
}

/** A proven first payment. */
async function pay(server: TestServer, { id }: Person): Promise<Buyer> {
  const stripe = buyer(id);
  const at = server.clock.now;
  await deliverAll(server, [
    stripe.checkoutCompleted({}, { at }),
    stripe.created({}, { at }),
    stripe.invoicePaid({}, { at }),
  ]);
  return stripe;
}

/** The ways in which a stranger can have used an address for a while. */
const STRANGERS: [string, (server: TestServer, email: string, code: string) => Promise<void>][] = [
  [
    'signed up with it and deleted the account',
    async (server, email, code) => leave(server, await signUp(server, email, code)),
  ],
  [
    'signed up with a +tag of it, and stays',
    async (server, email, code) => {
      await signUp(server, email.replace('@', '+stranger@'), code);
    },
  ],
  [
    'changed to it in Settings and back',
    async (server, email, code) => {
      const stranger = await signUp(server, 'stranger@example.com', code);
      await changeAddress(server, stranger, email);
      await changeAddress(server, stranger, 'stranger@example.com');
    },
  ],
  [
    'changed to it in Settings and back, having paid under another one',
    async (server, email, code) => {
      const stranger = await signUp(server, 'stranger@example.com', code);
      await pay(server, stranger);
      await changeAddress(server, stranger, email);
      await changeAddress(server, stranger, 'stranger@example.com');
    },
  ],
];

describe.each(STRANGERS)('when a stranger %s', (_how, had) => {
  test("a stranger who used somebody's address costs its owner no referral", async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const eve = await signUp(server, 'eve@example.com');
    await had(server, 'owner@example.com', eve.code);
    const owner = await signUp(server, 'owner@example.com', ann.code);
    await pay(server, owner);
    expect(await referralOf(server, owner)).toMatchObject({
      convertedAt: server.clock.now,
      refusedFor: null,
    });
    expect(await userRow(server, ann.id)).toMatchObject({ creditUntil: daysAfter(45) });
    await expectSound(server);
  });
});

describe('an address that was paid for keeps counting (design: rule 11)', () => {
  test.each<[string, string, (server: TestServer, bob: Person, stripe: Buyer) => Promise<unknown>]>([
    ['the address that it left', 'bob+2@example.com', () => Promise.resolve()],
    [
      'the address that it changed to, once that is proven',
      'robert+2@example.com',
      ({ db, clock }, { id }) => db.user.update({ where: { id }, data: { emailProvenAt: clock.now } }),
    ],
    [
      'the address that it changed to, once that is paid for',
      'robert+2@example.com',
      async (server, _bob, stripe) => {
        const at = daysAfter(1);
        server.clock.now = at;
        const renewal = { id: stripeId('in'), billing_reason: 'subscription_cycle' };
        await deliverAll(server, [stripe.invoicePaid(renewal, { at })]);
      },
    ],
  ])('an account that converted converts no second referral with %s', async (_which, second, isNow) => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const bob = await signUp(server, 'bob@example.com', ann.code);
    const stripe = await pay(server, bob);
    await changeAddress(server, bob, 'robert@example.com');
    await isNow(server, bob, stripe);
    const again = await signUp(server, second, ann.code);
    await pay(server, again);
    expect(await referralOf(server, again)).toMatchObject({
      convertedAt: null,
      refusedFor: 'address-converted',
    });
    expect(await userRow(server, again.id)).toMatchObject({ tier: 'paid', creditUntil: null });
    expect(await userRow(server, ann.id)).toMatchObject({ creditUntil: daysAfter(45) });
    const told = await explain(commandContext(server), 'ann@example.com');
    expect(told.text).toContain('refused: the address has already converted a referral');
    await expectSound(server);
  });

  test.each([
    ['to another +tag', ['ann+other@example.com']],
    ['away and back', ['else@example.com', 'ann@example.com']],
  ])(
    'an address that was proven has no second trial after its account changed its address %s without mail and was deleted',
    async (_how, addresses) => {
      const world = await startWorld({ STRIPE_TRIAL_DAYS: '7' });
      const ann = await signUp(world, 'ann@example.com');
      // By a mailed link, before mail was switched off.
      await world.db.user.update({ where: { id: ann.id }, data: { emailProvenAt: world.clock.now } });
      await subscribe(world, ann);
      await deliverWaiting(world);
      for (const address of addresses) await changeAddress(world, ann, address);
      await leave(world, ann);
      const second = await subscribe(world, await signUp(world, 'ann@example.com'));
      expect(world.sandbox.objects.subscriptions.get(second)).toMatchObject({ status: 'active' });
      await expectSound(world);
    },
  );

  test('an address that a renewal was paid for cannot be used to refer oneself', async () => {
    const server = await startTestServer();
    const bob = await signUp(server, 'bob@example.com');
    const stripe = buyer(bob.id);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    await changeAddress(server, bob, 'robert@example.com');
    const at = daysAfter(31);
    server.clock.now = at;
    const renewal = { id: 'in_renewal', billing_reason: 'subscription_cycle' };
    await deliverAll(server, [stripe.invoicePaid(renewal, { at })]);
    const login = await postForm(server.app, '/login', { email: 'robert@example.com', password: PASSWORD });
    const cookie = login.cookies.map(({ name, value }) => `${name}=${value}`).join('; ');
    await changeAddress(server, { ...bob, cookie }, 'bobby@example.com');
    const former = await server.db.formerAddress.count({ where: { userId: bob.id } });
    expect(former).toBe(2);
    // A former address that counts cannot be used to refer oneself.
    const self = await signUp(server, 'robert+2@example.com', bob.code);
    expect(await server.db.referral.count({ where: { referredId: self.id } })).toBe(0);
  });

  test('an address that was paid for cannot refer itself after its account was deleted', async () => {
    const server = await startWorld();
    const ann = await signUp(server, 'ann@example.com');
    const friend = await signUp(server, 'friend@example.com', ann.code);
    await subscribe(server, ann);
    await deliverWaiting(server);
    await leave(server, ann);
    await changeAddress(server, friend, 'ann@example.com');
    await pay(server, friend);
    expect(await referralOf(server, friend)).toMatchObject({ convertedAt: null, refusedFor: 'own-address' });
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid', creditUntil: null });
    await expectSound(server);
  });
});

describe('nobody refers themselves (design: rule 11)', () => {
  test('by taking the address of their referrer', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const second = await signUp(server, 'other@example.com', ann.code);
    await changeAddress(server, second, 'ann+2@example.com');
    await pay(server, second);
    expect(await referralOf(server, second)).toMatchObject({ convertedAt: null, refusedFor: 'own-address' });
    expect(await userRow(server, ann.id)).toMatchObject({ creditUntil: null });
    await expectSound(server);
    // The refusal is final.
    await changeAddress(server, second, 'other@example.com');
    const late = buyer(second.id);
    await deliverAll(server, [late.checkoutCompleted(), late.created(), late.invoicePaid()]);
    expect(await referralOf(server, second)).toMatchObject({ convertedAt: null });
    const told = await explain(commandContext(server), 'other@example.com');
    expect(told.text).toContain('refused: the address belongs to the referrer');
  });

  test('by giving their own address to the friend they invited', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const second = await signUp(server, 'other@example.com', ann.code);
    await changeAddress(server, ann, 'other+1@example.com');
    await pay(server, second);
    expect(await referralOf(server, second)).toMatchObject({ convertedAt: null, refusedFor: 'own-address' });
  });
});

test('another invitation promises nothing to an address that has converted a referral', async () => {
  const server = await startTestServer();
  const [ann, ben] = [await signUp(server, 'ann@example.com'), await signUp(server, 'ben@example.com')];
  await pay(server, await signUp(server, 'eve@example.com', ann.code));
  const again = await signUp(server, 'eve+2@example.com', ben.code);
  const fresh = await signUp(server, 'new@example.com', ben.code);
  const isPromised = async ({ cookie }: Person): Promise<boolean> =>
    (await server.app.inject({ url: '/pricing', headers: { cookie } })).body.includes(
      'with your first payment',
    );
  // Somebody who may only have typed the address is not told about it.
  expect([await isPromised(again), await isPromised(fresh)]).toEqual([true, true]);
  await server.db.user.updateMany({ data: { emailProvenAt: server.clock.now } });
  expect([await isPromised(again), await isPromised(fresh)]).toEqual([false, true]);
});

test('one address converts one referral, that of the first account to pay; a tombstone that never paid holds no hash', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const [first, second] = [
    await signUp(server, 'f.irst@gmail.com', ann.code),
    await signUp(server, 'first+2@googlemail.com', ann.code),
  ];
  await pay(server, second);
  await pay(server, first);
  expect(await referralOf(server, second)).toMatchObject({ convertedAt: server.clock.now });
  expect(await referralOf(server, first)).toMatchObject({
    convertedAt: null,
    refusedFor: 'address-converted',
  });
  expect(await userRow(server, ann.id)).toMatchObject({ creditUntil: daysAfter(45) });
  await leave(server, ann);
  expect(await server.db.user.findUniqueOrThrow({ where: { id: ann.id } })).toMatchObject({ emailHash: '' });
  await expectSound(server);
});

test('Gmail addresses hashed before their dots were ignored are hashed again, once', async () => {
  const server = await startTestServer();
  const plain = await signUp(server, 'annlee@gmail.com');
  const ann = await signUp(server, 'ann.lee@googlemail.com');
  const { emailHash } = await server.db.user.findUniqueOrThrow({ where: { id: plain.id } });
  const old = { where: { id: ann.id }, data: { emailHash: 'of the dotted address' } };
  await server.db.user.update(old);
  // She had the address without the dot for a while, too.
  await server.db.formerAddress.createMany({
    data: [emailHash, old.data.emailHash].map((hash) => ({ userId: ann.id, emailHash: hash })),
  });
  await rehashAddresses(server.db, server.clock.now);
  expect(await server.db.user.findUniqueOrThrow({ where: { id: ann.id } })).toMatchObject(old.data);
  await server.db.setting.create({ data: { key: 'rehashAddresses', value: 'gmail.com' } });
  await rehashAddresses(server.db, server.clock.now);
  expect(await server.db.user.findUniqueOrThrow({ where: { id: ann.id } })).toMatchObject({ emailHash });
  expect(await server.db.formerAddress.findMany()).toEqual([{ userId: ann.id, emailHash }]);
  expect(await server.db.setting.count({ where: { key: 'rehashAddresses' } })).toBe(0);
});

test('addresses that begin with a + are told apart, and their +tags are still ignored', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, '+ann@example.com');
  const hashOf = async (person: Person) =>
    (await server.db.user.findUniqueOrThrow({ where: { id: person.id } })).emailHash;
  expect(await hashOf(await signUp(server, '+ben@example.com'))).not.toBe(await hashOf(ann));
  expect(await hashOf(await signUp(server, '+ann+tag@example.com'))).toBe(await hashOf(ann));
});

test('an address that begins with a + is hashed again, without losing its referral and trial', async () => {
  const { db, clock } = await startWorld({ STRIPE_TRIAL_DAYS: '7' });
  const shared = { emailHash: 'of no mailbox' };
  for (const id of ['ann', 'ben']) {
    const email = `+${id}@example.com`;
    const some = { tier: 'free', creditEntryCount: 0, emailSetAt: clock.now, createdAt: clock.now } as const;
    await db.user.create({ data: { ...some, ...shared, id, email, passwordHash: '', code: id } });
    await db.customer.create({ data: { id: `cus_${id}`, userId: id } });
  }
  await db.referral.create({
    data: {
      id: 'r',
      referrerId: 'ann',
      referredId: 'ben',
      referredHash: shared.emailHash,
      createdAt: clock.now,
    },
  });
  await db.subscription.create({
    data: { id: 'sub_ben', customerId: 'cus_ben', trialHash: shared.emailHash, createdAt: clock.now },
  });
  await db.setting.create({ data: { key: 'rehashAddresses', value: '+' } });
  await rehashAddresses(db, clock.now);
  const [ann, ben] = await db.user.findMany({ orderBy: { id: 'asc' }, select: { emailHash: true } });
  expect(ann?.emailHash).not.toBe(ben?.emailHash);
  expect(await db.referral.findMany()).toMatchObject([{ referredHash: ben?.emailHash }]);
  expect(await db.subscription.findMany()).toMatchObject([{ trialHash: ben?.emailHash }]);
});

test('however many Gmail addresses there are, all are hashed again', async () => {
  const { db, clock } = await startTestServer();
  const many = 201;
  await db.user.createMany({
    data: Array.from({ length: many }, (_, n) => ({
      id: `ann-${n}`,
      email: `ann.${n}@gmail.com`,
      tier: 'free',
      creditEntryCount: 0,
      emailHash: 'of the dotted address',
      emailSetAt: clock.now,
      passwordHash: '',
      code: `CODE${n}`,
      createdAt: clock.now,
    })),
  });
  await db.setting.create({ data: { key: 'rehashAddresses', value: 'gmail.com' } });
  await rehashAddresses(db, clock.now);
  expect(await db.user.count({ where: { emailHash: { not: 'of the dotted address' } } })).toBe(many);
});

describe('a trial is given once for each address (design: rule 11)', () => {
  async function world(): Promise<World> {
    return startWorld({ STRIPE_TRIAL_DAYS: '7' });
  }

  test('a checkout opened earlier and completed after the trial was used starts no second trial', async () => {
    const server = await world();
    const [first, second] = [
      await signUp(server, 'a+1@example.com'),
      await signUp(server, 'a+2@example.com'),
    ];
    const opened = sessionIdOf(await pressUpgrade(server, first));
    await subscribe(server, second);
    await deliverWaiting(server);
    expect(await userRow(server, second.id)).toMatchObject({ tier: 'trial' });
    server.sandbox.acts.pay(opened);
    await deliverWaiting(server);
    expect(await userRow(server, first.id)).toMatchObject({ tier: 'free' });
    const page = await server.app.inject({
      url: '/settings?checkout=done',
      headers: { cookie: first.cookie },
    });
    expect(page.body).toContain('have already had the free trial');
    expect(page.body).toContain('17 January 2027');
    expect(page.body).toContain('Manage billing');
    await expectSound(server);

    const { id } = await server.db.subscription.findFirstOrThrow({
      where: { customer: { userId: first.id } },
    });
    const cancels = async (isCancelled: boolean) => {
      await server.merchant.subscriptions.update(id, { cancel_at_period_end: isCancelled });
      await deliverWaiting(server);
      return (await server.app.inject({ url: '/settings', headers: { cookie: first.cookie } })).body;
    };
    const cancelled = await cancels(true);
    expect(cancelled).toMatch(
      /The plan ends on <time [^>]*>17 January 2027<\/time>, and you will not be charged/,
    );
    expect(cancelled).not.toContain('Your plan starts on');
    await cancels(false);

    await passTime(server, 8 * DAY);
    await deliverWaiting(server);
    expect(await userRow(server, first.id)).toMatchObject({ tier: 'paid' });
    await expectSound(server);
  });

  test('one account has one trial, whatever address it takes', async () => {
    const server = await world();
    const ann = await signUp(server, 'ann@example.com');
    const subscription = await subscribe(server, ann);
    await server.merchant.subscriptions.cancel(subscription);
    await deliverWaiting(server);
    await changeAddress(server, ann, 'new@example.com');
    const again = await subscribe(server, ann);
    expect(server.sandbox.objects.subscriptions.get(again)).toMatchObject({ status: 'active' });
  });

  test.each([
    ['has ended', undefined],
    ['has ended, and the address has changed', 'new@example.com'],
  ])(
    'a second trial by a payment link with the same user id gives no access once the first %s',
    async (_state, email) => {
      const server = await startTestServer();
      const ann = await signUp(server, 'ann@example.com');
      const trial = { trial_end: epoch(daysAfter(14)) };
      for (const tier of ['trial', 'free']) {
        const link = buyer(ann.id);
        const options = { at: server.clock.now };
        await deliverAll(server, [
          link.checkoutCompleted({}, options),
          link.created({ ...trial, status: 'trialing' }, options),
        ]);
        expect(await userRow(server, ann.id)).toMatchObject({ tier });
        server.clock.now = daysAfter(1);
        await deliverAll(server, [link.ended(server.clock.now, trial)]);
        if (email !== undefined && tier === 'trial') await changeAddress(server, ann, email);
      }
      await expectSound(server);
    },
  );

  test('a second trial that gave no access does not end the first one when the address changes', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const trial = { trial_end: epoch(daysAfter(14)), status: 'trialing' };
    const [first, second] = [buyer(ann.id), buyer(ann.id)];
    for (const link of [first, second])
      await deliverAll(server, [link.checkoutCompleted(), link.created(trial)]);
    server.clock.now = daysAfter(1);
    await deliverAll(server, [second.ended(server.clock.now, { trial_end: trial.trial_end })]);
    await changeAddress(server, ann, 'new@example.com');
    await deliverAll(server, [first.checkoutCompleted({}, { at: server.clock.now })]);
    expect(await userRow(server, ann.id)).toMatchObject({ tier: 'trial' });
    await expectSound(server);
  });

  test('a trial that ended before we heard of it was one', async () => {
    const server = await world();
    const ann = await signUp(server, 'ann@example.com');
    await server.merchant.subscriptions.cancel(await subscribe(server, ann));
    const again = await subscribe(server, ann);
    expect(server.sandbox.objects.subscriptions.get(again)).toMatchObject({ status: 'active' });
    await deliverWaiting(server);
    await expectSound(server);
  });

  test('a stranger who had a trial with somebody’s address and deleted the account costs its owner none', async () => {
    const server = await world();
    const stranger = await signUp(server, 'owner@example.com');
    await subscribe(server, stranger);
    await deliverWaiting(server);
    await leave(server, stranger);
    const owner = await signUp(server, 'owner@example.com');
    await subscribe(server, owner);
    await deliverWaiting(server);
    expect(await userRow(server, owner.id)).toMatchObject({ tier: 'trial' });
    await expectSound(server);
  });

  test("a stranger on trial who changes for a while to somebody's address costs the owner no trial", async () => {
    const server = await world();
    const stranger = await signUp(server, 'stranger@example.com');
    await subscribe(server, stranger);
    await deliverWaiting(server);
    await changeAddress(server, stranger, 'owner@example.com');
    await changeAddress(server, stranger, 'else@example.com');
    const owner = await signUp(server, 'owner@example.com');
    await subscribe(server, owner);
    await deliverWaiting(server);
    expect(await userRow(server, owner.id)).toMatchObject({ tier: 'trial' });
    await expectSound(server);
  });
});

test('a reset link cannot be made for a deleted account', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await leave(server, ann);
  await expect(resetLink(commandContext(server), ann.id)).rejects.toThrow(
    `The account ${ann.id} was deleted, so it has no password to reset.`,
  );
  expect(await server.db.resetLink.count()).toBe(0);
});
