import { Stripe } from 'stripe';
import { expect, onTestFinished, vi } from 'vitest';

import { startSandbox } from '../../src/sandbox/sandbox.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { eventContextOf } from '../../src/stripe/handle-event.ts';
import { reconcile } from '../../src/stripe/reconcile/reconcile.ts';
import type { ReconcileReport } from '../../src/stripe/reconcile/report.ts';
import { SANDBOX_OPTIONS, sandboxClient } from './sandbox.ts';
import { clientOf, PATIENT, postForm, START, startTestServer, WEBHOOK_SECRET } from './server.ts';
import type { Person, TestServer } from './server.ts';

/** The server under test with the stand-in for Stripe, both on one clock. */
export interface World extends TestServer {
  sandbox: Sandbox;
  /** A merchant's actions at Stripe, through the real package. */
  merchant: Stripe;
}

/** Starts both. Webhooks are held: nothing is delivered until a test calls `deliverWaiting` or `sandbox.webhooks`. */
export async function startWorld(env: NodeJS.ProcessEnv = {}, bounds = PATIENT): Promise<World> {
  const clock = { now: START };
  let webhookUrl = '';
  const sandbox = await startSandbox({
    ...SANDBOX_OPTIONS,
    publicHost: '127.0.0.1',
    webhookSecret: WEBHOOK_SECRET,
    webhookUrl: () => webhookUrl,
    prices: { monthly: 'price_m', annual: 'price_a' },
    otherPrice: 'price_other',
    now: () => clock.now,
  });
  sandbox.webhooks.hold();
  const server = await startTestServer(
    { STRIPE_API_KEY: SANDBOX_OPTIONS.apiKey, STRIPE_API_BASE: sandbox.url, ...env },
    clock,
    bounds,
  );
  webhookUrl = `${await server.app.listen({ host: '127.0.0.1', port: 0 })}/api/stripe/webhook`;
  const merchant = sandboxClient(sandbox);
  let stopped: Promise<void> | null = null;
  const stop = (): Promise<void> => {
    stopped ??= server.stop().then(() => sandbox.close());
    return stopped;
  };
  onTestFinished(stop);
  return { ...server, sandbox, merchant, stop };
}

/** Delivers all waiting events in order; each must be acknowledged. */
export async function deliverWaiting({ sandbox }: World): Promise<void> {
  for (const id of sandbox.webhooks.waiting()) expect(await sandbox.webhooks.send(id)).toBe(200);
}

/** Loses all waiting events: they never arrive by themselves. */
export function dropWaiting({ sandbox }: World): void {
  for (const id of sandbox.webhooks.waiting()) sandbox.webhooks.drop(id);
}

/** Moves the clock and runs everything that is due until then. It delivers nothing. */
export async function passTime({ clock, sandbox }: World, seconds: number): Promise<void> {
  clock.now = new Date(clock.now.getTime() + seconds * 1000);
  await sandbox.acts.advance();
}

/** Presses Upgrade and returns where it leads. */
export async function pressUpgrade(
  { app }: World,
  person: Person,
  plan: 'monthly' | 'annual' = 'monthly',
): Promise<string> {
  const answer = await postForm(app, '/api/billing/checkout', { plan }, person.cookie);
  expect(answer.statusCode).toBe(303);
  return answer.headers.location ?? '';
}

/** The id of the checkout session in a URL. */
export function sessionIdOf(url: string): string {
  return new URL(url).pathname.split('/').at(-1) ?? '';
}

/** Presses Upgrade and pays, delivers nothing, and returns the subscription's id. */
export async function subscribe(
  world: World,
  person: Person,
  how: Parameters<Sandbox['acts']['pay']>[1] = {},
): Promise<string> {
  const { subscription } = world.sandbox.acts.pay(sessionIdOf(await pressUpgrade(world, person)), how);
  return subscription ?? '';
}

/** The payment of a subscription's first invoice, or of another one. */
export function paymentOf({ sandbox }: World, subscription: string, which = 0): string {
  const invoices = [...sandbox.objects.invoices.values()].filter(
    (invoice) => invoice.parent.subscription_details.subscription === subscription,
  );
  const invoice = invoices[which]?.id;
  const payment = [...sandbox.objects.invoicePayments.values()].find((one) => one.invoice === invoice);
  return payment?.payment.payment_intent ?? '';
}

/** Makes the next attempt to void an invoice fail, as it does while the bank still decides on the payment. */
export function letBankDecide(world: World): void {
  const stillOpen = new Stripe.errors.StripeInvalidRequestError({ type: 'invalid_request_error' });
  vi.spyOn(clientOf(world).invoices, 'voidInvoice').mockRejectedValueOnce(stillOpen);
}

/** Makes the next attempt to expire a checkout fail, as it may while a payment in it is under way. */
export function refuseToExpire(world: World): void {
  const error = { type: 'invalid_request_error', statusCode: 400 } as const;
  const refused = new Stripe.errors.StripeInvalidRequestError(error);
  vi.spyOn(clientOf(world).checkout.sessions, 'expire').mockRejectedValueOnce(refused);
}

/** Does something right before the next checkout is expired at Stripe, or right after. */
export function aroundExpiry(
  world: World,
  acts: { before?: () => unknown; after?: () => Promise<unknown> },
): void {
  const { sessions } = clientOf(world).checkout;
  const expire = sessions.expire.bind(sessions);
  vi.spyOn(sessions, 'expire').mockImplementationOnce(async (id) => {
    await acts.before?.();
    const expired = await expire(id);
    await acts.after?.();
    return expired;
  });
}

/** Does something right before the next subscription is cancelled at Stripe. */
export function beforeCancellation(world: World, act: () => Promise<unknown>): void {
  const { subscriptions } = clientOf(world);
  const cancel = subscriptions.cancel.bind(subscriptions);
  vi.spyOn(subscriptions, 'cancel').mockImplementationOnce(async (id) => {
    await act();
    return cancel(id);
  });
}

/** The ids of the checkout sessions that can be paid. */
export function openSessions({ sandbox }: World): string[] {
  return [...sandbox.objects.checkouts.values()].filter((one) => one.status === 'open').map((one) => one.id);
}

/** What `reconcile` does, without its output. */
export function reconcileWorld(
  world: World,
  seconds: number | null = null,
  dryRun = false,
): Promise<ReconcileReport> {
  const { db, config, clock } = world;
  const stripe = clientOf(world);
  const events = eventContextOf({ db, config, stripe });
  const context = { db, stripe, events, now: () => clock.now, dryRun, progress: () => undefined };
  return reconcile(context, seconds);
}
