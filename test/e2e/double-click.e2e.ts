import { expect, test } from 'vitest';

import { openPage, PASSWORD, signUp, startSite, useBrowser } from './support/browser.ts';

useBrowser();

test('a double click on a form of Settings sends it once', async () => {
  const page = await openPage(await startSite());
  await signUp(page, 'ann@example.com');
  const sent: string[] = [];
  page.on('request', (request) => {
    if (request.method() === 'POST') sent.push(new URL(request.url()).pathname);
  });

  const change = page.locator('form[action="/settings/password"]');
  await change.getByLabel('Current password').fill(PASSWORD);
  await change.getByLabel('New password').fill(`another ${PASSWORD}`);
  await change.getByRole('button').dblclick({ delay: 50 });
  await page.getByText('Your password has been changed').waitFor();

  const deletion = page.locator('form[action="/settings/delete"]');
  await deletion.getByLabel('Current password').fill(`another ${PASSWORD}`);
  await deletion.getByRole('button').dblclick({ delay: 50 });
  await page.getByText('Your account has been deleted').waitFor();
  expect(sent).toEqual(['/settings/password', '/settings/delete']);
});
