import { readFile } from 'node:fs/promises';

import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';

import { openPage, PASSWORD, PHONE, signUp, startSite, upgrade, useBrowser } from './support/browser.ts';
import type { Site } from './support/browser.ts';

useBrowser();

async function add(page: Page, symbol: string, quantity: string, price: string, note = ''): Promise<void> {
  await page.getByLabel('Symbol').fill(symbol);
  await page.getByLabel('Quantity').fill(quantity);
  await page.getByLabel('Price paid per unit').fill(price);
  await page.getByLabel('Note').fill(note);
  await page.getByRole('button', { name: 'Add holding' }).click();
  await said(page, `${symbol.toUpperCase()} added.`);
}

async function said(page: Page, text: string): Promise<void> {
  await page.locator('[data-status]', { hasText: text }).waitFor();
}

/** The symbols in their order on the page. */
function symbols(page: Page): Promise<string[]> {
  return page.locator('tbody th').allInnerTexts();
}

async function importFile(page: Page, name: string, text: string): Promise<void> {
  await page
    .getByLabel('Import a JSON or CSV file')
    .setInputFiles({ name, mimeType: 'text/plain', buffer: Buffer.from(text) });
}

async function exported(page: Page, button: string): Promise<string> {
  const [file] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: button }).click(),
  ]);
  return readFile(await file.path(), 'utf8');
}

test('holdings are added, sorted, changed, deleted and restored, and survive a reload', async () => {
  const site = await startSite();
  const page = await openPage(site, { viewport: PHONE });
  await page.goto('/portfolio');
  await page.getByText('Nothing here yet.').waitFor();

  await page.getByRole('button', { name: 'Add holding' }).click();
  await page.getByText('Enter a symbol of 1 to 20 characters.').waitFor();
  expect(await page.getByLabel('Symbol').getAttribute('aria-invalid')).toBe('true');

  await add(page, 'ACME', '10', '120.50', 'First');
  await add(page, 'GLOBEX', '2,5', '300');
  expect(await page.locator('[data-total]').innerText()).toBe('£1,955.00');
  expect(await page.locator('[data-legend]').innerText()).toContain('ACME 61.6%');

  await page.getByRole('button', { name: 'Cost' }).click();
  expect(await symbols(page)).toEqual(['GLOBEX', 'ACME']);
  await page.getByRole('button', { name: 'Cost' }).click();
  expect(await symbols(page)).toEqual(['ACME', 'GLOBEX']);
  expect(await page.locator('[data-column=cost]').getAttribute('aria-sort')).toBe('descending');

  await page.getByRole('button', { name: 'Edit GLOBEX' }).click();
  await page.getByLabel('Quantity').fill('10');
  await page.getByRole('button', { name: 'Save changes' }).click();
  await said(page, 'GLOBEX changed.');
  expect(await symbols(page)).toEqual(['GLOBEX', 'ACME']);

  await page.getByRole('button', { name: 'Delete ACME' }).click();
  await said(page, 'ACME deleted.');
  await page.reload();
  expect(await symbols(page)).toEqual(['GLOBEX']);
  await page.getByRole('button', { name: 'Undo the deletion' }).click();
  await said(page, 'Undid the deletion.');
  expect(await symbols(page)).toEqual(['ACME', 'GLOBEX']);
});

test('a symbol is one holding: adding it again adds to it at the average price, and that can be undone', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await page.goto('/portfolio');
  await add(page, 'acme', '10', '100');
  await page.getByLabel('Symbol').fill('Acme');
  await page.getByText('You have 10 ACME.').waitFor();
  await page.getByLabel('Quantity').fill('30');
  await page.getByLabel('Price paid per unit').fill('120');
  await page.getByRole('button', { name: 'Add holding' }).click();
  await said(page, '30 added to ACME: you have 40 now, for £115.00 each on average.');
  expect(await symbols(page)).toEqual(['ACME']);
  expect(await page.locator('[data-total]').innerText()).toBe('£4,600.00');
  await page.getByRole('button', { name: 'Undo the addition' }).click();
  expect(await page.locator('[data-total]').innerText()).toBe('£1,000.00');

  // A holding whose symbol is changed to an existing one is added to that one, too.
  await add(page, 'ACNE', '10', '200');
  await page.getByRole('button', { name: 'Edit ACNE' }).click();
  await page.getByLabel('Symbol').fill('acme');
  await page.getByRole('button', { name: 'Save changes' }).click();
  await said(page, '10 added to ACME: you have 20 now, for £150.00 each on average.');
  expect(await symbols(page)).toEqual(['ACME']);
});

test('what an older version of the page kept is read, and its duplicates become one', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await page.goto('/portfolio');
  const holdings = [10, 20].map((price) => ({ symbol: 'acme', quantity: 1, price, note: '' }));
  const old = { format: 'tandem-portfolio', version: 1, currency: 'EUR', holdings };
  await page.evaluate(`localStorage.setItem('tandem.portfolio', ${JSON.stringify(JSON.stringify(old))})`);
  await page.reload();
  await said(page, 'Holdings with the same symbol are now combined');
  expect(await symbols(page)).toEqual(['ACME']);
  expect(await page.locator('[data-total]').innerText()).toBe('€30.00');
  await page.reload();
  expect(await symbols(page)).toEqual(['ACME']);
  expect(await page.getByText('Holdings with the same symbol are now combined').count()).toBe(0);
});

test('two holdings of a symbol that do not fit into one can be edited, and are not said to be added', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await page.goto('/portfolio');
  const note = (letter: string): string => letter.repeat(300);
  const row = (letter: string): string => `acme;10;100;${note(letter)}\r\n`;
  await add(page, 'ACME', '1', '1');
  await page.getByRole('button', { name: 'Edit ACME' }).click();
  await page.getByLabel('Note').fill(note('x'));
  await page.getByRole('button', { name: 'Save changes' }).click();
  await importFile(page, 'depot.csv', `Ticker;Shares;Price;Note\r\n${row('y')}`);
  await page.getByRole('button', { name: 'Add to my holdings' }).click();
  await said(page, '1 holding imported.');
  expect(await page.getByText('You already had').count()).toBe(0);
  await page.getByRole('button', { name: 'Edit ACME' }).first().click();
  await page.getByLabel('Quantity').fill('7');
  await page.getByRole('button', { name: 'Save changes' }).click();
  await said(page, 'ACME changed.');
  expect(await symbols(page)).toEqual(['ACME', 'ACME']);
});

test('Undo belongs to the notice beside it: the next notice takes it away, and sorting does not', async () => {
  const { ann } = await backedUp();
  await add(ann, 'GLOBEX', '1', '1');
  const undo = ann.getByRole('button', { name: 'Undo' });
  await ann.getByRole('button', { name: 'Cost' }).click();
  expect(await undo.innerText()).toBe('Undo the addition');
  await ann.getByRole('button', { name: 'Back up now' }).click();
  await said(ann, 'Backed up 2 holdings.');
  expect(await undo.count()).toBe(0);
  await ann.reload();
  expect(await symbols(ann)).toEqual(['ACME', 'GLOBEX']);
  expect(await undo.count()).toBe(0);
});

test('a change in another tab takes the Undo away, because it would undo that change as well', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await page.goto('/portfolio');
  await add(page, 'ACME', '1', '1');
  const other = await page.context().newPage();
  await other.goto('/portfolio');
  await add(other, 'GLOBEX', '1', '1');
  await page.locator('tbody th', { hasText: 'GLOBEX' }).waitFor();
  expect(await page.getByRole('button', { name: 'Undo' }).count()).toBe(0);
  await page.getByLabel('Symbol').fill('INIT');
  await other.getByRole('button', { name: 'Undo the addition' }).click();
  expect(await symbols(other)).toEqual(['ACME']);
  await page.locator('tbody th', { hasText: 'GLOBEX' }).waitFor({ state: 'detached' });
  // What was half typed here is still there.
  expect(await page.getByLabel('Symbol').inputValue()).toBe('INIT');
});

test('a change in another tab takes the Undo away even while this tab shows another page', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await page.goto('/portfolio');
  await add(page, 'ACME', '1', '1');
  await page.goto('/pricing');
  const other = await page.context().newPage();
  await other.goto('/portfolio');
  await add(other, 'GLOBEX', '1', '1');
  await page.goBack();
  await page.locator('tbody th', { hasText: 'GLOBEX' }).waitFor();
  expect(await page.getByRole('button', { name: 'Undo' }).count()).toBe(0);
  expect(await page.locator('[data-status]').innerText()).toBe('');
});

test('a current price gives a current value and the gain; without one a holding counts at cost', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await page.goto('/portfolio');
  await add(page, 'ACME', '10', '100');
  await add(page, 'GLOBEX', '1', '500');
  expect(await page.locator('[data-value]').isVisible()).toBe(false);
  expect(await page.getByRole('button', { name: 'Gain or loss' }).isVisible()).toBe(false);

  await page.getByRole('button', { name: 'Edit ACME' }).click();
  await page.getByLabel('Current price').fill('much');
  await page.getByRole('button', { name: 'Save changes' }).click();
  await page.getByText('Enter what one unit is worth now').waitFor();
  await page.getByLabel('Current price').fill('80');
  await page.getByRole('button', { name: 'Save changes' }).click();
  await said(page, 'ACME changed.');
  expect(await page.locator('[data-total]').innerText()).toBe('£1,500.00');
  expect(await page.locator('[data-value]').innerText()).toBe('£1,300.00');
  expect(await page.locator('[data-gain]').innerText()).toBe('-£200.00 (-13.3%)');
  await page.getByText('1 holding without a current price counts at cost.').waitFor();
  const row = page.locator('tbody tr', { hasText: 'ACME' });
  expect(await row.locator('td').allTextContents()).toEqual([
    '10',
    '£100.00',
    '£1,000.00',
    '£800.00at £80.00',
    '-£200.00-20%',
    '',
    'EditDelete',
  ]);

  await page.getByRole('button', { name: 'Gain or loss' }).click();
  await page.getByRole('button', { name: 'Gain or loss' }).click();
  expect(await symbols(page)).toEqual(['ACME', 'GLOBEX']);
  await page.reload();
  expect(await page.locator('[data-value]').innerText()).toBe('£1,300.00');
  await page.getByRole('button', { name: 'Edit ACME' }).click();
  await page.getByLabel('Current price').fill('');
  await page.getByRole('button', { name: 'Save changes' }).click();
  await page.locator('[data-value]').waitFor({ state: 'hidden' });
});

test('the currency of the region comes first, and numbers are edited as they are written there', async () => {
  const site = await startSite();
  for (const [locale, currency, shown] of [
    ['de-CH', 'CHF', '1.5'],
    ['pl', 'PLN', '1,5'],
    ['en-US', 'USD', '1.5'],
    ['fr-FR', 'EUR', '1,5'],
    // Egypt's is not in the list.
    ['ar-EG', 'EUR', '1.5'],
  ] as const) {
    const page = await openPage(site, { locale });
    await page.goto('/portfolio');
    const all = await page.getByLabel('Currency').locator('option').allTextContents();
    expect([locale, all[0], new Set(all).size]).toEqual([locale, currency, all.length]);
    await add(page, 'ACME', '1.5', '7');
    await page.getByRole('button', { name: 'Edit ACME' }).click();
    expect([locale, await page.getByLabel('Quantity').inputValue()]).toEqual([locale, shown]);
    await page.getByRole('button', { name: 'Save changes' }).click();
    expect(JSON.parse(await exported(page, 'Export as JSON'))).toMatchObject({
      currency,
      holdings: [{ symbol: 'ACME', quantity: 1.5, price: 7 }],
    });
  }
});

test("any broker's file is imported after its columns were checked and corrected", async () => {
  const site = await startSite();
  const page = await openPage(site, { viewport: PHONE });
  await page.goto('/portfolio');
  await add(page, 'ACME', '10', '100');
  const file = '\uFEFFTicker;Shares;Then;Now\r\nacme;10;120,00;130\r\n"GLO;BEX";1.500;2,000;\r\nTotal;;;\r\n';
  await importFile(page, 'depot.csv', file);
  const dialog = page.getByRole('dialog', { name: 'Import “depot.csv”' });
  await dialog.getByText('2 holdings found. Amounts are in GBP. No column says what was paid').waitFor();
  await dialog.getByText('Line 4: its quantity is not a number above 0, or is too large.').waitFor();
  const preview = dialog.locator('tbody tr');
  const cellsOf = (row: number): Promise<string[]> => preview.nth(row).locator('th, td').allTextContents();
  const headings = () => dialog.locator('thead th').filter({ visible: true }).allTextContents();
  expect(await cellsOf(0)).toEqual(['ACME', '10', '£0.00', '', '']);
  expect(await headings()).toEqual(['Symbol', 'Quantity', 'Price paid']);

  await dialog.getByLabel('Price paid per unit').selectOption({ label: 'Then (120,00)' });
  await dialog.getByLabel('Current price per unit').selectOption({ label: 'Now (130)' });
  expect(await cellsOf(0)).toEqual(['ACME', '10', '£120.00', '£130.00', '']);
  expect(await headings()).toEqual(['Symbol', 'Quantity', 'Price paid', 'Current price']);
  expect(await cellsOf(1)).toEqual(['GLO;BEX', '1,500', '£2.00', '', '']);
  await dialog.getByLabel('Decimal separator').selectOption({ label: 'Point, as in 1,234.56' });
  expect(await cellsOf(1)).toEqual(['GLO;BEX', '1.5', '£2,000.00', '', '']);
  await dialog.getByLabel('Quantity').selectOption({ label: 'Choose a column' });
  await dialog.getByText('No holdings found yet').waitFor();
  expect(await dialog.getByRole('button').allTextContents()).toEqual(['Cancel']);

  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  expect(await symbols(page)).toEqual(['ACME']);
  expect(await page.evaluate('document.activeElement.id')).toBe('file');

  await importFile(page, 'depot.csv', file);
  await dialog.getByLabel('Price paid per unit').selectOption({ label: 'Then (120,00)' });
  await dialog.getByRole('button', { name: 'Add to my holdings' }).click();
  await said(page, '2 holdings imported. You already had 1 of these symbols: the quantity was added');
  expect(JSON.parse(await exported(page, 'Export as JSON'))).toMatchObject({
    holdings: [
      { symbol: 'ACME', quantity: 20, price: 110 },
      { symbol: 'GLO;BEX', quantity: 1500, price: 2 },
    ],
  });
});

test('files are exported and imported, and an invalid file changes nothing', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await page.goto('/portfolio');
  await add(page, 'ACME', '10', '120.50', '=1+1, "quoted"');
  await add(page, '-X', '1', '0', 'für später');

  const csv = await exported(page, 'Export as CSV');
  expect(csv).toBe(
    `symbol,quantity,price,note,current price\r\nACME,10,120.5,"'=1+1, ""quoted""",\r\n'-X,1,0,für später,\r\n`,
  );
  const json = await exported(page, 'Export as JSON');
  expect(JSON.parse(json)).toMatchObject({ format: 'tandem-portfolio', version: 1, currency: 'GBP' });

  await importFile(page, 'bad.csv', 'symbol,quantity,price\r\n"OK,1,1\r\n');
  await page.getByText('Line 2: a quotation mark is not closed. Nothing was imported.').waitFor();
  await importFile(page, 'none.csv', '\r\n');
  await page.getByText('This file is empty. Nothing was imported.').waitFor();
  await importFile(page, 'other.json', '{"format":"other"}');
  await page.getByText('This is not a portfolio from this page. Nothing was imported.').waitFor();
  expect(await symbols(page)).toEqual(['-X', 'ACME']);

  await importFile(page, 'more.csv', 'symbol,quantity,price,note\nNEW,"1",2,"two\nlines"\n');
  await page.getByRole('dialog').getByRole('button', { name: 'Add to my holdings' }).click();
  await said(page, '1 holding imported.');
  expect(await symbols(page)).toEqual(['-X', 'ACME', 'NEW']);

  const replaceBy = async (name: string, text: string): Promise<void> => {
    await importFile(page, name, text);
    await page.getByRole('dialog').getByRole('button', { name: 'Replace' }).click();
    await said(page, '2 holdings imported.');
  };
  await replaceBy('portfolio.csv', csv);
  await page.getByRole('button', { name: 'Undo the import' }).click();
  expect(await symbols(page)).toEqual(['-X', 'ACME', 'NEW']);
  for (const [name, text] of [
    ['portfolio.csv', csv],
    ['portfolio.json', json],
  ] as const) {
    await replaceBy(name, text);
    expect(JSON.parse(await exported(page, 'Export as JSON'))).toEqual(JSON.parse(json));
  }
});

test('when a part of the page cannot be loaded, a reload is what helps', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await page.goto('/portfolio');
  await add(page, 'ACME', '1', '1');
  // A connection that fails would be reported in the console, where no page may report anything.
  await page.route('**/csv.js', (route) =>
    route.fulfill({ contentType: 'text/javascript', body: 'throw new Error();' }),
  );
  await page.getByRole('button', { name: 'Export as CSV' }).click();
  await said(page, 'A part of this page could not be loaded. Reload the page, then try again.');
  await page.unroute('**/csv.js');
  await page.reload();
  expect(await exported(page, 'Export as CSV')).toContain('ACME');
});

test('no exported cell starts a formula, whatever the separator, and the file imports unchanged', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await page.goto('/portfolio');
  const notes = [
    'a;=1+1',
    '; =1+1',
    '\uFF1D1+1',
    '\uFF0B1;\uFF0D1;\uFF201',
    'one\n=1+1\r\n@SUM(1)',
    'a\t=1',
    'a|-1',
    "';'=1",
    "'",
    "it's fine; really - 5",
    '"=1+1"',
    'a;"=1+1;b',
    '\u00A0+1',
  ];
  const portfolio = {
    format: 'tandem-portfolio',
    version: 1,
    currency: 'EUR',
    holdings: notes.map((note, n) => ({ symbol: `S${n}`, quantity: 1, price: 1, note })),
  };
  await importFile(page, 'portfolio.json', JSON.stringify(portfolio));
  await said(page, `${notes.length} holdings imported.`);
  const csv = await exported(page, 'Export as CSV');
  for (const separator of [/[,\r\n]/, /[;\r\n]/, /[\t\r\n]/, /[|\r\n]/]) {
    for (const cell of csv.split(separator))
      expect(cell).not.toMatch(/^["\s]*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20]/);
  }
  expect(csv).toContain("it's fine; really - 5");
  await importFile(page, 'portfolio.csv', csv);
  await page.getByRole('dialog').getByRole('button', { name: 'Replace' }).click();
  await said(page, `${notes.length} holdings imported.`);
  expect(JSON.parse(await exported(page, 'Export as JSON'))).toEqual(portfolio);
});

test('data that cannot be read is never overwritten', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await page.goto('/portfolio');
  await page.evaluate(
    `localStorage.setItem('tandem.portfolio', '{"format":"tandem-portfolio","version":2}')`,
  );
  await page.reload();
  await page.getByText('made by another version').waitFor();
  expect(await exported(page, 'Download it as it is')).toBe('{"format":"tandem-portfolio","version":2}');
  await page.getByRole('button', { name: 'Start again' }).click();
  await page.getByRole('button', { name: 'Keep it' }).click();
  await page.getByText('cannot be read').waitFor();
  await page.getByRole('button', { name: 'Start again' }).click();
  await page.getByRole('button', { name: 'Delete it' }).click();
  await page.getByText('Nothing here yet.').waitFor();
});

/** A paying user with one holding and a backup of it. */
async function backedUp(): Promise<{ site: Site; ann: Page }> {
  const site = await startSite();
  const ann = await openPage(site);
  await signUp(ann, 'ann@example.com');
  await upgrade(ann);
  await ann.goto('/portfolio');
  await add(ann, 'ACME', '10', '120.50');
  await ann.getByRole('button', { name: 'Back up now' }).click();
  await said(ann, 'Backed up 1 holding.');
  return { site, ann };
}

test('a backup is made, restored in another browser, restored over existing data after a question, undone and deleted', async () => {
  const { site, ann } = await backedUp();
  const elsewhere = await openPage(site);
  await elsewhere.goto('/login');
  await elsewhere.getByLabel('Email address').fill('ann@example.com');
  await elsewhere.getByLabel('Password').fill(PASSWORD);
  await elsewhere.getByRole('button', { name: 'Log in' }).click();
  await elsewhere.waitForURL('**/settings');
  await elsewhere.goto('/portfolio');
  // There is nothing to replace here, so no question is asked.
  await elsewhere.getByRole('button', { name: 'Restore' }).click();
  await said(elsewhere, 'Restored 1 holding');
  expect(await symbols(elsewhere)).toEqual(['ACME']);

  await add(ann, 'GLOBEX', '1', '1');
  await ann.getByRole('button', { name: 'Restore' }).click();
  const dialog = ann.getByRole('dialog');
  await dialog.getByText('Replace the 2 holdings in this browser?').waitFor();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  expect(await symbols(ann)).toEqual(['ACME', 'GLOBEX']);
  expect(await ann.evaluate('document.activeElement.textContent')).toBe('Restore');
  await ann.getByRole('button', { name: 'Restore' }).click();
  await dialog.getByRole('button', { name: 'Replace' }).click();
  await said(ann, 'Restored 1 holding');
  expect(await symbols(ann)).toEqual(['ACME']);
  await ann.getByRole('button', { name: 'Undo the restore' }).click();
  expect(await symbols(ann)).toEqual(['ACME', 'GLOBEX']);

  await ann.evaluate(`localStorage.setItem('tandem.portfolio', 'damaged')`);
  await ann.reload();
  for (const name of ['Restore', 'Back up now']) {
    await ann.getByRole('button', { name }).click();
    await said(ann, 'Download it or press');
  }
  expect(await ann.evaluate(`localStorage.getItem('tandem.portfolio')`)).toBe('damaged');

  await ann.getByRole('button', { name: 'Delete the backup' }).click();
  await dialog.getByRole('button', { name: 'Delete it' }).click();
  await ann.getByText('You have no backups yet.').waitFor();
});

test('a second question waits for the answer to the first', async () => {
  const { ann } = await backedUp();
  await add(ann, 'GLOBEX', '1', '1');
  let goOn = (): void => undefined;
  const mayGoOn = new Promise<void>((resolve) => (goOn = resolve));
  await ann.route('**/restore', async (route) => {
    await mayGoOn;
    await route.continue();
  });
  await ann.getByRole('button', { name: 'Restore' }).click();
  await ann.getByRole('button', { name: 'Delete the backup' }).click();
  const dialog = ann.getByRole('dialog');
  await dialog.getByText('Delete the backup from').waitFor();
  const restored = ann.waitForResponse('**/restore');
  goOn();
  await (await restored).finished();
  await dialog.getByRole('button', { name: 'Keep it' }).click();
  await dialog.getByText('Replace the 2 holdings in this browser?').waitFor();
  await dialog.getByRole('button', { name: 'Replace' }).click();
  await said(ann, 'Restored 1 holding');
  expect(await ann.locator('[data-backups] li').count()).toBe(1);
});

test('what another tab changed while a question was open is not overwritten', async () => {
  const { ann } = await backedUp();
  const dialog = ann.getByRole('dialog');
  const other = await ann.context().newPage();
  await other.goto('/portfolio');
  await add(other, 'GLOBEX', '1', '1');
  await ann.locator('tbody th', { hasText: 'GLOBEX' }).waitFor();

  await importFile(ann, 'mine.csv', 'symbol,quantity\r\nINIT,3\r\n');
  await dialog.getByRole('button', { name: 'Add to my holdings' }).waitFor();
  await add(other, 'HOOLI', '1', '1');
  await ann.locator('tbody th', { hasText: 'HOOLI' }).waitFor({ state: 'attached' });
  await dialog.getByRole('button', { name: 'Add to my holdings' }).click();
  await ann.getByText('Another tab has changed the portfolio meanwhile. Nothing was imported.').waitFor();

  await ann.getByRole('button', { name: 'Restore' }).click();
  await dialog.getByText('Replace the 3 holdings in this browser?').waitFor();
  await add(other, 'UMBRELLA', '1', '1');
  await ann.locator('tbody th', { hasText: 'UMBRELLA' }).waitFor({ state: 'attached' });
  await dialog.getByRole('button', { name: 'Replace' }).click();
  await said(ann, 'Another tab has changed the portfolio meanwhile. Nothing was restored.');
  expect(await symbols(other)).toEqual(['ACME', 'GLOBEX', 'HOOLI', 'UMBRELLA']);
  expect(await ann.evaluate(`localStorage.getItem('tandem.portfolio')`)).toContain('UMBRELLA');
});

test('what another tab saved is not deleted by an older question', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await page.goto('/portfolio');
  await page.evaluate(`localStorage.setItem('tandem.portfolio', 'damaged')`);
  await page.reload();
  const other = await page.context().newPage();
  await other.goto('/portfolio');
  const startAgain = async (tab: Page) => {
    await tab.getByRole('button', { name: 'Start again' }).click();
    await tab.getByRole('dialog').getByText('Delete the portfolio in this browser?').waitFor();
  };
  const confirm = (tab: Page) => tab.getByRole('dialog').getByRole('button', { name: 'Delete it' }).click();
  await startAgain(page);
  await startAgain(other);
  await confirm(other);
  await add(other, 'ACME', '1', '1');
  await page.locator('tbody th', { hasText: 'ACME' }).waitFor({ state: 'attached' });
  await confirm(page);
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  expect(await symbols(page)).toEqual(['ACME']);
});

test('a backup that was made is not said to have failed when the list cannot be read', async () => {
  const { ann } = await backedUp();
  await ann.route('**/api/backups', (route) =>
    route.request().method() === 'GET' ? route.fulfill({ body: 'cut off' }) : route.continue(),
  );
  await ann.getByRole('button', { name: 'Back up now' }).click();
  await said(ann, 'Backed up 1 holding. The list could not be refreshed: reload the page.');
});

test('without JavaScript a backup can be downloaded and deleted', async () => {
  const { site, ann } = await backedUp();

  const cookies = await ann.context().cookies();
  const plain = await openPage(site, { javaScriptEnabled: false });
  await plain.context().addCookies(cookies);
  await plain.goto('/portfolio');
  await plain.getByText('needs JavaScript').waitFor();
  expect(await plain.getByLabel('Symbol').isVisible()).toBe(false);
  expect(JSON.parse(await exported(plain, 'Restore'))).toMatchObject({ holdings: [{ symbol: 'ACME' }] });
  await plain.getByRole('button', { name: 'Delete' }).click();
  await plain.getByText('The backup has been deleted.').waitFor();
  await plain.getByText('You have no backups yet.').waitFor();
});

test('a holding can be entered, deleted and restored with the keyboard alone', async () => {
  const site = await startSite();
  const page = await openPage(site);
  await page.goto('/portfolio');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  const focused = (): Promise<string> =>
    page.evaluate<string>('document.activeElement.getAttribute("aria-label") ?? document.activeElement.id');
  const tabTo = async (wanted: string): Promise<void> => {
    for (let presses = 0; presses < 40 && (await focused()) !== wanted; presses += 1) {
      await page.keyboard.press('Tab');
    }
    expect(await focused()).toBe(wanted);
  };
  await tabTo('symbol');
  await page.keyboard.type('ACME');
  await page.keyboard.press('Tab');
  await page.keyboard.type('3');
  await page.keyboard.press('Tab');
  await page.keyboard.type('7');
  await page.keyboard.press('Enter');
  await said(page, 'ACME added.');
  expect(await focused()).toBe('symbol');
  for (let presses = 0; presses < 40 && (await focused()) !== 'Delete ACME'; presses += 1) {
    await page.keyboard.press('Shift+Tab');
  }
  await page.keyboard.press('Enter');
  await said(page, 'ACME deleted.');
  await page.keyboard.press('Enter');
  await said(page, 'Undid the deletion.');
  expect(await symbols(page)).toEqual(['ACME']);
});
