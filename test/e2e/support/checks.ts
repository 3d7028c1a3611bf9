import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import type { AxeResults } from 'axe-core';
import type { Page } from 'playwright-core';
import { expect } from 'vitest';

import { DESKTOP, PHONE, WIDE } from './browser.ts';
import { SCREENSHOTS, WITH_SCREENSHOTS } from './chromium.ts';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** WCAG 2.2 AA and axe's best practices. */
const ALL_RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

/** The rules that a colour scheme can affect. */
const OF_COLOUR = ['color-contrast', 'link-in-text-block'];

/**
 * The rules that the layout can affect. No width hides content; below 64rem the holdings get their column names as
 * labels.
 */
const OF_LAYOUT = [...OF_COLOUR, 'target-size', 'scrollable-region-focusable'];

/** What axe checks where: a page has the same content at every width and in every colour scheme. */
const RULES: Readonly<Record<string, readonly string[]>> = {
  'phone light': ALL_RULES,
  'desktop light': OF_LAYOUT,
  'desktop dark': OF_COLOUR,
};

/** The most that a page may load over the wire, bytes. */
const MAX_TRANSFER_BYTES = 30 * 1024;

/** The smallest target for a thumb, CSS px. */
const MIN_TARGET = 44;

/**
 * Checks the current page: horizontal overflow and the size of targets on three screens in light mode, accessibility on
 * a phone and a desktop in light mode, colours on a desktop in dark mode, and the tab order. With SCREENSHOTS=1 it saves
 * each screen in both modes, too.
 *
 * @param name the page and its state, for failures and screenshots
 */
export async function checkPage(page: Page, name: string): Promise<void> {
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const [device, size] of [
      ['phone', PHONE],
      ['desktop', DESKTOP],
      ['wide', WIDE],
    ] as const) {
      const state = `${name} ${device} ${colorScheme}`;
      const rules = RULES[`${device} ${colorScheme}`];
      const isLight = colorScheme === 'light';
      if (!rules && !isLight && !WITH_SCREENSHOTS) continue;
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize(size);
      await saveScreenshot(page, state);
      if (rules) expect([state, await axeFindings(page, rules)]).toEqual([state, []]);
      if (!isLight) continue;
      expect([state, await page.evaluate<number>(SIDEWAYS)]).toEqual([state, 0]);
      expect([state, await page.evaluate<string[]>(SMALL_TARGETS)]).toEqual([state, []]);
    }
  }
  await checkKeyboard(page, name);
}

/** Checks the HTML of an email on a phone and a desktop, in light and dark. */
export async function checkMail(page: Page, name: string, html: string): Promise<void> {
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    for (const [device, size] of [
      ['phone', PHONE],
      ['desktop', DESKTOP],
    ] as const) {
      const state = `mail ${name} ${device} ${colorScheme}`;
      await page.setViewportSize(size);
      await page.setContent(html);
      await saveScreenshot(page, state);
      expect([state, await axeFindings(page, OF_COLOUR)]).toEqual([state, []]);
      expect([state, await page.evaluate<number>(SIDEWAYS)]).toEqual([state, 0]);
    }
  }
}

/** Checks a page in print for a visitor in dark mode. */
export async function checkPrinted(page: Page, name: string): Promise<void> {
  const state = `${name} printed`;
  await page.emulateMedia({ media: 'print', colorScheme: 'dark' });
  await saveScreenshot(page, state);
  expect([state, await axeFindings(page, ALL_RULES)]).toEqual([state, []]);
}

/** A high-contrast theme uses the visitor's own colours, so there is only a screenshot to look at. */
export async function showForcedColours(page: Page, name: string): Promise<void> {
  await page.emulateMedia({ media: 'screen', forcedColors: 'active' });
  await saveScreenshot(page, `${name} forced colours`);
  await page.emulateMedia({ forcedColors: 'none' });
}

/** Tab reaches every control in reading order, and the focus is visible. */
async function checkKeyboard(page: Page, name: string): Promise<void> {
  const wanted = await page.evaluate<string[]>(FOCUSABLE);
  const reached: string[] = [];
  for (let presses = 0; presses <= wanted.length && reached.length < wanted.length; presses += 1) {
    await page.keyboard.press('Tab');
    const focus = await page.evaluate<{ element: string; seen: boolean } | null>(FOCUSED);
    // Between the last control and the first, the focus is in the browser itself.
    if (focus === null) continue;
    expect([name, focus]).toEqual([name, { ...focus, seen: true }]);
    reached.push(focus.element);
  }
  // Tab continues from the focus, which may be in the middle of the page.
  const start = wanted.indexOf(reached[0] ?? '');
  expect([name, ...reached]).toEqual([name, ...wanted.slice(start), ...wanted.slice(0, start)]);
}

/** Loads a page and checks its size, what blocks the first paint, and layout shifts. */
export async function checkLoading(page: Page, path: string): Promise<void> {
  await page.goto(path, { waitUntil: 'load' });
  const { bytes, blockingScripts, elsewhere, shifts } = await page.evaluate<Loading>(LOADING);
  expect([path, blockingScripts, elsewhere, shifts]).toEqual([path, [], [], []]);
  expect(bytes, path).toBeLessThan(MAX_TRANSFER_BYTES);
}

/** Drawing and compressing the pictures takes longer than the checks, and no test reads them. */
async function saveScreenshot(page: Page, state: string): Promise<void> {
  if (!WITH_SCREENSHOTS) return;
  const path = join(SCREENSHOTS, `${state.replaceAll(/[^\w.]+/g, '-')}.png`);
  await page.screenshot({ path, fullPage: true });
}

/** @param runOnly tags or names of axe's rules */
async function axeFindings(page: Page, runOnly: readonly string[]): Promise<string[]> {
  if (!(await page.evaluate<boolean>('"axe" in globalThis'))) await page.evaluate(AXE);
  // Buttons fade to the other scheme's colours. Without this wait, axe measures the contrast in between.
  await page.evaluate(TRANSITIONS_ENDED);
  const { violations } = await page.evaluate<AxeResults>(
    `axe.run(document, { runOnly: ${JSON.stringify(runOnly)}, resultTypes: ['violations'] })`,
  );
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`));
}

interface Loading {
  bytes: number;
  blockingScripts: string[];
  elsewhere: string[];
  shifts: string[];
}

// Code for the page is text: the tests are compiled for Node.js, without DOM types.

const TRANSITIONS_ENDED = `
  Promise.all(
    document.getAnimations()
      .filter((one) => one instanceof CSSTransition)
      .map(({ finished }) => finished))`;

const SIDEWAYS = 'document.documentElement.scrollWidth - document.documentElement.clientWidth';

const SMALL_TARGETS = `
  [...document.querySelectorAll('.settings-btn, button, select, input:not([type=hidden])')]
    .map((element) => ({ element, box: element.getBoundingClientRect() }))
    .filter(({ element, box }) => box.width > 1 && element.checkVisibility({ visibilityProperty: true }))
    .filter(({ box }) => Math.min(box.width, box.height) < ${MIN_TARGET} - 0.5)
    .map(({ element, box }) => element.outerHTML + ' is ' + box.width + ' by ' + box.height)`;

const FOCUSABLE = `
  (() => {
    const scope = document.querySelector('dialog[open]') ?? document;
    return [...scope.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]')]
      .filter((element) => element.checkVisibility({ visibilityProperty: true }))
      .map((element) => element.outerHTML.slice(0, 200));
  })()`;

const FOCUSED = `
  (() => {
    const element = document.activeElement;
    if (element === document.body) return null;
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    const { top, bottom } = element.getBoundingClientRect();
    return {
      element: element.outerHTML.slice(0, 200),
      seen: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 && bottom > 0 && top < innerHeight,
    };
  })()`;

const LOADING = `
  new Promise((resolve) => {
    const shifts = [];
    new PerformanceObserver((list) => {
      for (const { value, sources } of list.getEntries()) {
        shifts.push(value + ' of ' + sources.map(({ node }) => node?.outerHTML ?? node?.textContent).join(' '));
      }
    }).observe({ type: 'layout-shift', buffered: true });
    // Late requests and shifts can follow the load event, and shifts are reported with a delay.
    setTimeout(() => {
      const loaded = performance.getEntriesByType('resource');
      const all = [...performance.getEntriesByType('navigation'), ...loaded];
      resolve({
        bytes: all.reduce((sum, { transferSize }) => sum + transferSize, 0),
        blockingScripts: loaded
          .filter((entry) => entry.initiatorType === 'script' && entry.renderBlockingStatus === 'blocking')
          .map((entry) => entry.name),
        elsewhere: loaded.map((entry) => entry.name).filter((name) => !name.startsWith(location.origin)),
        shifts,
      });
    }, 500);
  })`;
