import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import { freePort } from '../support/free-port.ts';
import { SESSION_SECRET, WEBHOOK_SECRET } from './shared.ts';

const TSX = createRequire(import.meta.url).resolve('tsx');
const RUN = join(import.meta.dirname, '../../src/run.js');
const BASELINE = join(import.meta.dirname, 'baseline.ts');

/** The unit of /proc/PID/stat, ms: USER_HZ is 100 on every Linux that Node.js runs on. */
const TICK_MS = 10;

/** Node's arguments that start a program of Tandem's as `npm start` and `npm run cli` do. */
export function programArguments(program: 'server' | 'cli'): string[] {
  return program === 'server' ? ['--max-semi-space-size=8', RUN, program] : [RUN, program];
}

export interface Server {
  port: number;
  /** Resident memory, MB. */
  memory: () => number;
  /** Processor time of all threads so far, ms. */
  cpu: () => number;
  stop: () => Promise<void>;
}

/** Tandem's environment as in production, with every default left alone. */
export function tandemEnvironment(databaseUrl: string, port: number): Record<string, string> {
  return {
    NODE_ENV: 'production',
    PORT: String(port),
    DATABASE_URL: databaseUrl,
    STRIPE_API_KEY: 'sk_test_benchmark',
    STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET,
    STRIPE_PRICE_MONTHLY: 'price_monthly',
    STRIPE_PRICE_ANNUAL: 'price_annual',
    PUBLIC_URL: 'https://tandem.example',
    SESSION_SECRET,
  };
}

/** Tandem as in production. With a folder for profiles it writes a CPU profile there. */
export async function startTandem(databaseUrl: string, profiles: string | null): Promise<Server> {
  const port = await freePort();
  const flags = profiles === null ? [] : ['--cpu-prof', `--cpu-prof-dir=${profiles}`];
  return start([...flags, ...programArguments('server')], port, tandemEnvironment(databaseUrl, port));
}

/**
 * The bare server.
 *
 * @param databaseUrl its own database
 * @param pages the folder of the pages it sends
 */
export async function startBaseline(databaseUrl: string, pages: string): Promise<Server> {
  const port = await freePort();
  // pg reads an instant without a time zone as local time.
  const env = { NODE_ENV: 'production', TZ: 'UTC' };
  return start(['--import', TSX, BASELINE, String(port), databaseUrl, pages], port, env);
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
  // It logs as in production; nobody reads the log.
  child.stdout.resume();
  while (!(await isListening(port))) {
    if (child.exitCode !== null) throw new Error('A server of the benchmark did not start.');
    await pause(50);
  }
  return {
    port,
    memory: () => residentMemory(child),
    cpu: () => processorTime(child),
    stop: () => stop(child),
  };
}

function isListening(port: number): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1' });
  return new Promise((resolve) => {
    socket.once('connect', () => {
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  }).then((listens) => {
    socket.destroy();
    return listens === true;
  });
}

async function stop(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await exit;
}

function processorTime({ pid = 0 }: ChildProcess): number {
  // User and system time are fields 14 and 15. Field 2, the name, may contain spaces and ends with the last ")".
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

function residentMemory({ pid = 0 }: ChildProcess): number {
  const [, kilobytes = '0'] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kilobytes) / 1024;
}
