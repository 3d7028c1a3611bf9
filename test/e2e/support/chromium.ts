import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import type { TestProject } from 'vitest/node';

import '../../support/provided.ts';

/** With SCREENSHOTS=1 in the environment, the tests save a screenshot of every page in every state. */
export const WITH_SCREENSHOTS = process.env['SCREENSHOTS'] === '1';

/** Where they save them. */
export const SCREENSHOTS = join(import.meta.dirname, '../../../artefacts/screenshots');

/** The headless shell takes two thirds of full Chromium's time. */
const PATHS = ['/usr/bin/chromium-headless-shell', '/usr/bin/chromium'];

/** Finds the browser before any test starts. @throws Error when there is none */
export default async function setup(project: TestProject): Promise<void> {
  const chosen = process.env['CHROMIUM_PATH'];
  const path = (chosen === undefined ? PATHS : [chosen]).find(existsSync);
  if (path === undefined) {
    throw new Error(
      `There is no Chromium at ${chosen ?? PATHS.join(' or ')}. Install it (on Debian and Ubuntu: apt-get install ` +
        'chromium-headless-shell), or set CHROMIUM_PATH to where yours is.',
    );
  }
  if (WITH_SCREENSHOTS) {
    await rm(SCREENSHOTS, { recursive: true, force: true });
    await mkdir(SCREENSHOTS, { recursive: true });
  }
  project.provide('chromium', path);
}
