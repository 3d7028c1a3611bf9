import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';

import { until } from '../support/process.ts';
import { MAILS } from '../support/sample-mails.ts';
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
} from './support/browser.ts';
import { checkMail } from './support/checks.ts';

useBrowser();

/** Everything in the sandbox's mailbox for one address, the newest first. */
async function subjectsFor(page: Page, address: string): Promise<string[]> {
  await page.goto('/');
  const mailbox = (await page.getByRole('link', { name: 'Read the mail' }).getAttribute('href')) ?? '';
  await page.goto(`${mailbox}?to=${encodeURIComponent(address)}`);
  return page.getByRole('heading', { level: 2 }).allInnerTexts();
}

/** Waits for an email and opens it, in the browser of its reader. */
async function openMail(page: Page, address: string, subject: string | RegExp): Promise<void> {
  await until(async () => {
    const subjects = await subjectsFor(page, address);
    return subjects.some((one) => one.match(subject)) || undefined;
  });
  await page.getByRole('link', { name: subject }).first().click();
  await page.getByRole('heading', { name: 'As text' }).waitFor();
}

/** Follows the link of the open mail's button. */
async function followMail(page: Page): Promise<void> {
  await page.frameLocator('iframe').locator('a.button').click();
}

async function proveAddress(page: Page, address: string): Promise<void> {
  await openMail(page, address, 'Confirm your email address');
  await followMail(page);
  await page.getByRole('button', { name: 'Yes, this is my address' }).click();
  await page.getByText('Your email address is confirmed').waitFor();
}

test('the story in two browsers and a mailbox: sign up, prove, invite, pay, reset a password, refund, unsubscribe', async () => {
  const site = await startSite();
  const ann = await openPage(site);
  const ben = await openPage(site, { viewport: PHONE });
  const [annsAddress, bensAddress] = ['ann@example.com', 'ben@example.com'];

  await signUp(ann, annsAddress);
  await proveAddress(ann, annsAddress);
  await ben.goto(await referralLink(ann));
  await signUp(ben, bensAddress);
  await proveAddress(ben, bensAddress);
  await upgrade(ben);

  await openMail(ann, annsAddress, 'A friend you invited has paid: you both got 45 free days');
  expect(await ann.locator('pre').innerText()).toContain('Your free days are counting down now.');
  expect(await ann.locator('pre').innerText()).not.toContain(bensAddress);
  await openMail(ben, bensAddress, 'We received your payment: you got 45 free days');
  expect(await ben.locator('pre').innerText()).toContain('paused while you pay');
  await followMail(ben);
  await ben.getByText('+45 days on your account').waitFor();

  await ben.getByRole('button', { name: 'Log out', exact: true }).click();
  await ben.goto('/login');
  await ben.getByRole('link', { name: 'Forgotten your password?' }).click();
  await ben.getByLabel('Email address').fill(bensAddress);
  await ben.getByRole('button', { name: 'Send the link' }).click();
  await ben.getByText('If there is an account').waitFor();
  await openMail(ben, bensAddress, /^Reset your .+ password$/);
  await followMail(ben);
  await ben.getByLabel('New password').fill(`another ${PASSWORD}`);
  await ben.getByRole('button', { name: 'Set the new password' }).click();
  await openMail(ben, bensAddress, /password was changed$/);
  await ben.goto('/login');
  await ben.getByLabel('Email address').fill(bensAddress);
  await ben.getByLabel('Password').fill(`another ${PASSWORD}`);
  await ben.getByRole('button', { name: 'Log in' }).click();
  await ben.waitForURL('**/settings');

  await atThePortal(ben, 'Refund the last payment');
  await openMail(ben, bensAddress, 'We took back 45 free days');
  await openMail(ann, annsAddress, 'We took back 45 free days');
  expect(await ann.locator('pre').innerText()).toContain('That payment was refunded.');

  // The reader of the email can unsubscribe without logging in.
  const unsubscribe = await ann.getByRole('link', { name: 'Unsubscribe', exact: true }).getAttribute('href');
  const stranger = await openPage(site);
  await stranger.goto(unsubscribe ?? '');
  await stranger.getByRole('button', { name: 'Turn mail off' }).click();
  await stranger.getByText('You will no longer get mail').waitFor();
  await atThePortal(ben, 'Let a month pass');
  await openMail(ben, bensAddress, 'You got 45 free days');
  expect(await subjectsFor(ann, annsAddress)).not.toContain('You got 45 free days');
  await ann.goto('/settings');
  await ann.getByText('+45 days on your account').waitFor();
});

test('every email on a phone and a desktop, in light and dark', async () => {
  const site = await startSite();
  const page = await openPage(site);
  for (const [name, mailFor] of MAILS) await checkMail(page, name, mailFor().html);
});
