import type { Page } from 'playwright-core';
import { expect, onTestFinished, test } from 'vitest';

import { openDatabase } from '../../src/db/open.ts';
import { proveLink, unsubscribeUrl } from '../../src/outbox/links.ts';
import { refuseWrites } from '../support/other-connection.ts';
import {
  atThePortal,
  openPage,
  PASSWORD,
  PHONE,
  referralLink,
  signUp,
  startSite,
  upgrade,
  useBrowser,
  WIDE,
} from './support/browser.ts';
import { checkLoading, checkPage, checkPrinted, showForcedColours } from './support/checks.ts';

useBrowser();

const HOLDINGS = [
  { symbol: 'ACME', quantity: 10, price: 120.5, currentPrice: 131.2, note: 'Bought on a Tuesday' },
  { symbol: 'GLOBEX', quantity: 2.25, price: 310, currentPrice: 297, note: '' },
  { symbol: 'INITECH', quantity: 100, price: 4.2, note: 'For the stapler' },
];

const DOCUMENT = { format: 'tandem-portfolio', version: 1, currency: 'EUR', holdings: HOLDINGS };

/** Puts a portfolio into the browser, as if entered earlier. */
async function withHoldings(page: Page): Promise<void> {
  await page.goto('/portfolio');
  await page.evaluate(
    `localStorage.setItem('tandem.portfolio', ${JSON.stringify(JSON.stringify(DOCUMENT))})`,
  );
  await page.goto('/portfolio');
  await page.getByText('INITECH').first().waitFor();
}

/** Ann, and Ben whom she invited, each in their own browser. */
async function twoFriends(): Promise<{ ann: Page; ben: Page }> {
  const site = await startSite();
  const ann = await openPage(site);
  await signUp(ann, 'ann@example.com');
  const link = await referralLink(ann);
  const ben = await openPage(site);
  await ben.goto(link);
  await signUp(ben, 'ben@example.com');
  return { ann, ben };
}

test('pages for a visitor', async () => {
  const site = await startSite();
  const page = await openPage(site);
  for (const [path, name] of [
    ['/', 'landing'],
    ['/pricing', 'pricing visitor'],
    ['/signup', 'signup'],
    ['/login', 'login'],
    ['/portfolio', 'portfolio visitor'],
    ['/docs', 'docs'],
    ['/nothing', 'not found'],
    ['/reset/used-up', 'reset used up'],
  ] as const) {
    await page.goto(path);
    await checkPage(page, name);
  }
  await page.goto('/login');
  await page.getByLabel('Email address').fill('nobody@example.com');
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('alert').waitFor();
  await checkPage(page, 'login wrong');
});

test('pages for an invited visitor, and their form with mistakes', async () => {
  const site = await startSite();
  const ann = await openPage(site);
  await signUp(ann, 'ann@example.com');
  const page = await openPage(site);
  await page.goto(await referralLink(ann));
  await checkPage(page, 'pricing invited');
  await page.goto('/');
  await checkPage(page, 'landing invited');
  await page.goto('/signup');
  await page.getByLabel('Email address').fill('ann@example.com');
  // With the same password it would count as the same person clicking twice.
  await page.getByLabel('Password').fill(`not ${PASSWORD}`);
  await page.getByRole('button', { name: 'Sign up' }).click();
  await page.getByText('This address already has an account').waitFor();
  await checkPage(page, 'signup taken');
});

test('pages for a new user', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await signUp(page, 'ann@example.com');
  await checkPage(page, 'settings new');
  await page.goto('/pricing');
  await checkPage(page, 'pricing free');
  await page.goto('/portfolio');
  await checkPage(page, 'portfolio empty');
  await withHoldings(page);
  await checkPage(page, 'portfolio free');
  await page.getByRole('button', { name: 'Add holding' }).click();
  await page.getByText('Enter a symbol of 1 to 20 characters.').waitFor();
  await checkPage(page, 'portfolio entry wrong');
  await page.getByLabel('Import a JSON or CSV file').setInputFiles({
    name: 'more.csv',
    mimeType: 'text/csv',
    buffer: Buffer.from(`Ticker;Shares;Price\n${'NEW;1,5;12,50\n'.repeat(2)}BAD;none;1\nOTHER;1.250;7\n`),
  });
  await page.getByRole('dialog').getByText('1 line will be left out').waitFor();
  await checkPage(page, 'portfolio import');
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.getByLabel('Import a JSON or CSV file').setInputFiles({
    name: 'more.json',
    mimeType: 'application/json',
    buffer: Buffer.from(JSON.stringify({ ...DOCUMENT, holdings: HOLDINGS.slice(1) })),
  });
  await page.getByRole('dialog').waitFor();
  await checkPage(page, 'portfolio question');
  await page.evaluate(`localStorage.setItem('tandem.portfolio', 'damaged')`);
  await page.goto('/portfolio');
  await page.getByText('cannot be read').waitFor();
  await checkPage(page, 'portfolio damaged');
  await page.goto('/settings');
  const form = page.getByRole('form', { name: 'Change your password' });
  await form.getByLabel('Current password').fill('not my password');
  await form.getByLabel('New password').fill('a new password');
  await form.getByRole('button', { name: 'Change password' }).click();
  await page.getByText('This is not your current password.').waitFor();
  await checkPage(page, 'settings wrong password');
});

test('pages for two friends when one pays and both have credit', async () => {
  const { ann, ben } = await twoFriends();
  await checkPage(ann, 'settings invited one');
  await upgrade(ben);
  await checkPage(ben, 'settings paid');
  await ben.goto('/pricing');
  await checkPage(ben, 'pricing paid');
  await withHoldings(ben);
  await ben.getByRole('button', { name: 'Back up now' }).click();
  await ben.getByText('Backed up 3 holdings.').waitFor();
  await checkPage(ben, 'portfolio backed up');
  await ann.goto('/settings');
  await ann.getByText('you got 45 days').waitFor();
  await ann.getByText('Show it as a QR code').click();
  await checkPage(ann, 'settings credit');
  await ann.goto('/portfolio');
  await checkPage(ann, 'portfolio credit');
});

test('pages while the webhook of a payment is late', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await signUp(page, 'ann@example.com');
  const refusal = await refuseWrites(site, 'INSERT', 'Event');
  await page.goto('/pricing');
  await page.getByRole('button', { name: 'Choose monthly' }).click();
  await page.getByRole('button', { name: 'Pay', exact: true }).click();
  await page.getByText('We are waiting for Stripe').waitFor();
  await checkPage(page, 'settings waiting for the payment');

  // An answer that does not concern the payment does not end the waiting.
  await page.goto('/settings?checkout=done');
  await page.route('**/api/me', (route) => route.fulfill({ status: 429, json: { error: {} } }));
  await page.evaluate('window.sameDocument = true');
  await page.waitForResponse('**/api/me');
  await page.waitForResponse('**/api/me');
  expect(await page.evaluate('window.sameDocument')).toBe(true);
  await page.unroute('**/api/me');

  // News of the plan ends it, even without access.
  const news = { tier: 'free', subscription: { status: 'past_due' } };
  const reloaded = page.waitForEvent('load');
  await page.route('**/api/me', (route) => route.fulfill({ json: news }));
  await reloaded;
  await page.unroute('**/api/me');

  await refusal.lift();
  await page.getByText('You have paid access now').waitFor({ timeout: 60_000 });
});

test('pages after a failed payment and an ended plan, with backups kept', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await signUp(page, 'ann@example.com');
  await upgrade(page);
  await withHoldings(page);
  await page.getByRole('button', { name: 'Back up now' }).click();
  await page.getByText('Backed up 3 holdings.').waitFor();

  await atThePortal(page, 'Decline the card from now on', 'Let a month pass');
  await page.getByText('Your last payment failed').waitFor();
  await checkPage(page, 'settings past due');
  for (const path of ['/pricing', '/portfolio', '/']) {
    await page.goto(path);
    await page.getByRole('region', { name: 'Your payment' }).getByText('Stripe will try again on').waitFor();
  }
  await checkPage(page, 'landing past due');
  // The notice's button leads to the portal.
  await page.getByRole('button', { name: 'Check your card' }).click();
  await page.getByRole('link', { name: 'Return' }).click();
  await page.waitForURL('**/settings**');
  await atThePortal(page, 'Let the card work again', 'days pass', 'Cancel plan');
  await page.getByText('You have paid access until then').waitFor();
  await checkPage(page, 'settings ends at the end of the period');
  await atThePortal(page, 'End the plan now');
  await page.getByText('Free plan').waitFor();
  await checkPage(page, 'settings ended');
  await page.goto('/portfolio');
  await page.getByRole('button', { name: 'Restore' }).waitFor();
  await checkPage(page, 'portfolio access ended');
});

test('pages after the last attempt to collect a payment failed', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await signUp(page, 'ann@example.com');
  await upgrade(page);
  await atThePortal(
    page,
    'Decline the card from now on',
    'Let a month pass',
    'days pass',
    'days pass',
    'days pass',
  );
  await page.getByText('because its payment failed').waitFor();
  await checkPage(page, 'settings ended for a failed payment');
  for (const [path, name] of [
    ['/', 'landing ended for a failed payment'],
    ['/portfolio', 'portfolio ended for a failed payment'],
  ] as const) {
    await page.goto(path);
    await checkPage(page, name);
  }
  await page.getByRole('link', { name: 'Choose a plan' }).click();
  await page.getByRole('button', { name: 'Choose monthly' }).waitFor();
  await checkPage(page, 'pricing ended for a failed payment');
});

test('pages during a trial', async () => {
  const site = await startSite({ STRIPE_TRIAL_DAYS: '14' });
  const page = await openPage(site);
  await signUp(page, 'ann@example.com');
  await page.goto('/pricing');
  await checkPage(page, 'pricing with a trial');
  await page.getByRole('button', { name: 'monthly' }).click();
  await checkPage(page, 'sandbox checkout of a trial');
  await page.getByRole('button', { name: 'Start trial' }).click();
  await page.getByText('Your trial lasts until').waitFor();
  await checkPage(page, 'settings trial');
});

test('pages of the sandbox: a payment page and a customer portal, each beside the control panel', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await signUp(page, 'ann@example.com');
  await page.getByRole('link', { name: 'Move the clock forward' }).click();
  await page.getByRole('button', { name: '1 day' }).click();
  await page.getByText('1 day ahead of the real clock').waitFor();
  await checkPage(page, 'sandbox control panel');
  await page.getByRole('link', { name: 'Mail', exact: true }).click();
  await checkPage(page, 'sandbox mail');

  await page.goto('/pricing');
  await page.getByRole('button', { name: 'Choose monthly' }).click();
  await checkPage(page, 'sandbox checkout');
  await page.getByRole('button', { name: 'Decline the card' }).click();
  await page.getByText('Your card was declined').waitFor();
  await checkPage(page, 'sandbox checkout declined');
  await page.getByRole('button', { name: 'Pay', exact: true }).click();
  await page.getByText('Monthly plan').waitFor();

  await page.getByRole('button', { name: 'Manage billing' }).click();
  await checkPage(page, 'sandbox portal');
  await page.getByRole('button', { name: 'Decline the card from now on' }).click();
  await page.getByRole('button', { name: 'Let a month pass' }).click();
  await page.getByText('The payment of $9.00 failed.').waitFor();
  await checkPage(page, 'sandbox portal past due');
  await page.getByRole('button', { name: 'Change to Mastercard' }).click();
  await page.getByRole('button', { name: 'Pay $9.00' }).click();
  await page.getByRole('button', { name: 'Switch to annual' }).click();
  await page.getByRole('button', { name: 'Lose the next webhooks' }).click();
  await page.getByText('The next webhooks will be lost.').waitFor();
  await page.getByRole('button', { name: 'Cancel plan' }).click();
  await page.getByText('Never delivered').waitFor();
  await checkPage(page, 'sandbox portal canceled');
  await page.getByRole('link', { name: 'Return' }).click();
  await page.getByText('Annual plan').waitFor();
  expect(await page.locator('#main').innerText()).not.toContain('You have paid access until then');
  await site.cli('reconcile');
  await page.reload();
  await page.getByText('You have paid access until then').waitFor();
});

test('pages for two friends after the payment was refunded', async () => {
  const { ann, ben } = await twoFriends();
  await upgrade(ben);
  await atThePortal(ben, 'Refund the last payment');
  await checkPage(ben, 'settings own payment back');
  await ann.goto('/settings');
  await ann.getByText('no longer counts').first().waitFor();
  await checkPage(ann, 'settings payment of a friend back');
});

test('mail: a forgotten password, an address to confirm, a change of address, and mail turned off', async () => {
  const secret = 'a session secret of some forty characters';
  const site = await startSite({ SESSION_SECRET: secret });
  const { db } = await openDatabase(site.databaseUrl);
  onTestFinished(() => db.$disconnect());
  const maker = { publicUrl: site.url, secret };
  const userRow = () => db.user.findFirstOrThrow({ where: { deletedAt: null } });
  const provingPage = async (): Promise<string> => {
    const newest = { createdAt: 'desc' } as const;
    const item = await db.outboxItem.findFirstOrThrow({
      where: { kind: 'mail.prove-address' },
      orderBy: newest,
    });
    return proveLink(maker, await userRow(), item, new Date())?.url ?? '';
  };

  const page = await openPage(site);
  await page.goto('/forgot');
  await checkPage(page, 'forgot');
  await page.getByLabel('Email address').fill('ann@example.com');
  await page.getByRole('button', { name: 'Send the link' }).click();
  await page.getByText('If there is an account').waitFor();
  await checkPage(page, 'forgot sent');
  for (const [path, name] of [
    ['/verify/used-up', 'verify used up'],
    ['/unsubscribe/damaged', 'unsubscribe damaged'],
  ] as const) {
    await page.goto(path);
    await checkPage(page, name);
  }

  await signUp(page, 'ann@example.com');
  await page.goto(await provingPage());
  await checkPage(page, 'verify');
  await page.getByRole('button', { name: 'Yes, this is my address' }).click();
  await page.getByText('Your email address is confirmed').waitFor();
  await checkPage(page, 'settings confirmed');

  const form = page.getByRole('form', { name: 'Change your address' });
  await form.getByLabel('New email address').fill('new@example.com');
  await form.getByLabel('Current password').fill(PASSWORD);
  await form.getByRole('button', { name: 'Change address' }).click();
  await page.getByText('We sent a link to your new address').waitFor();
  await checkPage(page, 'settings change waits');
  const other = await openPage(site);
  await other.goto(await provingPage());
  await checkPage(other, 'verify a change');
  await other.getByRole('button', { name: 'Yes, this is my address' }).click();
  await other.getByText('is now the address of your account').waitFor();
  await checkPage(other, 'verified a change');

  await other.goto(unsubscribeUrl(maker, await userRow()));
  await checkPage(other, 'unsubscribe');
  await other.getByRole('button', { name: 'Turn mail off' }).click();
  await other.getByText('You will no longer get mail').waitFor();
  await checkPage(other, 'unsubscribed');
});

test('an account is deleted', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await signUp(page, 'ann@example.com');
  const form = page.getByRole('form', { name: 'Delete your account' });
  await form.getByLabel('Current password').fill(PASSWORD);
  await form.getByRole('button', { name: 'Delete account' }).click();
  await page.getByText('Your account has been deleted').waitFor();
  await checkPage(page, 'landing account deleted');
});

test('pages in print and in a high-contrast theme', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await signUp(page, 'ann@example.com');
  await withHoldings(page);
  for (const [path, name] of [
    ['/settings', 'settings'],
    ['/portfolio', 'portfolio'],
    ['/pricing', 'pricing'],
    ['/', 'landing'],
  ] as const) {
    await page.goto(path);
    await checkPrinted(page, name);
    await showForcedColours(page, name);
  }
});

test('pages are small, wait for no script, load nothing from other sites and do not shift', async () => {
  const site = await startSite();
  for (const viewport of [PHONE, WIDE]) {
    const page = await openPage(site, { viewport });
    for (const path of ['/', '/pricing', '/signup', '/login', '/portfolio']) await checkLoading(page, path);
    await signUp(page, `ann-${viewport.width}@example.com`);
    for (const path of ['/', '/pricing', '/settings', '/portfolio']) await checkLoading(page, path);
  }
});

/** The styles that make buttons look alike, apart from their colour. */
const SHAPE = `
  [...document.querySelectorAll('.settings-btn')].filter((element) => element.checkVisibility()).map((element) => {
    const style = getComputedStyle(element);
    const shape = ['fontFamily', 'fontSize', 'fontWeight', 'lineHeight', 'minHeight', 'paddingTop', 'paddingLeft',
      'borderTopWidth', 'borderTopStyle', 'borderTopLeftRadius', 'cursor'];
    return { text: element.textContent.trim(), shape: shape.map((name) => name + ': ' + style[name]).join('; ') };
  })`;

const OTHER_BUTTONS = `
  [...document.querySelectorAll('button:not(.settings-btn), input[type=submit]:not(.settings-btn)')]
    .filter((element) => !element.closest('th')).map((element) => element.outerHTML)`;

test('every action button, including Restore of a backup, uses the settings-btn styles', async () => {
  const site = await startSite();
  const page = await openPage(site);
  const seen: { text: string; shape: string }[] = [];
  const look = async (): Promise<void> => {
    seen.push(...(await page.evaluate<typeof seen>(SHAPE)));
    expect(await page.evaluate(OTHER_BUTTONS)).toEqual([]);
  };
  for (const path of ['/', '/pricing', '/signup', '/login']) {
    await page.goto(path);
    await look();
  }
  await signUp(page, 'ann@example.com');
  await look();
  await upgrade(page);
  await withHoldings(page);
  await page.getByRole('button', { name: 'Back up now' }).click();
  await page.getByText('Backed up 3 holdings.').waitFor();
  await look();

  expect(seen.map(({ text }) => text)).toEqual(
    expect.arrayContaining(['Restore', 'Back up now', 'Delete account', 'Log in']),
  );
  expect(seen.filter(({ shape }) => shape !== seen[0]?.shape)).toEqual([]);
});
