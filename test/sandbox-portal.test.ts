import { expect, test } from 'vitest';

import { startHeldSandbox } from './support/held-sandbox.ts';
import { PRICES } from './support/sandbox.ts';
import { DAY, START } from './support/server.ts';

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
    /** Presses a button, and returns the answer's status. */
    press: async (action: string, fields: Record<string, string> = {}) => {
      const body = new URLSearchParams({ action, ...fields });
      const answer = await fetch(url, { method: 'POST', body, redirect: 'manual' });
      return answer.status;
    },
    /** The actions that a customer has. */
    own: async () => actionsIn((await (await fetch(url)).text()).split('<aside')[0]),
    /** The actions in the control panel, apart from those that are always there. */
    offers: async () =>
      actionsIn((await (await fetch(url)).text()).split('<aside')[1]).filter(
        (action) => !/^pass_(day|week|month)$|^lose_/.test(action),
      ),
  };
}

function actionsIn(html = ''): string[] {
  return [...html.matchAll(/name="action"\s+value="(\w+)"/g)].map(([, action = '']) => action);
}

test('the portal separates what a customer can do from what the control panel can do', async () => {
  const { url, page, own, offers } = await atPortal();
  expect(await own()).toEqual(['cancel_at_period_end', 'switch', 'change_card']);
  expect(await offers()).toEqual(['pass_next', 'card_declined', 'dispute_open', 'refund_last', 'cancel_now']);
  const html = await page();
  expect(html).toMatch(/<main[^]*<\/main>\s*<aside class="control-panel" aria-labelledby="control-panel">/);
  const policy = (await fetch(url)).headers.get('content-security-policy');
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain("form-action 'self';");
  expect(html).not.toContain('<script');
});

test.each([
  [26.5, '27 days'],
  [28, 'a month'],
  [44.5, '45 days'],
  [45.25, '46 days'],
  [50, '50 days'],
  [60, '2 months'],
])('a plan whose trial ends in %f days offers to let %s pass', async (days, span) => {
  const { sandbox, page } = await atPortal(Math.ceil(days));
  sandbox.later((Math.ceil(days) - days) * DAY);
  expect(await page()).toContain(`Let ${span} pass: `);
});

test('a canceled plan is resumed', async () => {
  const { sandbox, page, press, own } = await atPortal();
  sandbox.fresh();
  expect(await press('cancel_at_period_end')).toBe(303);
  expect(await own()).toEqual(['resume', 'change_card']);
  expect(await page()).toContain('Ends on 10 February 2027');
  await press('resume');
  // A button of an outdated page does nothing.
  await press('resume');
  expect(sandbox.fresh().map(({ type, data }) => [type, data.previous_attributes])).toMatchObject([
    ['customer.subscription.updated', { cancel_at_period_end: false }],
    ['customer.subscription.updated', { cancel_at_period_end: true }],
  ]);
  expect(await page()).toContain('Renews on 10 February 2027');
});

test('a switch to annual starts a year now, and its invoice takes off what is left of the month', async () => {
  const { sandbox, stripe, page, press, subscription } = await atPortal();
  // 15.5 of 31 days.
  sandbox.later(15.5 * 86_400);
  sandbox.fresh();
  const now = START.getTime() / 1000 + 15.5 * 86_400;
  expect(await page()).toContain('Due today: $85.50, after a credit of $4.50 for the time left on Monthly');
  expect(await press('switch', { price: PRICES.annual })).toBe(303);

  const events = sandbox.fresh();
  expect(events.map(({ type }) => type)).toEqual([
    'customer.subscription.updated',
    'charge.succeeded',
    'invoice_payment.paid',
    'invoice.paid',
  ]);
  expect(events[0]?.data).toMatchObject({
    object: {
      id: subscription,
      status: 'active',
      billing_cycle_anchor: now,
      items: { data: [{ price: { id: PRICES.annual }, current_period_start: now }] },
    },
    previous_attributes: {
      billing_cycle_anchor: START.getTime() / 1000,
      items: { data: [{ price: { id: PRICES.monthly }, current_period_start: START.getTime() / 1000 }] },
      latest_invoice: expect.stringMatching(/^in_/) as string,
    },
  });
  const [invoice] = (await stripe.invoices.list()).data;
  expect(invoice).toMatchObject({
    billing_reason: 'subscription_update',
    amount_paid: 8550,
    lines: { data: [{ amount: -450, description: 'Unused time on Monthly' }, { amount: 9000 }] },
  });
  expect(await page()).toContain('Renews on 25 January 2028');
});

test('a switch to monthly keeps what the year has left as credit, which pays the next invoices', async () => {
  const { sandbox, stripe, page, press } = await atPortal();
  await press('switch', { price: PRICES.annual });
  sandbox.later(60);
  await press('switch', { price: PRICES.monthly });
  expect(await page()).toContain('Your credit of $81.00 will be applied to your next invoices.');
  await press('pass_next');
  const [renewal, back] = (await stripe.invoices.list()).data;
  expect(back).toMatchObject({ total: -8100, amount_due: 0, ending_balance: -8100, status: 'paid' });
  expect(renewal).toMatchObject({ total: 900, amount_paid: 0, ending_balance: -7200, status: 'paid' });
});

test('a switch that the bank refuses to pay changes nothing and says so', async () => {
  const { sandbox, stripe, press, subscription } = await atPortal();
  await press('card_declined');
  sandbox.fresh();
  expect(await press('switch', { price: PRICES.annual })).toBe(402);
  expect(sandbox.fresh()).toEqual([]);
  const { items } = await stripe.subscriptions.retrieve(subscription);
  expect(items.data[0]?.price.id).toBe(PRICES.monthly);
  // No price but those of the same product.
  expect(await press('switch', { price: 'price_unknown' })).toBe(303);
  expect(sandbox.fresh()).toEqual([]);
});

test('a switch during a trial costs nothing, and the trial goes on', async () => {
  const { sandbox, page, press } = await atPortal(7);
  sandbox.fresh();
  await press('switch', { price: PRICES.annual });
  const [updated, ...nothing] = sandbox.fresh();
  expect(nothing).toEqual([]);
  expect(updated?.data).toMatchObject({ object: { status: 'trialing' } });
  expect(Object.keys(updated?.data.previous_attributes ?? {})).toEqual(['items']);
  expect(await page()).toContain('Trial ends on 17 January 2027');
});

test('a new card pays what the old one could not, and the invoices are listed', async () => {
  const { sandbox, page, press, own } = await atPortal();
  await press('card_declined');
  await press('pass_next');
  expect(await page()).toContain('The payment of $9.00 failed. The next attempt is on 13 February 2027.');
  expect(await own()).toEqual(['pay', 'cancel_at_period_end', 'change_card']);
  expect(await press('pay')).toBe(402);
  sandbox.fresh();
  await press('change_card');
  expect(sandbox.fresh()).toMatchObject([
    { type: 'customer.updated', data: { previous_attributes: { invoice_settings: {} } } },
  ]);
  expect(await page()).toContain('Mastercard •••• 4444, works');
  await press('pay');
  expect(sandbox.told()).toEqual([
    'charge.succeeded',
    'customer.subscription.updated',
    'invoice.paid',
    'invoice_payment.paid',
  ]);
  const cells = [...(await page()).matchAll(/<td>(.*?)<\/td>/g)].map(([, cell]) => cell);
  expect(cells).toEqual([
    ...['10 February 2027', '$9.00', 'Paid', '1 × Monthly'],
    ...['10 January 2027', '$9.00', 'Paid', '1 × Monthly'],
  ]);
  await press('refund_last');
  expect(await page()).toContain('<td>Refunded</td>');
});

test('a declined card makes a renewal fail, until the plan ends or the card works again', async () => {
  const { sandbox, page, press, offers, subscription } = await atPortal();
  const status = () => sandbox.objects.subscriptions.get(subscription)?.status;
  expect(await press('card_declined')).toBe(303);
  expect(await offers()).toContain('card_works');
  await press('pass_next');
  expect(status()).toBe('past_due');
  const shown = await page();
  expect(shown).toContain('Past due');
  expect(shown).toContain('the payment is tried again');
  await press('card_works');
  await press('pass_next');
  expect(status()).toBe('active');

  await press('card_declined');
  for (let tries = 0; tries < 4; tries += 1) {
    expect(status()).not.toBe('canceled');
    await press('pass_next');
  }
  expect(status()).toBe('canceled');
});

test('the last payment can be refunded, once', async () => {
  const { sandbox, stripe, page, press, offers } = await atPortal();
  await press('refund_last');
  expect([...sandbox.objects.charges.values()][0]).toMatchObject({ refunded: true, amount_refunded: 900 });
  expect(await page()).toContain('$9.00 refunded');
  expect(await offers()).toEqual(['pass_next', 'card_declined', 'dispute_open', 'cancel_now']);
  // An outdated page does no harm.
  expect(await press('refund_last')).toBe(303);
  expect((await stripe.refunds.list()).data).toHaveLength(1);
});

test('a dispute is opened, lost, and then won', async () => {
  const { stripe, press, offers } = await atPortal();
  await press('dispute_open');
  expect(await offers()).toEqual(['pass_next', 'card_declined', 'dispute_lost', 'dispute_won', 'cancel_now']);
  await press('dispute_lost');
  expect(await offers()).toEqual(['pass_next', 'card_declined', 'dispute_won', 'cancel_now']);
  await press('dispute_won');
  expect(await offers()).toEqual(['pass_next', 'card_declined', 'cancel_now']);
  expect((await stripe.disputes.list()).data.map((one) => one.status)).toEqual(['won']);
  expect(await press('dispute_lost')).toBe(303);
  expect((await stripe.disputes.list()).data.map((one) => one.status)).toEqual(['won']);
  expect(await press('rob_the_bank')).toBe(400);
});

test('a payment that was never made cannot be refunded or disputed', async () => {
  const { offers } = await atPortal(7);
  expect(await offers()).toEqual(['pass_next', 'card_declined', 'cancel_now']);
});
