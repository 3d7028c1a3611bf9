import { expect, test } from 'vitest';

import { openPage, PHONE, referralLink, signUp, startSite, upgrade, useBrowser } from './support/browser.ts';

useBrowser();

test.each([
  ['with JavaScript', true],
  ['without JavaScript', false],
])('Ann invites Ben, Ben pays, and both get 45 days: %s', async (_how, javaScriptEnabled) => {
  const site = await startSite();
  const ann = await openPage(site, { javaScriptEnabled });
  const ben = await openPage(site, { javaScriptEnabled, viewport: PHONE });

  await signUp(ann, 'ann@example.com');
  const link = await referralLink(ann);

  await ben.goto(link);
  await ben.waitForURL('**/pricing');
  await ben.getByText('A friend invited you.').waitFor();
  await signUp(ben, 'ben@example.com');
  await upgrade(ben);
  expect(await ben.locator('#main').innerText()).toContain('45 days of paid access');

  await ann.goto('/');
  await ann.getByText('you got 45 days').waitFor();
  await ann.goto('/settings');
  expect(await ann.getByText('you got 45 days').count()).toBe(0);
  const settings = await ann.locator('#main').innerText();
  expect(settings).toContain('+45 days on your account');
  expect(settings).toContain('b•••@e•••.com');
  expect(settings).not.toContain('ben@example.com');
});

test('the copy button copies the link and says so', async () => {
  const site = await startSite();
  const ann = await openPage(site, { permissions: ['clipboard-read', 'clipboard-write'] });
  await signUp(ann, 'ann@example.com');
  await ann.getByRole('button', { name: 'Copy link' }).click();
  await ann.getByText('Copied').waitFor();
  expect(await ann.evaluate<string>('navigator.clipboard.readText()')).toBe(await referralLink(ann));
});
