import { chromium } from 'playwright-core';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, inject, onTestFinished } from 'vitest';

import { startServer } from '../../../src/start.ts';
import { newDatabase } from '../../support/databases.ts';
import { freePort } from '../../support/free-port.ts';
import { runCli } from '../../support/process.ts';

export const PHONE = { width: 390, height: 844 };
export const DESKTOP = { width: 1280, height: 900 };
export const WIDE = { width: 1920, height: 1080 };

export const PASSWORD = 'correct horse';

/** A server in sandbox mode with its own database, and the operator's command line. */
export interface Site {
  url: string;
  databaseUrl: string;
  /** Runs a CLI command on the server's database. */
  cli: (...args: string[]) => Promise<void>;
}

let browser: Browser;

/** Starts one browser for all tests of a file. */
export function useBrowser(): void {
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: inject('chromium'), args: ['--no-sandbox'] });
  });
  afterAll(() => browser.close());
}

/**
 * Starts a server in this process: it starts in a moment and needs no second compiled copy of everything.
 *
 * @param settings environment variables in addition to the defaults
 */
export async function startSite(settings: Record<string, string> = {}): Promise<Site> {
  const env = {
    DATABASE_URL: await newDatabase(),
    PORT: String(await freePort()),
    LOG_LEVEL: 'warn',
    ...settings,
  };
  const { announcement, close } = await startServer(env, () => new Date());
  onTestFinished(close);
  return {
    url: announcement.url,
    databaseUrl: env.DATABASE_URL,
    cli: async (...args) => {
      const { code, stderr } = await runCli(args, env);
      if (code !== 0) throw new Error(stderr);
    },
  };
}

/** A browser with its own cookies, closed after the test. Any fault on a page fails the test. */
export async function openPage(site: Site, options: BrowserContextOptions = {}): Promise<Page> {
  const context = await browser.newContext({
    baseURL: site.url,
    viewport: DESKTOP,
    locale: 'en-GB',
    ...options,
  });
  onTestFinished(() => context.close());
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => {
    // A refused form is answered 4xx on purpose, and the console reports it.
    if (message.type() === 'error' && !message.text().includes('the server responded with a status of')) {
      problems.push(message.text());
    }
  });
  page.on('response', (response) => {
    if (response.status() >= 500) problems.push(`${response.status()} ${response.url()}`);
  });
  onTestFinished(() => {
    expect(problems).toEqual([]);
  });
  return page;
}

/** Signs up through the form; ends on Settings. */
export async function signUp(page: Page, email: string): Promise<void> {
  await page.goto('/signup');
  await page.getByLabel('Email address').fill(email);
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign up' }).click();
  await page.waitForURL('**/settings');
}

/** Pays for the monthly plan at the sandbox's checkout; ends on Settings showing the payment. */
export async function upgrade(page: Page): Promise<void> {
  await page.goto('/pricing');
  await page.getByRole('button', { name: 'Choose monthly' }).click();
  await page.getByRole('button', { name: 'Pay', exact: true }).click();
  await page.waitForURL('**/settings**');
  await page.getByText('Monthly plan').waitFor();
}

/**
 * Opens the sandbox's billing portal, presses buttons there in order, and returns to Settings.
 *
 * @param buttons by name; actions of time, the bank and the seller are among them
 */
export async function atThePortal(page: Page, ...buttons: string[]): Promise<void> {
  await page.goto('/settings');
  await page.getByRole('button', { name: 'Manage billing' }).click();
  for (const name of buttons) await page.getByRole('button', { name }).click();
  await page.getByRole('link', { name: 'Return' }).click();
  await page.waitForURL('**/settings**');
}

/** The referral link shown in a user's settings. */
export async function referralLink(page: Page): Promise<string> {
  await page.goto('/settings');
  return page.getByLabel('Your link', { exact: true }).inputValue();
}
