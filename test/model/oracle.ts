import { expect } from 'vitest';

import type { Prisma } from '../../src/db/generated/client.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { DAY } from '../support/server.ts';
import type { World } from '../support/stand-in.ts';

// What must be true of every user, derived from the stand-in's objects alone, without the server's code or facts.

type Objects = Sandbox['objects'];
type Subscription = Objects['subscriptions'] extends ReadonlyMap<string, infer T> ? T : never;
type Invoice = Objects['invoices'] extends ReadonlyMap<string, infer T> ? T : never;

function invoicesOf({ invoices }: Objects, subscriptions: readonly Subscription[]): Invoice[] {
  const ids = new Set(subscriptions.map(({ id }) => id));
  return [...invoices.values()]
    .filter((invoice) => ids.has(invoice.parent.subscription_details.subscription))
    .filter((invoice) => invoice.status === 'paid' && invoice.amount_paid > 0);
}

function paidAt(invoice: Invoice): number {
  return invoice.status_transitions.paid_at ?? 0;
}

/** Every payment of it went back, in full and in time, and no refund failed or was cancelled. */
function isMoneyBack(objects: Objects, invoice: Invoice, clawbackDays: number): boolean {
  const inTime = (at: number): boolean => at - paidAt(invoice) <= clawbackDays * DAY;
  const payments = [...objects.invoicePayments.values()].filter(
    (one) => one.invoice === invoice.id && one.status === 'paid',
  );
  const isBack = (intent: string): boolean => {
    const charge = [...objects.charges.values()].find(
      (one) => one.payment_intent === intent && one.status === 'succeeded',
    );
    const refunds = [...objects.refunds.values()].filter(
      (one) => one.payment_intent === intent && one.status === 'succeeded',
    );
    const fullAt = Math.max(...refunds.map(({ created }) => created));
    // Lost and not won since: an undecided appeal changes nothing.
    const lost = [...objects.disputes.values()].some(
      (one) =>
        one.payment_intent === intent &&
        ['lost', 'appeal_under_review'].includes(one.status) &&
        inTime(one.created),
    );
    return (charge?.refunded === true && inTime(fullAt)) || lost;
  };
  return payments.length > 0 && payments.every(({ payment }) => isBack(payment.payment_intent));
}

/** It is for a product that the server sells, or the server sells every product. */
function isOurs(subscription: Subscription, products: readonly string[] | null): boolean {
  return products === null || subscription.items.data.some(({ price }) => products.includes(price.product));
}

function tierOf(objects: Objects, subscriptions: readonly Subscription[]): string {
  const isPaid = (one: Subscription): boolean =>
    one.status === 'active' || (one.status === 'past_due' && invoicesOf(objects, [one]).length > 0);
  if (subscriptions.some(isPaid)) return 'paid';
  return subscriptions.some(({ status }) => status === 'trialing') ? 'trial' : 'free';
}

type UserWithFacts = Prisma.UserGetPayload<{ include: { customers: true; referredBy: true } }>;

/** Every user with the subscriptions, to our products, of all their customers, as Stripe has them. */
export type UsersAtStripe = readonly (readonly [UserWithFacts, readonly Subscription[]])[];

/** One look at the rows of all users, and at Stripe's side of each. */
export async function lookAtUsers({ db, sandbox, config }: World): Promise<UsersAtStripe> {
  const users = await db.user.findMany({ include: { customers: true, referredBy: true } });
  return users.map((user) => {
    const customers = new Set(user.customers.map(({ id }) => id));
    // No plan here changes to another product, so what counts now has always counted.
    const subscriptions = [...sandbox.objects.subscriptions.values()].filter(
      (one) => customers.has(one.customer) && isOurs(one, config.stripe.products),
    );
    return [user, subscriptions];
  });
}

/** Whether each user pays. */
export function whoPays({ sandbox: { objects } }: World, users: UsersAtStripe): Map<string, boolean> {
  return new Map(users.map(([{ id }, subscriptions]) => [id, tierOf(objects, subscriptions) === 'paid']));
}

/** The referrals with a payment by the friend that did not go back. */
export function whatHolds({ sandbox: { objects }, config }: World, users: UsersAtStripe): Set<string> {
  const holding = users.filter(([, subscriptions]) =>
    invoicesOf(objects, subscriptions).some((invoice) => !isMoneyBack(objects, invoice, config.clawbackDays)),
  );
  return new Set(holding.flatMap(([{ referredBy }]) => referredBy?.id ?? []));
}

/** Compares every user, and every referral of a living user, with Stripe's side. */
export async function expectTruth(world: World): Promise<void> {
  const users = await lookAtUsers(world);
  const holding = whatHolds(world, users);
  for (const [user, subscriptions] of users) {
    expect([user.id, user.tier]).toEqual([user.id, tierOf(world.sandbox.objects, subscriptions)]);

    if (!user.referredBy || user.deletedAt) continue;
    const { id, convertedAt, reversedAt } = user.referredBy;
    expect([user.id, convertedAt !== null && reversedAt === null]).toEqual([user.id, holding.has(id)]);
  }
  await expectConversionCredit(world, holding);
}

/**
 * For a conversion that holds, both were granted 45 days and have all of them. For any other referral, nobody was granted
 * anything but 45 days, and no more than that was taken back.
 */
async function expectConversionCredit({ db }: World, holding: ReadonlySet<string>): Promise<void> {
  const referrals = await db.referral.findMany({ include: { referrer: true, referred: true } });
  const entries = await db.creditEntry.findMany({ where: { referralId: { not: null } } });
  for (const { id, referrer, referred } of referrals) {
    for (const user of [referrer, referred]) {
      if (!user || user.deletedAt) continue;
      const sum = (kind: string): number =>
        entries
          .filter((entry) => entry.userId === user.id && entry.referralId === id && entry.kind === kind)
          .reduce((total, { seconds }) => total + seconds, 0);
      const granted = sum('grant');
      const kept = granted - sum('reversal') + sum('restoration');
      const told = { user: user.id, referral: id };
      if (holding.has(id) && !referred.deletedAt) {
        expect({ ...told, granted, kept }).toEqual({ ...told, granted: 45 * DAY, kept: 45 * DAY });
      } else {
        expect([0, 45 * DAY]).toContain(granted);
        expect(kept).toBeGreaterThanOrEqual(0);
      }
    }
  }
}
