import type { LightMyRequestResponse } from 'fastify';
import { expect, test } from 'vitest';

import { resetLink } from '../src/operator/reset-link.ts';
import { unsubscribeUrl } from '../src/outbox/links.ts';
import { commandContext } from './support/command-context.ts';
import { askFor, MAIL, provePath } from './support/mail.ts';
import {
  clientOf,
  cookiesOf,
  DAY,
  daysAfter,
  deliverAll,
  logInAgain,
  me,
  PASSWORD,
  postForm,
  SESSION_SECRET,
  signUp,
  START,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { buyer, epoch } from './support/stripe-events.ts';
import type { Buyer } from './support/stripe-events.ts';
import { visibleText } from './support/visible-text.ts';

const PERIOD_END = daysAfter(31);
const PUBLIC_PAGES = ['/', '/pricing', '/signup', '/login', '/forgot', '/docs', '/no-such-page'];

function visit({ app }: TestServer, url: string, cookie = ''): Promise<LightMyRequestResponse> {
  return app.inject({ url, headers: { cookie, accept: 'text/html' } });
}

/** The visible text of a page. */
async function read(server: TestServer, url: string, cookie = ''): Promise<string> {
  const { body } = await visit(server, url, cookie);
  return visibleText(body);
}

/** Somebody buys a plan: Stripe's events, with the given fields of the subscription. */
async function buy(server: TestServer, person: Person, fields: Record<string, unknown> = {}) {
  const stripe = buyer(person.id);
  const at = server.clock.now;
  await deliverAll(server, [stripe.created(fields, { at }), stripe.checkoutCompleted({}, { at })]);
  return stripe;
}

/** Ann and Bob, whom she invited. */
async function annAndBob(env = {}): Promise<{ server: TestServer; ann: Person; bob: Person }> {
  const server = await startTestServer(env);
  const ann = await signUp(server, 'ann@example.com');
  return { server, ann, bob: await signUp(server, 'bob@example.com', ann.code) };
}

const PORTFOLIO = { format: 'tandem-portfolio', version: 1, currency: 'EUR', holdings: [] };

/**
 * Every page, as a visitor, an invited visitor, Ann and the subscriber Bob see it. Ann's personal links work, and
 * Bob has a backup.
 */
async function everyPage(): Promise<{ url: string; body: string }[]> {
  const { server, ann, bob } = await annAndBob(MAIL);
  await buy(server, bob);
  const { url: resetUrl } = (await resetLink(commandContext(server, MAIL), ann.id)).json as { url: string };
  const backup = { url: '/api/backups', headers: { cookie: bob.cookie }, payload: PORTFOLIO };
  expect((await server.app.inject({ method: 'POST', ...backup })).statusCode).toBe(201);
  await askFor(server, ann, 'new@example.com');
  const maker = { publicUrl: server.config.publicUrl, secret: SESSION_SECRET };
  const links = [
    new URL(resetUrl).pathname,
    await provePath(server, ann),
    new URL(unsubscribeUrl(maker, await userRow(server, ann.id))).pathname,
  ];
  const spent = ['/reset/x', '/verify/x', '/unsubscribe/x'];
  const pages: { url: string; body: string }[] = [];
  const invited = cookiesOf(await visit(server, `/r/${ann.code}`));
  for (const cookie of ['', invited, ann.cookie, bob.cookie]) {
    for (const url of [...PUBLIC_PAGES, ...links, ...spent, '/settings', '/portfolio']) {
      const { statusCode, body } = await visit(server, url, cookie);
      if (links.includes(url)) expect(statusCode, url).toBe(200);
      pages.push({ url, body });
    }
  }
  return pages;
}

function after(seconds: number): Date {
  return new Date(START.getTime() + seconds * 1000);
}

const nothing = { creditUntil: null, creditHeld: false, creditDays: 0 };

function shownReferral({ code }: Person, invited: number, converted: number, activeCredits: number) {
  return { code, url: `http://tandem.test/r/${code}`, invited, converted, activeCredits };
}

test('/api/me of a new account shows tier free without credit', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  expect(await me(server, ann)).toEqual({
    id: ann.id,
    email: 'ann@example.com',
    emailProven: false,
    tier: 'free',
    ...nothing,
    access: { granted: false, until: null, reason: null },
    referral: shownReferral(ann, 0, 0, 0),
    subscription: null,
  });
});

test('/api/me of a referrer who does not pay shows running credit', async () => {
  const { server, ann, bob } = await annAndBob();
  await buy(server, bob);
  server.clock.now = daysAfter(10);
  const creditUntil = daysAfter(45).toISOString();
  expect(await me(server, ann)).toEqual({
    id: ann.id,
    email: 'ann@example.com',
    emailProven: false,
    tier: 'free',
    creditUntil,
    creditHeld: false,
    creditDays: 35,
    access: { granted: true, until: creditUntil, reason: 'credit' },
    referral: shownReferral(ann, 1, 1, 1),
    subscription: null,
  });
});

test('/api/me of a paying buyer shows held credit, as if it ran from now on', async () => {
  const { server, bob } = await annAndBob();
  await buy(server, bob);
  server.clock.now = daysAfter(10);
  expect(await me(server, bob)).toEqual({
    id: bob.id,
    email: 'bob@example.com',
    emailProven: false,
    tier: 'paid',
    creditUntil: daysAfter(55).toISOString(),
    creditHeld: true,
    creditDays: 45,
    access: { granted: true, until: PERIOD_END.toISOString(), reason: 'paid' },
    referral: shownReferral(bob, 0, 0, 0),
    subscription: {
      status: 'active',
      plan: 'monthly',
      currentPeriodEnd: PERIOD_END.toISOString(),
      cancelAt: null,
      cancelAtPeriodEnd: false,
      trialEnd: null,
    },
  });
});

test('/api/me of a trial shows access until the trial ends', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const trialEnd = daysAfter(14);
  await buy(server, ann, { status: 'trialing', trial_end: epoch(trialEnd) });
  expect(await me(server, ann)).toMatchObject({
    tier: 'trial',
    ...nothing,
    access: { granted: true, until: trialEnd.toISOString(), reason: 'trial' },
    subscription: { status: 'trialing', trialEnd: trialEnd.toISOString() },
  });
});

test('/api/me of an ended subscription shows it and no access', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const stripe = await buy(server, ann);
  server.clock.now = daysAfter(31);
  await deliverAll(server, [stripe.ended(daysAfter(31))]);
  expect(await me(server, { ...ann, cookie: await logInAgain(server, ann) })).toMatchObject({
    tier: 'free',
    ...nothing,
    access: { granted: false, until: null, reason: null },
    subscription: { status: 'canceled', plan: 'monthly' },
  });
});

function items(...prices: string[]) {
  return {
    data: prices.map((price, index) => ({
      id: `si_${index}`,
      price: { id: price, unit_amount: 900 },
      // A different end for each item: the first one's is PERIOD_END, as in all other tests.
      current_period_end: epoch(PERIOD_END) + index * DAY,
    })),
  };
}

/** In the shape before 2025-03, in which all items share the subscription's period. */
function oldItems(...prices: string[]) {
  const data = prices.map((price) => ({ price: { id: price, unit_amount: 900 } }));
  return { items: { data }, current_period_end: epoch(PERIOD_END) };
}

const NEXT_PERIOD_END = new Date(PERIOD_END.getTime() + DAY * 1000);
const LATER = daysAfter(90);

test.each([
  ['the annual price', { items: items('price_a') }, { plan: 'annual' }],
  ['a price that is not configured', { items: items('price_other') }, { plan: null }],
  ['cancel_at_period_end', { cancel_at_period_end: true }, { cancelAtPeriodEnd: true }],
  [
    'cancel_at',
    { cancel_at: epoch(PERIOD_END) },
    { cancelAt: PERIOD_END.toISOString(), cancelAtPeriodEnd: true },
  ],
  [
    'a cancel_at within the period',
    { cancel_at: epoch(daysAfter(10)) },
    { cancelAt: daysAfter(10).toISOString(), cancelAtPeriodEnd: true },
  ],
  [
    'a cancel_at after two more periods',
    { cancel_at: epoch(LATER) },
    { cancelAt: LATER.toISOString(), cancelAtPeriodEnd: false },
  ],
  [
    'an add-on listed before the plan',
    { items: items('price_add_on', 'price_a') },
    { plan: 'annual', currentPeriodEnd: NEXT_PERIOD_END.toISOString() },
  ],
  [
    'an add-on listed before the plan, in the shape before 2025-03',
    oldItems('price_add_on', 'price_a'),
    { plan: 'annual', currentPeriodEnd: PERIOD_END.toISOString() },
  ],
  [
    'an add-on listed after the plan',
    { items: items('price_m', 'price_add_on') },
    { plan: 'monthly', currentPeriodEnd: PERIOD_END.toISOString() },
  ],
  [
    'two prices that are not configured',
    { items: items('price_x', 'price_y') },
    { plan: null, currentPeriodEnd: PERIOD_END.toISOString() },
  ],
  ['an unknown status', { status: 'dancing' }, { status: 'dancing' }],
])('/api/me shows a subscription with %s', async (_name, fields, shown) => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await buy(server, ann, fields);
  expect(await me(server, ann)).toMatchObject({ subscription: shown });
});

test.each([
  ['a plan that renews', {}, PERIOD_END],
  ['a plan that ends with its period', { cancel_at_period_end: true }, PERIOD_END],
  ['a plan that ends during its period', { cancel_at: epoch(daysAfter(10)) }, daysAfter(10)],
  ['a plan that ends after two more periods', { cancel_at: epoch(LATER) }, LATER],
  ['a plan with an add-on listed before it', { items: items('price_add_on', 'price_a') }, NEXT_PERIOD_END],
  [
    'a trial that ends early',
    { status: 'trialing', trial_end: epoch(daysAfter(14)), cancel_at: epoch(daysAfter(10)) },
    daysAfter(10),
  ],
  [
    'a trial of a plan that ends later',
    { status: 'trialing', trial_end: epoch(daysAfter(14)), cancel_at: epoch(LATER) },
    daysAfter(14),
  ],
])('/api/me says how long access lasts: %s', async (_name, fields, until) => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await buy(server, ann, fields);
  expect(await me(server, ann)).toMatchObject({ access: { granted: true, until: until.toISOString() } });
});

test('a pause of the payments that is over is no longer shown', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const stripe = await buy(server, ann, { pause_collection: { behavior: 'void', resumes_at: null } });
  server.clock.now = daysAfter(1);
  await deliverAll(server, [stripe.updated({ pause_collection: null }, { at: daysAfter(1) })]);
  const words = await read(server, '/settings', ann.cookie);
  expect(words).toContain('Renews on 10 February 2027.');
  expect(words).not.toContain('nothing is charged');
});

test.each([
  [
    'an active one before a newer one that is past due',
    [{ status: 'past_due', created: epoch(START) + 60 }, { items: items('price_a') }],
  ],
  [
    'a past-due one that was paid before a newer one that is over',
    [
      { status: 'canceled', created: epoch(START) + 60 },
      { status: 'past_due', items: items('price_a') },
    ],
  ],
  ['the newer of two active ones', [{}, { created: epoch(START) + 60, items: items('price_a') }]],
  [
    'the newer of two that are over',
    [{ status: 'canceled' }, { status: 'canceled', created: epoch(START) + 60, items: items('price_a') }],
  ],
])('of several subscriptions /api/me shows %s, whichever came first', async (_name, subscriptions) => {
  const server = await startTestServer();
  for (const order of [subscriptions, subscriptions.toReversed()]) {
    const person = await signUp(server, `user${String(order === subscriptions)}@example.com`);
    for (const fields of order) {
      const stripe = await buy(server, person);
      server.clock.now = new Date(server.clock.now.getTime() + 1000);
      await deliverAll(server, [stripe.updated(fields, { at: server.clock.now })]);
    }
    expect(await me(server, person)).toMatchObject({ subscription: { plan: 'annual' } });
  }
});

test('a reversed referral counts as invited, not as converted or active', async () => {
  const { server, ann, bob } = await annAndBob();
  const stripe = await buy(server, bob);
  await deliverAll(server, [stripe.invoicePaid({ amount_paid: 0 })]);
  expect(await me(server, ann)).toMatchObject({ ...nothing, referral: shownReferral(ann, 1, 0, 0) });
});

test('/api/me without a session is 401 in JSON', async () => {
  const { app } = await startTestServer();
  const answer = await app.inject({ url: '/api/me', headers: { accept: 'text/html' } });
  expect(answer.statusCode).toBe(401);
  expect(answer.json()).toEqual({ error: { code: 'unauthorized', message: 'Log in first.' } });
});

test('Settings without a session redirects to the login page', async () => {
  const server = await startTestServer();
  const answer = await visit(server, '/settings');
  expect(answer.statusCode).toBe(303);
  expect(answer.headers.location).toBe('/login');
});

test('Settings shows the referral link with a copy button, and the code', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const { body } = await visit(server, '/settings', ann.cookie);
  expect(body).toMatch(
    new RegExp(`<input id="([^"]+)"[^>]*value="http://tandem.test/r/${ann.code}"[^>]* readonly`),
  );
  expect(body).toMatch(/<button [^>]*data-copy="referral-url"/);
  expect(body).toContain(`<code>${ann.code}</code>`);
});

test('Settings of a free account offers the upgrade', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const words = await read(server, '/settings', ann.cookie);
  expect(words).toContain('Free plan');
  expect(words).toContain('Upgrade');
  expect(words).not.toContain('Manage billing');
  expect(words).not.toContain('on your account');
});

test.each([
  ['active', {}, ['Monthly plan', 'Renews on 10 February 2027.', 'Manage billing']],
  ['annual', { items: items('price_a') }, ['Annual plan', 'Renews on 10 February 2027.']],
  ['ending', { cancel_at_period_end: true }, ['Ends on 10 February 2027.', 'paid access until then']],
  [
    'a trial',
    { status: 'trialing', trial_end: epoch(daysAfter(14)) },
    [
      'Free trial',
      'lasts until 24 January 2027.',
      'Then the monthly plan starts, with your first payment.',
      'Manage billing',
    ],
  ],
  [
    'a trial that ends',
    { status: 'trialing', trial_end: epoch(daysAfter(14)), cancel_at_period_end: true },
    ['Your trial ends on 24 January 2027, and you will not be charged.'],
  ],
  [
    'ending during its period',
    { cancel_at: epoch(daysAfter(10)) },
    ['Ends on 20 January 2027.', 'paid access until then'],
  ],
  [
    'ending after two more periods',
    { cancel_at: epoch(LATER) },
    ['Renews on 10 February 2027.', 'Ends on 10 April 2027.', 'paid access until then'],
  ],
  [
    'a trial that ends early',
    { status: 'trialing', trial_end: epoch(daysAfter(14)), cancel_at: epoch(daysAfter(10)) },
    ['Your trial ends on 20 January 2027, and you will not be charged.'],
  ],
  [
    'a trial of a plan that ends later',
    { status: 'trialing', trial_end: epoch(daysAfter(14)), cancel_at: epoch(LATER) },
    ['lasts until 24 January 2027.', 'with your first payment.', 'The plan ends on 10 April 2027.'],
  ],
  [
    'with payments paused',
    { pause_collection: { behavior: 'void', resumes_at: null } },
    ['Monthly plan', 'nothing is charged until they are resumed.'],
  ],
  [
    'with payments paused until a date',
    { pause_collection: { behavior: 'keep_as_draft', resumes_at: epoch(LATER) } },
    ['Monthly plan', 'nothing is charged before 10 April 2027.'],
  ],
  [
    'a trial with payments paused',
    {
      status: 'trialing',
      trial_end: epoch(daysAfter(14)),
      pause_collection: { behavior: 'void', resumes_at: null },
    },
    ['lasts until 24 January 2027.', 'nothing is charged until they are resumed.'],
  ],
  [
    'unpaid',
    { status: 'unpaid' },
    ['Monthly plan, not active', 'Stripe has stopped trying.', 'Manage billing'],
  ],
  ['paused', { status: 'paused' }, ['Monthly plan, not active', 'Your plan is paused.', 'Manage billing']],
])('Settings of a subscription that is %s shows the plan and its dates', async (_name, fields, expected) => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await buy(server, ann, fields);
  const words = await read(server, '/settings', ann.cookie);
  for (const part of expected) expect(words).toContain(part);
  if (!JSON.stringify(fields).includes('cancel')) expect(words).not.toContain('Ends on');
  for (const untrue of ['Renews on', 'nothing is charged', 'with your first payment'])
    if (!expected.some((part) => part.includes(untrue))) expect(words).not.toContain(untrue);
});

test.each(['unpaid', 'paused'])('with a plan that is %s, no page offers another one', async (status) => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await buy(server, ann, { status });
  const portfolio = await read(server, '/portfolio', ann.cookie);
  expect(portfolio).toContain('Your plan is not active at the moment: Settings says why.');
  expect(portfolio).not.toContain('Upgrade');
  const pricing = await read(server, '/pricing', ann.cookie);
  expect(pricing).toContain('You already have a plan.');
  expect(pricing).not.toContain('Choose monthly');
});

test.each([
  ['active', {}, 'Stripe no longer knows this plan, so it is not renewed.'],
  [
    'trialing',
    { trial_end: epoch(daysAfter(14)) },
    'Stripe no longer knows this trial, so no plan follows it.',
  ],
])(
  'no page promises the next period of a plan that Stripe no longer knows and that is %s',
  async (status, fields, what) => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    await buy(server, ann, { status, ...fields });
    await server.db.subscription.updateMany({ data: { missingAt: START } });
    const settings = await read(server, '/settings', ann.cookie);
    expect(settings).toContain(what);
    for (const promise of ['Renews on', 'until your plan renews', 'with your first payment'])
      expect(settings).not.toContain(promise);
    expect(await read(server, '/pricing', ann.cookie)).toContain('Monthly Your plan');
  },
);

test('Settings says that a renewal failed and that access continues', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const stripe = await buy(server, ann);
  server.clock.now = daysAfter(31);
  await deliverAll(server, [stripe.updated({ status: 'past_due' }, { at: server.clock.now })]);
  const words = await read(server, '/settings', await logInAgain(server, ann));
  expect(words).toContain('Your last payment failed. You keep paid access');
});

test('Settings counts friends, active credits and days, and rounds the days up', async () => {
  const { server, ann, bob } = await annAndBob();
  const cat = await signUp(server, 'cat@example.com', ann.code);
  const counts = (invited: number, converted: number, active: string) =>
    `Invited ${invited} signed up with your link ` +
    `Converted ${converted} made a first payment that counts ` +
    `Active credits ${active} converted in the last 45 days`;

  expect(await read(server, '/settings', ann.cookie)).toContain(counts(2, 0, '0'));
  await buy(server, bob);
  const stories: [number, string][] = [
    [0, '1 +45 days on your account'],
    [1, '1 +45 days on your account'],
    [DAY, '1 +44 days on your account'],
    [DAY + 1, '1 +44 days on your account'],
    [44 * DAY, '1 +1 day on your account'],
    [45 * DAY - 1, '1 +1 day on your account'],
    [45 * DAY, '1'],
    [45 * DAY + 1, '0'],
  ];
  for (const [seconds, active] of stories) {
    server.clock.now = after(seconds);
    expect(await read(server, '/settings', await logInAgain(server, ann))).toContain(counts(2, 1, active));
  }

  server.clock.now = daysAfter(50);
  await buy(server, cat);
  expect(await read(server, '/settings', await logInAgain(server, ann))).toContain(
    counts(2, 2, '1 +45 days on your account'),
  );
});

test('days granted more than 45 days ago are on the account although no credit is active', async () => {
  const { server, ann, bob } = await annAndBob();
  const cat = await signUp(server, 'cat@example.com', ann.code);
  await buy(server, bob);
  await buy(server, cat);
  expect(await read(server, '/settings', ann.cookie)).toContain('Active credits 2 +90 days on your account');
  server.clock.now = after(45 * DAY + 1);
  expect(await read(server, '/settings', await logInAgain(server, ann))).toContain(
    'Active credits 0 +45 days on your account',
  );
});

test('Settings says until when credit gives access, and that it is paused while its owner pays', async () => {
  const { server, ann, bob } = await annAndBob();
  await buy(server, bob);
  const annReads = await read(server, '/settings', ann.cookie);
  expect(annReads).toContain('You have paid access until 24 February 2027: 45 days left.');
  const bobReads = await read(server, '/settings', bob.cookie);
  expect(bobReads).toContain('45 days of paid access');
  expect(bobReads).toContain('paused while you pay. The countdown starts when your plan ends.');
  expect(bobReads).toContain('+45 days on your account');
});

test('Settings after a checkout says thanks once the payment is there, and does not wait for one that nobody made', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const before = await visit(server, '/settings?checkout=done', ann.cookie);
  expect(before.body).not.toContain('We are waiting');
  expect(before.body).toContain('>Upgrade<');
  await buy(server, ann);
  const afterwards = await visit(server, '/settings?checkout=done', ann.cookie);
  expect(afterwards.body).toContain('You have paid access now');
  expect(afterwards.body).not.toContain('We are waiting');
});

test('an address is shown as it is, escaped for HTML', async () => {
  const server = await startTestServer();
  const answer = await postForm(server.app, '/signup', {
    email: "o'neil@example.com",
    password: PASSWORD,
  });
  const { body } = await visit(server, '/settings', cookiesOf(answer));
  expect(body).toContain('o&#39;neil@example.com');
  expect(body).not.toContain("o'neil");
});

test.each(['/pricing', '/settings'])('%s promises 45 days of paid access for both', async (url) => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const words = await read(server, url, ann.cookie);
  expect(words).toContain('45 days of paid access');
  expect(words).toMatch(/both/);
});

test('no page mentions a discount', async () => {
  for (const { url, body } of await everyPage())
    expect(body, url).not.toMatch(/discount|coupon|voucher|promo|rebate|cheaper|\d ?% off|free month/i);
});

test('Pricing leads a visitor to sign up and sells nothing', async () => {
  const server = await startTestServer();
  const { body } = await visit(server, '/pricing');
  expect(body).toContain('href="/signup"');
  expect(body).not.toContain('action="/api/billing');
});

test('Pricing sells both plans to somebody without one, and leads a subscriber to the portal', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const before = (await visit(server, '/pricing', ann.cookie)).body;
  expect(before).toContain('action="/api/billing/checkout"');
  expect(before).toMatch(/name="plan" value="monthly"/);
  expect(before).toMatch(/name="plan" value="annual"/);
  expect(before).not.toContain('action="/api/billing/portal"');
  await buy(server, ann);
  const afterwards = (await visit(server, '/pricing', ann.cookie)).body;
  expect(afterwards).not.toContain('action="/api/billing/checkout"');
  expect(afterwards).toContain('action="/api/billing/portal"');
});

test('Pricing mentions a trial only when one is offered', async () => {
  const offered = await read(await startTestServer({ STRIPE_TRIAL_DAYS: '14' }), '/pricing');
  expect(offered).toContain('free trial of 14 days');
  expect(await read(await startTestServer(), '/pricing')).not.toContain('trial of');
});

test('every action button is of the settings-btn family', async () => {
  let buttons = 0;
  for (const { url, body } of await everyPage()) {
    for (const [tag] of body.matchAll(/<(button|input [^>]*type="submit")[^>]*>/g)) {
      // The buttons in the head of the table only sort it.
      if (tag.includes(' data-sort=')) continue;
      expect(tag, url).toMatch(/class="settings-btn[ "]/);
      buttons += 1;
    }
  }
  expect(buttons).toBeGreaterThan(50);
});

test('no page mentions the sandbox while it is off', async () => {
  for (const { url, body } of await everyPage()) expect(body, url).not.toContain('Sandbox');
});

const FORM = { 'content-type': 'application/x-www-form-urlencoded' };

test.each([
  ['an unknown address', 404, { url: '/no-such-page' }],
  ['a method that is not served', 404, { method: 'PUT', url: '/pricing' }],
  ['an address that is not UTF-8', 404, { url: '/%E0%A4%A' }],
  ['an address that cannot be decoded', 404, { url: '/%zz' }],
  ['a reset link that never was', 404, { url: '/reset/never' }],
  ['a reset link that is too long', 404, { url: `/reset/${'a'.repeat(300)}` }],
  [
    'a form from another origin',
    403,
    { method: 'POST', url: '/login', headers: { 'sec-fetch-site': 'cross-site' } },
  ],
  [
    'a body that is not a form',
    415,
    { method: 'POST', url: '/login', headers: { 'content-type': 'text/xml' }, payload: '<a/>' },
  ],
  [
    'a form over 8 KiB',
    413,
    { method: 'POST', url: '/login', headers: FORM, payload: `a=${'x'.repeat(70_000)}` },
  ],
  ['a file that does not exist', 404, { url: '/public/no-such-file.css' }],
  ['a file outside the folder', 404, { url: '/public/%2e%2e/package.json' }],
] as const)("a page's error is a page: %s", async (_name, status, request) => {
  const { app } = await startTestServer();
  const answer = await app.inject(request);
  expect(answer.statusCode).toBe(status);
  expect(answer.headers['content-type']).toBe('text/html; charset=utf-8');
  expect(answer.body).toMatch(/^\s*<!doctype html>/i);
  expect(answer.body).toContain('href="/public/style.css"');
  expect(answer.headers['content-security-policy']).toContain("default-src 'none'");
});

test.each(['/call-0900-now', '/api/call-0900-now'])(
  'the answer to %s does not repeat the path',
  async (url) => {
    const { app } = await startTestServer();
    const answer = await app.inject({ url });
    expect(answer.statusCode).toBe(404);
    expect(answer.body).not.toContain('0900');
  },
);

test.each([
  ['an unknown address', 404, 'not_found', { url: '/api/no-such-thing' }],
  ['a method that is not served', 404, 'not_found', { method: 'DELETE', url: '/api/me' }],
  ['a path that cannot be decoded', 404, 'not_found', { url: '/api/%zz' }],
  ['no session', 401, 'unauthorized', { url: '/api/me', headers: { accept: 'text/html' } }],
  [
    'a form from another origin',
    403,
    'other_origin',
    { method: 'POST', url: '/api/billing/checkout', headers: { 'sec-fetch-site': 'cross-site' } },
  ],
  [
    'a body that is not JSON',
    400,
    'bad_request',
    {
      method: 'POST',
      url: '/api/billing/checkout',
      headers: { 'content-type': 'application/json' },
      payload: '{',
    },
  ],
  [
    'a body of another type',
    415,
    'unsupported_media_type',
    {
      method: 'POST',
      url: '/api/billing/checkout',
      headers: { 'content-type': 'text/xml' },
      payload: '<a/>',
    },
  ],
  [
    'a body that is too large',
    413,
    'too_large',
    {
      method: 'POST',
      url: '/api/billing/checkout',
      headers: { 'content-type': 'application/json' },
      payload: JSON.stringify('x'.repeat(70_000)),
    },
  ],
] as const)('an error under /api/ is JSON with a code of ours: %s', async (_name, status, code, request) => {
  const { app } = await startTestServer();
  const answer = await app.inject(request);
  expect(answer.statusCode).toBe(status);
  expect(answer.json()).toMatchObject({ error: { code } });
  expect(answer.headers['content-type']).toMatch(/^application\/json/);
  expect(answer.json()).toEqual({
    error: {
      code: expect.stringMatching(/^[a-z_]+$/) as string,
      message: expect.stringMatching(/\w/) as string,
    },
  });
  expect(answer.headers['content-security-policy']).toContain("default-src 'none'");
});

test('an internal error is 500 and reveals nothing', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await server.db.$executeRaw`ALTER TABLE "Referral" RENAME TO "Elsewhere"`;
  const page = await visit(server, '/settings', ann.cookie);
  const api = await visit(server, '/api/me', ann.cookie);
  expect(page.statusCode).toBe(500);
  expect(page.body).toContain('Something went wrong on our side');
  expect(api.statusCode).toBe(500);
  expect(api.json()).toMatchObject({ error: { code: 'internal_error' } });
  for (const { body } of [page, api])
    expect(body).not.toMatch(/Referral|prisma|sqlite|node_modules|at \S+ \(/i);
});

test.each(['/', '/settings', '/no-such-page', '/r/22222222', '/api/me', '/healthz', '/public/style.css'])(
  '%s has the security headers',
  async (url) => {
    const { app } = await startTestServer();
    const { headers } = await app.inject({ url });
    expect(headers['x-content-type-options']).toBe('nosniff');
    expect(headers['referrer-policy']).toBe('strict-origin');
    expect(headers['strict-transport-security']).toBeUndefined();
    const policy = String(headers['content-security-policy']).split(';');
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("script-src 'self'");
    expect(policy).toContain("style-src 'self'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).toContain("base-uri 'none'");
    expect(policy).toContain("form-action 'self' https://checkout.stripe.com https://billing.stripe.com");
    expect(headers['content-security-policy']).not.toContain('unsafe');
  },
);

test('browsers are told to stay on https', async () => {
  const { app } = await startTestServer({ PUBLIC_URL: 'https://tandem.test' });
  const { headers } = await app.inject({ url: '/' });
  expect(headers['strict-transport-security']).toMatch(/max-age=\d{7,}/);
});

test('pages are never cached', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  for (const url of PUBLIC_PAGES)
    expect((await visit(server, url)).headers['cache-control']).toBe('no-store');
  expect((await visit(server, '/settings', ann.cookie)).headers['cache-control']).toBe('no-store');
});

test.each(['/api/me', '/api/backups', '/settings/export', '/r/x', '/nothing', '/api/nothing'])(
  '%s is never cached, logged in or not',
  async (url) => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    for (const cookie of ['', ann.cookie])
      expect((await visit(server, url, cookie)).headers['cache-control']).toBe('no-store');
  },
);

test('static files are cached for an hour', async () => {
  const server = await startTestServer();
  expect((await visit(server, '/public/style.css')).headers['cache-control']).toBe('public, max-age=3600');
});

test.each([
  ['https with our host', 'https://tandem.test', 303],
  ['http with our host', 'http://tandem.test', 403],
  ['http with the host of the request', 'http://box.test:3000', 403],
  ['https with the host of the request', 'https://box.test:3000', 303],
])('on https, without Sec-Fetch-Site, an Origin of %s, %s: %i', async (_which, origin, status) => {
  const server = await startTestServer({ PUBLIC_URL: 'https://tandem.test' });
  const answer = await server.app.inject({
    method: 'POST',
    url: '/logout',
    headers: { origin, host: 'box.test:3000', 'content-type': 'application/x-www-form-urlencoded' },
  });
  expect(answer.statusCode).toBe(status);
});

test('no page has an inline script or style that the CSP would block', async () => {
  for (const { url, body } of await everyPage()) {
    expect(body, url).not.toMatch(/<script(?![^>]* src="\/public\/)/);
    expect(body, url).not.toMatch(/<style|<[^>]* style="|<[^>]* on[a-z]+="|javascript:/);
    expect(body, url).not.toMatch(/ (src|href)="(https?:)?\/\//);
  }
});

const HERE = 'tandem.test';

test.each<[string, 'accepted' | 'refused', Record<string, string>]>([
  ['Sec-Fetch-Site same-origin', 'accepted', { 'sec-fetch-site': 'same-origin' }],
  ['Sec-Fetch-Site none', 'accepted', { 'sec-fetch-site': 'none' }],
  ['Sec-Fetch-Site same-site', 'refused', { 'sec-fetch-site': 'same-site' }],
  ['Sec-Fetch-Site cross-site', 'refused', { 'sec-fetch-site': 'cross-site' }],
  ['an invalid Sec-Fetch-Site', 'refused', { 'sec-fetch-site': 'whatever' }],
  ['cross-site, with our Origin', 'refused', { 'sec-fetch-site': 'cross-site', origin: `http://${HERE}` }],
  [
    'same-origin, with another Origin',
    'accepted',
    { 'sec-fetch-site': 'same-origin', origin: 'http://evil.test' },
  ],
  ['the Origin of PUBLIC_URL', 'accepted', { origin: `http://${HERE}`, host: '127.0.0.1:3000' }],
  ['the Origin of Host', 'accepted', { origin: 'http://box.test:3000', host: 'box.test:3000' }],
  [
    'the Origin of Host at another port',
    'refused',
    { origin: 'http://box.test:3001', host: 'box.test:3000' },
  ],
  ['another Origin', 'refused', { origin: 'http://evil.test' }],
  ['an Origin that starts with ours', 'refused', { origin: `http://${HERE}.evil.test` }],
  ['an Origin that ends with ours', 'refused', { origin: `http://evil-${HERE}` }],
  ['the Origin null', 'refused', { origin: 'null' }],
  ['an Origin that is not a URL', 'refused', { origin: HERE }],
  ['an empty Origin', 'refused', { origin: '' }],
  // A browser's has no path. One of 15 KB would take milliseconds to parse.
  ['an Origin longer than any', 'refused', { origin: `http://${HERE}/${'x'.repeat(300)}` }],
  ['neither header, as no browser sends it', 'accepted', {}],
])('a form with %s is %s', async (_name, outcome, headers) => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const answer = await server.app.inject({
    method: 'POST',
    url: '/logout',
    headers: { ...FORM, cookie: ann.cookie, ...headers },
  });
  expect(answer.statusCode).toBe(outcome === 'accepted' ? 303 : 403);
  expect(await server.db.session.count()).toBe(outcome === 'accepted' ? 0 : 1);
});

test.each([
  '/signup',
  '/login',
  '/logout',
  '/settings/address',
  '/settings/password',
  '/reset/token',
  '/api/billing/checkout',
  '/api/billing/portal',
])('%s refuses a form from another site', async (url) => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const answer = await postForm(server.app, url, {}, ann.cookie, { 'sec-fetch-site': 'cross-site' });
  expect(answer.statusCode).toBe(403);
});

test('a link from another site is followed: only requests that change something are refused', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const headers = { 'sec-fetch-site': 'cross-site', origin: 'http://evil.test' };
  expect((await server.app.inject({ url: `/r/${ann.code}`, headers })).statusCode).toBe(303);
  expect((await server.app.inject({ url: '/pricing', headers })).statusCode).toBe(200);
});

test.each(['/api/billing/checkout', '/api/billing/portal'])(
  '%s without a session redirects a browser to the login page, and is 401 for everything else',
  async (url) => {
    const { app } = await startTestServer();
    const accept = 'text/html,application/xhtml+xml;q=0.9,*/*;q=0.8';
    const browser = await postForm(app, url, { plan: 'monthly' }, '', { accept });
    expect(browser.statusCode).toBe(303);
    expect(browser.headers.location).toMatch(/^\/login(\?plan=monthly)?$/);
    for (const headers of [{ accept: 'application/json' }, {}]) {
      const program = await postForm(app, url, { plan: 'monthly' }, '', headers);
      expect(program.statusCode).toBe(401);
      expect(program.json()).toMatchObject({ error: { code: 'unauthorized' } });
    }
  },
);

test.each([{}, { plan: '' }, { plan: 'weekly' }, { plan: 'Monthly' }, { plan: '__proto__' }])(
  'a checkout of the plan %o is 400',
  async (fields: Record<string, string>) => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const answer = await postForm(server.app, '/api/billing/checkout', fields, ann.cookie);
    expect(answer.statusCode).toBe(400);
    expect(answer.json<{ error: { message: string } }>().error.message).toContain('monthly or annual');
  },
);

test('without a Stripe key, checkout is 503 and says what is missing', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const answer = await postForm(server.app, '/api/billing/checkout', { plan: 'monthly' }, ann.cookie);
  expect(answer.statusCode).toBe(503);
  expect(answer.json<{ error: { message: string } }>().error.message).toContain('STRIPE_API_KEY');
});

test('without a price, checkout is 503 and names the variable', async () => {
  const server = await startTestServer({ STRIPE_PRICE_ANNUAL: '', STRIPE_API_KEY: 'sk_test_1' });
  const ann = await signUp(server, 'ann@example.com');
  const answer = await postForm(server.app, '/api/billing/checkout', { plan: 'annual' }, ann.cookie);
  expect(answer.statusCode).toBe(503);
  expect(answer.json<{ error: { message: string } }>().error.message).toContain('STRIPE_PRICE_ANNUAL');
});

test('the portal leads somebody who was never a customer to Pricing', async () => {
  const server = await startTestServer({ STRIPE_API_KEY: 'sk_test_1' });
  const ann = await signUp(server, 'ann@example.com');
  const answer = await postForm(server.app, '/api/billing/portal', {}, ann.cookie);
  expect(answer.statusCode).toBe(303);
  expect(answer.headers.location).toBe('/pricing');
});

test.each<[string, (other: Buyer) => object[], { ours?: true; retiredAt?: Date }]>([
  ['whose plan runs', (other) => [other.ended(START)], {}],
  // A payment link with this user's id links another customer, whose plan somebody else pays.
  ['that was linked first, if the plans of both run', () => [], {}],
  [
    'that we created, if the plans of both run, even after a reset link',
    () => [],
    { ours: true, retiredAt: START },
  ],
])('of two customers the portal opens for the one %s', async (_which, then, data) => {
  const server = await startTestServer({ STRIPE_API_KEY: 'sk_test_x' });
  const ann = await signUp(server, 'ann@example.com');
  const [other, current] = [buyer(ann.id), buyer(ann.id)];
  await deliverAll(server, [current.checkoutCompleted(), current.created()]);
  server.clock.now = daysAfter(1);
  await deliverAll(server, [other.checkoutCompleted(), other.created(), ...then(other)]);
  await server.db.customer.update({ where: { id: current.customer }, data });
  const opened: unknown[] = [];
  Object.assign(clientOf(server).billingPortal.sessions, {
    create: ({ customer }: { customer: string }) => {
      opened.push(customer);
      return Promise.resolve({ url: 'https://billing.stripe.com/p' });
    },
  });
  const answer = await postForm(server.app, '/api/billing/portal', {}, ann.cookie);
  expect(answer.headers.location).toBe('https://billing.stripe.com/p');
  expect(opened).toEqual([current.customer]);
});

test('a running server is alive and ready', async () => {
  const { app } = await startTestServer();
  expect((await app.inject({ url: '/healthz' })).statusCode).toBe(200);
  expect((await app.inject({ url: '/readyz' })).statusCode).toBe(200);
});

test('when Stripe does not answer, checkout says so and sells nothing', async () => {
  const server = await startTestServer({
    STRIPE_API_KEY: 'sk_test_x',
    STRIPE_API_BASE: 'http://127.0.0.1:1',
  });
  const ann = await signUp(server, 'ann@example.com');
  const answer = await postForm(server.app, '/api/billing/checkout', { plan: 'monthly' }, ann.cookie);
  expect(answer.statusCode).toBe(502);
  expect(answer.json()).toMatchObject({ error: { code: 'stripe_unavailable' } });
  expect(await server.db.customer.count()).toBe(0);
});

test.each([
  ['0', 'You both keep the days.'],
  ['1', 'within 1 day of the payment'],
  ['30', 'within 30 days of the payment'],
])('with REFERRAL_CLAWBACK_DAYS=%s, Pricing says what a refund takes back', async (days, says) => {
  const { app } = await startTestServer({ REFERRAL_CLAWBACK_DAYS: days });
  const page = await app.inject({ url: '/pricing' });
  expect(page.body.replaceAll(/\s+/g, ' ')).toContain(says);
});
