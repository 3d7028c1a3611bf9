import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { freePort } from '../support/free-port.ts';
import { SESSION_SECRET, WEBHOOK_SECRET } from './shared.ts';

const TSX = createRequire(import.meta.url).resolve('tsx');
const TANDEM = join(import.meta.dirname, '../../src/server.ts');
const LIMIT = join(import.meta.dirname, 'limit.ts');

export interface Server {
  port: number;
  /** Resident memory, MB. */
  memory: () => number;
  stop: () => Promise<void>;
}

/** Tandem's environment as in production. */
export function tandemEnvironment(databaseUrl: string, port: number): Record<string, string> {
  return {
    NODE_ENV: 'production',
    PORT: String(port),
    DATABASE_URL: databaseUrl,
    STRIPE_API_KEY: 'sk_test_benchmark',
    STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET,
    SESSION_SECRET,
    LOG_LEVEL: 'warn',
  };
}

/** Tandem as an operator runs it in production. With a folder for profiles it leaves a CPU profile there. */
export async function startTandem(databaseUrl: string, profiles: string | null): Promise<Server> {
  const port = await freePort();
  const flags = profiles === null ? [] : ['--cpu-prof', `--cpu-prof-dir=${profiles}`];
  return start([...flags, '--import', TSX, TANDEM], port, tandemEnvironment(databaseUrl, port));
}

/**
 * The bare server.
 *
 * @param databaseUrl its own database
 * @param pages the folder of the pages that it sends
 */
export async function startLimit(databaseUrl: string, pages: string): Promise<Server> {
  const port = await freePort();
  // pg reads an instant without a time zone as local time.
  const env = { NODE_ENV: 'production', TZ: 'UTC' };
  return start(['--import', TSX, LIMIT, String(port), databaseUrl, pages], port, env);
}

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

async function start(args: string[], port: number, env: Record<string, string>): Promise<Server> {
  const child = spawn(process.execPath, args, {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.add(child);
  child.once('exit', () => running.delete(child));
  await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'exit').then(() => Promise.reject(new Error('A server of the benchmark did not start.'))),
  ]);
  return { port, memory: () => residentMemory(child), stop: () => stop(child) };
}

async function stop(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await exit;
}

function residentMemory({ pid = 0 }: ChildProcess): number {
  const [, kilobytes = '0'] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kilobytes) / 1024;
}
