import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import * as z from 'zod';

import type { Config, StripeConfig } from './config.ts';
import { dataFolder } from './db/open.ts';
import { PlainError } from './plain-error.ts';

/** The part of the sandbox's file that commands need. Only the sandbox writes the file. */
const savedSandbox = z.object({
  aheadMs: z.number().default(0),
  access: z.object({ apiBase: z.url(), apiKey: z.string() }).nullable().default(null),
});

/** The file in which the sandbox keeps its state, readable by its owner alone. */
export function sandboxFile({ databaseUrl }: Config): string {
  return join(dataFolder(databaseUrl), 'sandbox.json');
}

/**
 * The sandbox as a command in another process sees it.
 *
 * @param config with the sandbox on
 * @returns how far its clock is ahead of the real one, ms, and how to reach it; there is no key while its
 * server is off, except after a crash
 * @throws PlainError when its file cannot be read
 */
export async function readSandbox(config: Config): Promise<{ aheadMs: number; stripe: StripeConfig }> {
  const { aheadMs, access } = await readSaved(sandboxFile(config));
  return { aheadMs, stripe: { ...config.stripe, ...access } };
}

async function readSaved(path: string): Promise<z.infer<typeof savedSandbox>> {
  try {
    return savedSandbox.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // The server has not been started yet.
    if (code === 'ENOENT') return savedSandbox.parse({});
    const isDamaged = error instanceof SyntaxError || error instanceof z.ZodError;
    throw new PlainError(
      isDamaged
        ? `The sandbox's file ${path} is damaged. Delete it; the sandbox then starts empty.`
        : `The sandbox's file ${path} cannot be read: ${message}. Give the user that runs this command permission to read it.`,
    );
  }
}
