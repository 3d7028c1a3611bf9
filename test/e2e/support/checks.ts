import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import type { AxeResults } from 'axe-core';
import type { Page } from 'playwright-core';
import { expect } from 'vitest';

import { DESKTOP, PHONE, WIDE } from './browser.ts';
import { SCREENSHOTS } from './chromium.ts';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** WCAG 2.2 AA and what axe calls good practice. */
const ALL_RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

/** Of these, what a colour scheme can change. */
const OF_COLOUR = ['color-contrast', 'link-in-text-block'];

/** Everything a page loads, over the wire, bytes. */
const MAX_TRANSFER_BYTES = 30 * 1024;

/** Of what is pressed with a thumb, CSS px. */
const MIN_TARGET = 44;

/**
 * Looks at a page as it is now: on a phone, on a desktop and on a wide screen, light and dark, and walks through it by
 * keyboard. Leaves a picture of each.
 *
 * @param name of the page and its state, for the pictures
 */
export async function checkPage(page: Page, name: string): Promise<void> {
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const [device, size] of [
      ['phone', PHONE],
      ['desktop', DESKTOP],
      ['wide', WIDE],
    ] as const) {
      const state = `${name} ${device} ${colorScheme}`;
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize(size);
      await page.screenshot({ path: pictureOf(state), fullPage: true });
      const rules = colorScheme === 'light' ? ALL_RULES : OF_COLOUR;
      expect([state, await axeFindings(page, rules)]).toEqual([state, []]);
      if (colorScheme === 'dark') continue;
      expect([state, await page.evaluate<number>(SIDEWAYS)]).toEqual([state, 0]);
      expect([state, await page.evaluate<string[]>(SMALL_TARGETS)]).toEqual([state, []]);
    }
  }
  await checkKeyboard(page, name);
}

/** Looks at a page as it is printed by somebody who likes it dark. Leaves a picture. */
export async function checkPrinted(page: Page, name: string): Promise<void> {
  const state = `${name} printed`;
  await page.emulateMedia({ media: 'print', colorScheme: 'dark' });
  await page.screenshot({ path: pictureOf(state), fullPage: true });
  expect([state, await axeFindings(page, ALL_RULES)]).toEqual([state, []]);
}

/** Leaves a picture of a page in a high-contrast theme, whose colours are the visitor's own. */
export async function showForcedColours(page: Page, name: string): Promise<void> {
  await page.emulateMedia({ media: 'screen', forcedColors: 'active' });
  await page.screenshot({ path: pictureOf(`${name} forced colours`), fullPage: true });
  await page.emulateMedia({ forcedColors: 'none' });
}

/** Tab reaches everything that can be pressed or filled in, in the order of reading, and it shows where the focus is. */
async function checkKeyboard(page: Page, name: string): Promise<void> {
  const wanted = await page.evaluate<string[]>(FOCUSABLE);
  const reached: string[] = [];
  for (let presses = 0; presses <= wanted.length && reached.length < wanted.length; presses += 1) {
    await page.keyboard.press('Tab');
    const focus = await page.evaluate<{ element: string; seen: boolean } | null>(FOCUSED);
    // Between the last and the first comes the browser itself.
    if (focus === null) continue;
    expect([name, focus]).toEqual([name, { ...focus, seen: true }]);
    reached.push(focus.element);
  }
  // Tab goes on from where the focus is, which may be in the middle.
  const start = wanted.indexOf(reached[0] ?? '');
  expect([name, ...reached]).toEqual([name, ...wanted.slice(start), ...wanted.slice(0, start)]);
}

/**
 * Loads a page anew and looks at how it comes: how much, what holds up the first paint, and whether anything jumps.
 */
export async function checkLoading(page: Page, path: string): Promise<void> {
  await page.goto(path, { waitUntil: 'load' });
  const { bytes, blockingScripts, elsewhere, shifts } = await page.evaluate<Loading>(LOADING);
  expect([path, blockingScripts, elsewhere, shifts]).toEqual([path, [], [], []]);
  expect(bytes, path).toBeLessThan(MAX_TRANSFER_BYTES);
}

function pictureOf(state: string): string {
  return join(SCREENSHOTS, `${state.replaceAll(' ', '-')}.png`);
}

/** @param runOnly tags or names of axe's rules */
async function axeFindings(page: Page, runOnly: readonly string[]): Promise<string[]> {
  if (!(await page.evaluate<boolean>('"axe" in globalThis'))) await page.evaluate(AXE);
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

// What runs in the page is text: the tests are compiled for Node, which knows no document.

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
