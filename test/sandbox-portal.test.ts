import { expect, test } from 'vitest';

import { PRICES, startHeldSandbox } from './support/held-sandbox.ts';

/** A user who bought a plan and has opened the portal. */
async function atPortal(trialDays?: number) {
  const sandbox = await startHeldSandbox();
  const { stripe } = sandbox;
  const customer = await stripe.customers.create({ email: 'ann@example.com' });
  const session = await stripe.checkout.sessions.create({
    mode: 'subscription',
    customer: customer.id,
    line_items: [{ price: PRICES.monthly }],
    success_url: 'http://app.test/',
    ...(trialDays !== undefined && { subscription_data: { trial_period_days: trialDays } }),
  });
  const { subscription } = sandbox.acts.pay(session.id);
  const portal = await stripe.billingPortal.sessions.create({ customer: customer.id });
  const url = `http://127.0.0.1:${sandbox.apiPort}/portal/${portal.id}`;
  return {
    sandbox,
    stripe,
    url,
    subscription: subscription ?? '',
    page: async () => (await fetch(url)).text(),
    press: async (action: string) => {
      const body = new URLSearchParams({ action });
      const answer = await fetch(url, { method: 'POST', body, redirect: 'manual' });
      return answer.status;
    },
    /** The actions in the bank's section. */
    offers: async () => {
      const [, bank = ''] = (await (await fetch(url)).text()).split('What the bank and Stripe can do</h2>');
      return [...bank.matchAll(/name="action" value="(\w+)"/g)].map(([, action]) => action);
    },
  };
}

test('the portal keeps the actions of the bank and Stripe apart from those of a customer', async () => {
  const { url, page } = await atPortal();
  const [own = '', bank = ''] = (await page()).split('What the bank and Stripe can do</h2>');
  expect(own).toContain('value="cancel_now"');
  expect(own).toContain('value="cancel_at_period_end"');
  expect(own).not.toMatch(/value="(renew_now|card_|refund_|dispute_)/);
  expect(bank).not.toContain('value="cancel_');
  expect(own).toContain('aria-labelledby="bank"');
  const policy = (await fetch(url)).headers.get('content-security-policy');
  expect(policy).toContain("default-src 'none'");
  expect(own + bank).not.toContain('<script');
});

test('a declined card makes a renewal fail, until the plan ends or the card works again', async () => {
  const { sandbox, page, press, offers, subscription } = await atPortal();
  const status = () => sandbox.objects.subscriptions.get(subscription)?.status;
  expect(await offers()).toEqual(['renew_now', 'card_declined', 'refund_last', 'dispute_open']);
  expect(await press('card_declined')).toBe(303);
  expect(await offers()).toContain('card_works');
  await press('renew_now');
  expect(status()).toBe('past_due');
  const shown = await page();
  expect(shown).toContain('past due');
  expect(shown).toContain('the payment is tried again');
  await press('card_works');
  await press('renew_now');
  expect(status()).toBe('active');

  await press('card_declined');
  for (let tries = 0; tries < 4; tries += 1) {
    expect(status()).not.toBe('canceled');
    await press('renew_now');
  }
  expect(status()).toBe('canceled');
});

test('the last payment can be refunded, once', async () => {
  const { sandbox, stripe, page, press, offers } = await atPortal();
  await press('refund_last');
  expect([...sandbox.objects.charges.values()][0]).toMatchObject({ refunded: true, amount_refunded: 900 });
  expect(await page()).toContain('$9.00 refunded');
  expect(await offers()).toEqual(['renew_now', 'card_declined', 'dispute_open']);
  // An outdated page does no harm.
  expect(await press('refund_last')).toBe(303);
  expect((await stripe.refunds.list()).data).toHaveLength(1);
});

test('a dispute is opened, lost, and then won', async () => {
  const { stripe, press, offers } = await atPortal();
  await press('dispute_open');
  expect(await offers()).toEqual(['renew_now', 'card_declined', 'dispute_lost', 'dispute_won']);
  await press('dispute_lost');
  expect(await offers()).toEqual(['renew_now', 'card_declined', 'dispute_won']);
  await press('dispute_won');
  expect(await offers()).toEqual(['renew_now', 'card_declined']);
  expect((await stripe.disputes.list()).data.map((one) => one.status)).toEqual(['won']);
  expect(await press('dispute_lost')).toBe(303);
  expect((await stripe.disputes.list()).data.map((one) => one.status)).toEqual(['won']);
  expect(await press('rob_the_bank')).toBe(400);
});

test('a payment that was never made cannot be refunded or disputed', async () => {
  const { offers } = await atPortal(7);
  expect(await offers()).toEqual(['renew_now', 'card_declined']);
});
