import fc from 'fast-check';
import { Stripe } from 'stripe';

import { grantCredit } from '../../src/operator/grant-credit.ts';
import { Refusal } from '../../src/sandbox/refusal.ts';
import { commandContext } from '../support/command-context.ts';
import { refuseWrites } from '../support/other-connection.ts';
import { deleteAccount, postForm, signUp } from '../support/server.ts';
import type { Person } from '../support/server.ts';
import { deliverWaiting, passTime } from '../support/stand-in.ts';
import type { World } from '../support/stand-in.ts';
import { epoch } from '../support/stripe-events.ts';
import type { CreditBook } from './credit-book.ts';

/** What the commands know. They ask the stand-in for everything else, and its objects decide what is right. */
export interface Real {
  world: World;
  people: Person[];
  /** Stripe gave up on an event, so only `reconcile` can bring the rows in line. */
  dropped: boolean;
  /**
   * The expected credit of every user, where each event is delivered in the second it happens; null where it is not.
   */
  book: CreditBook | null;
}

export type Model = Record<string, never>;

type Command = fc.AsyncCommand<Model, Real>;

/** The item that a number selects; undefined when there are none. */
function pick<T>(things: Iterable<T>, which: number): T | undefined {
  const all = [...things];
  return all[which % Math.max(all.length, 1)];
}

function command(name: string, run: (real: Real) => Promise<void>): Command {
  return {
    check: () => true,
    run: async (_model, real) => {
      await run(real);
      await keepBook(real);
    },
    toString: () => name,
  };
}

async function keepBook({ world, book }: Real): Promise<void> {
  if (!book) return;
  await deliverWaiting(world);
  await book.follow();
}

/** Lets time pass. With a book it stops at each automatic event, and each is delivered at once. */
async function letPass(real: Real, seconds: number): Promise<void> {
  const { world, book } = real;
  const until = epoch(world.clock.now) + seconds;
  for (let next = nextDue(world); book && next < until; next = nextDue(world)) {
    await passTime(world, next - epoch(world.clock.now));
    await keepBook(real);
  }
  await passTime(world, until - epoch(world.clock.now));
}

/**
 * Fails or cancels a refund in a second of its own: of a refund and a failure in the same second, nobody can tell which
 * came first (`refundedSince`).
 */
async function endRefund(real: Real, act: 'failRefund' | 'cancelRefund', which: number): Promise<void> {
  const { sandbox } = real.world;
  const refund = pick(sandbox.objects.refunds.keys(), which);
  if (!refund) return;
  await letPass(real, 1);
  await unlessRefused(() => {
    sandbox.acts[act](refund);
  });
  await keepBook(real);
  await letPass(real, 1);
}

/** When something that affects payments may happen automatically, epoch seconds. */
function nextDue({ sandbox: { objects }, clock }: World): number {
  const instants = [
    ...[...objects.subscriptions.values()].flatMap(({ items, cancel_at: end }) => [
      ...items.data.map((item) => item.current_period_end),
      end,
    ]),
    ...[...objects.invoices.values()].flatMap((invoice) => [
      invoice.automatically_finalizes_at,
      invoice.next_payment_attempt,
    ]),
  ];
  const now = epoch(clock.now);
  return Math.min(...instants.map((at) => at ?? Infinity).filter((at) => at > now));
}

/** An account and its browser. */
export async function addPerson({ world, people }: Real, friend: number | null): Promise<void> {
  const code = friend === null ? undefined : pick(people, friend)?.code;
  people.push(await signUp(world, `${people.length}@example.com`, code));
}

/**
 * An action of the merchant or bank may make no sense at the moment; then Stripe refuses it, and nothing has happened.
 */
async function unlessRefused(act: () => unknown): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (error instanceof Stripe.errors.StripeInvalidRequestError) return;
    if (error instanceof Refusal) return;
    throw error;
  }
}

/** Makes the database refuse one kind of write, as a crash before the commit would; the transaction is rolled back. */
async function crashingAt(world: World, table: string, work: () => Promise<unknown>): Promise<void> {
  const refusal = await refuseWrites(world, 'INSERT', table);
  await work();
  await refusal.lift();
}

/** A command that is drawn more often than the others; without it most stories never get far. */
function often(times: number, one: fc.Arbitrary<Command>): fc.Arbitrary<Command>[] {
  return Array.from({ length: times }, () => one);
}

const n = fc.nat({ max: 30 });

/** Steps of time, s; no sum of them equals the clawback limit to the second. */
const step = fc.constantFrom(0, 1, 4_021, 90_007, 277_219, 731_413, 2_678_531);

const outcome = fc.constantFrom('paid', 'paid', 'paid', 'paid', 'bank_debit', 'incomplete');
const percentOff = fc.constantFrom(0, 0, 0, 0, 50, 100);

async function pay({ world: { sandbox } }: Real, which: number, how: Payment): Promise<void> {
  const open = [...sandbox.objects.checkouts.values()].filter(({ status }) => status === 'open');
  const session = pick(open, which);
  if (session) await unlessRefused(() => sandbox.acts.pay(session.id, how));
}

type Payment = NonNullable<Parameters<World['sandbox']['acts']['pay']>[1]>;

const payment: fc.Arbitrary<Payment> = fc
  .tuple(outcome, percentOff)
  .map(([how, off]) => ({ outcome: how, ...(off > 0 && { percentOff: off }) }));

const plan = fc.constantFrom('monthly', 'annual');

async function upgrade({ world, people }: Real, who: number, wanted: string): Promise<void> {
  const person = pick(people, who);
  if (person) await postForm(world.app, '/api/billing/checkout', { plan: wanted }, person.cookie);
}

const buys = fc.tuple(n, plan, payment).map(([who, wanted, how]) =>
  command(`buy(${who}, ${wanted}, ${JSON.stringify(how)})`, async (real) => {
    await upgrade(real, who, wanted);
    await pay(real, who, how);
  }),
);

const delivers = fc.boolean().map((backwards) =>
  command(`deliverAll(${backwards ? 'backwards' : 'in order'})`, async ({ world: { sandbox } }) => {
    const waiting = sandbox.webhooks.waiting();
    for (const event of backwards ? waiting.reverse() : waiting) await sandbox.webhooks.send(event);
  }),
);

/**
 * A purchase at a checkout of the merchant's own that names the user: a second subscription to the same plan, or
 * another product of the same account.
 */
async function buyElsewhere(real: Real, who: number, price: string, how: Payment): Promise<void> {
  const { world, people } = real;
  const { merchant, sandbox } = world;
  const person = pick(people, who);
  if (!person) return;
  const customers = [...sandbox.objects.customers.values()].filter(
    (one) => !('deleted' in one) && one.metadata['userId'] === person.id,
  );
  const customer = pick(customers, who)?.id;
  await unlessRefused(async () => {
    const session = await merchant.checkout.sessions.create({
      mode: 'subscription',
      client_reference_id: person.id,
      line_items: [{ price, quantity: 1 }],
      success_url: 'http://tandem.test/',
      ...(customer !== undefined && { customer }),
    });
    sandbox.acts.pay(session.id, how);
  });
}

const buysElsewhere = fc
  .tuple(n, fc.constantFrom('price_m', 'price_a', 'price_other'), payment)
  .map(([who, price, how]) =>
    command(`buyElsewhere(${who}, ${price}, ${JSON.stringify(how)})`, (real) =>
      buyElsewhere(real, who, price, how),
    ),
  );

/** Every action of users, merchants, banks, the network and time. */
export const COMMANDS: readonly fc.Arbitrary<Command>[] = [
  ...often(5, buys),
  ...often(4, delivers),
  ...often(2, buysElsewhere),
  fc
    .option(n, { freq: 4 })
    .map((friend) => command(`signUp(friend: ${friend})`, (real) => addPerson(real, friend))),
  fc
    .tuple(n, plan)
    .map(([who, wanted]) => command(`upgrade(${who}, ${wanted})`, (real) => upgrade(real, who, wanted))),
  fc
    .tuple(n, payment)
    .map(([which, how]) => command(`pay(${which}, ${JSON.stringify(how)})`, (real) => pay(real, which, how))),
  fc.tuple(n, fc.boolean()).map(([which, succeeded]) =>
    command(`settleDebit(${which}, ${succeeded})`, async ({ world: { sandbox } }) => {
      const session = pick(sandbox.objects.checkouts.keys(), which);
      if (session)
        await unlessRefused(() => {
          sandbox.acts.settleDebit(session, succeeded);
        });
    }),
  ),
  fc.tuple(n, fc.constantFrom('works', 'declined')).map(([which, behaviour]) =>
    command(`card(${which}, ${behaviour})`, async ({ world: { sandbox } }) => {
      const customer = pick(sandbox.objects.customers.keys(), which);
      if (customer)
        await unlessRefused(() => {
          sandbox.acts.setCard(customer, behaviour);
        });
    }),
  ),
  n.map((which) =>
    command(`retryPayment(${which})`, async ({ world: { sandbox } }) => {
      const subscription = pick(sandbox.objects.subscriptions.keys(), which);
      if (subscription)
        await unlessRefused(() => {
          sandbox.acts.retryPayment(subscription);
        });
    }),
  ),
  fc.tuple(n, fc.option(fc.integer({ min: 1, max: 500 }))).map(([which, amount]) =>
    command(`refund(${which}, ${amount ?? 'all'})`, async ({ world: { sandbox, merchant } }) => {
      const charge = pick(sandbox.objects.charges.keys(), which);
      if (!charge) return;
      await unlessRefused(() => merchant.refunds.create({ charge, ...(amount !== null && { amount }) }));
    }),
  ),
  n.map((which) => command(`failRefund(${which})`, (real) => endRefund(real, 'failRefund', which))),
  n.map((which) => command(`cancelRefund(${which})`, (real) => endRefund(real, 'cancelRefund', which))),
  n.map((which) =>
    command(`appealDispute(${which})`, async ({ world: { sandbox } }) => {
      const dispute = pick(sandbox.objects.disputes.keys(), which);
      if (dispute)
        await unlessRefused(() => {
          sandbox.acts.appealDispute(dispute);
        });
    }),
  ),
  n.map((which) =>
    command(`markUnpaid(${which})`, async ({ world: { sandbox } }) => {
      const subscription = pick(sandbox.objects.subscriptions.keys(), which);
      if (subscription)
        await unlessRefused(() => {
          sandbox.acts.markUnpaid(subscription);
        });
    }),
  ),
  n.map((which) =>
    command(`openDispute(${which})`, async ({ world: { sandbox } }) => {
      const charge = pick(sandbox.objects.charges.keys(), which);
      if (charge) await unlessRefused(() => sandbox.acts.openDispute(charge));
    }),
  ),
  fc.tuple(n, fc.constantFrom('won', 'lost')).map(([which, outcome]) =>
    command(`closeDispute(${which}, ${outcome})`, async ({ world: { sandbox } }) => {
      const dispute = pick(sandbox.objects.disputes.keys(), which);
      if (dispute)
        await unlessRefused(() => {
          sandbox.acts.closeDispute(dispute, outcome);
        });
    }),
  ),
  fc.tuple(n, fc.boolean()).map(([which, now]) =>
    command(`cancel(${which}, ${now ? 'now' : 'at the end'})`, async ({ world: { sandbox, merchant } }) => {
      const subscription = pick(sandbox.objects.subscriptions.keys(), which);
      if (!subscription) return;
      await unlessRefused(() =>
        now
          ? merchant.subscriptions.cancel(subscription)
          : merchant.subscriptions.update(subscription, { cancel_at_period_end: true }),
      );
    }),
  ),
  n.map((which) =>
    command(`deleteCustomer(${which})`, async ({ world: { sandbox, merchant } }) => {
      const customer = pick(sandbox.objects.customers.keys(), which);
      if (customer) await unlessRefused(() => merchant.customers.del(customer));
    }),
  ),
  n.map((who) =>
    command(`deleteAccount(${who})`, async ({ world, people }) => {
      const person = pick(people, who);
      if (person) await deleteAccount(world, person);
    }),
  ),
  fc.tuple(n, fc.constantFrom(1, 30, 400)).map(([who, days]) =>
    command(`grantCredit(${who}, ${days})`, async ({ world, people, book }) => {
      const person = pick(people, who);
      const user = await world.db.user.findUnique({ where: { id: person?.id ?? '', deletedAt: null } });
      if (!person || !user) return;
      await grantCredit(commandContext(world), person.email, days, undefined);
      book?.grant(person.id, days);
    }),
  ),
  ...often(
    2,
    step.map((seconds) => command(`passTime(${seconds})`, (real) => letPass(real, seconds))),
  ),
  n.map((which) =>
    command(`deliver(${which})`, async ({ world: { sandbox } }) => {
      const event = pick(sandbox.webhooks.waiting(), which);
      if (event) await sandbox.webhooks.send(event);
    }),
  ),
  fc.integer({ min: 2, max: 4 }).map((count) =>
    command(`deliverAtOnce(${count})`, async ({ world: { sandbox } }) => {
      await Promise.all(
        sandbox.webhooks
          .waiting()
          .slice(0, count)
          .map((id) => sandbox.webhooks.send(id)),
      );
    }),
  ),
  n.map((which) =>
    command(`deliverAgain(${which})`, async ({ world: { sandbox } }) => {
      const event = pick(sandbox.objects.events.keys(), which);
      if (event) await sandbox.webhooks.send(event);
    }),
  ),
  n.map((which) =>
    command(`drop(${which})`, (real) => {
      const { webhooks } = real.world.sandbox;
      const event = pick(webhooks.waiting(), which);
      if (event) webhooks.drop(event);
      real.dropped ||= event !== undefined;
      return Promise.resolve();
    }),
  ),
  fc
    .tuple(n, fc.constantFrom('Customer', 'Subscription', 'AuditRow', 'CreditEntry', 'Invoice'))
    .map(([which, table]) =>
      command(`crash(${which}, at ${table})`, async ({ world }) => {
        const event = pick(world.sandbox.webhooks.waiting(), which);
        if (event) await crashingAt(world, table, () => world.sandbox.webhooks.send(event));
      }),
    ),
];
