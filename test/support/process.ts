import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { WriteStream } from 'node:tty';

import { inject, onTestFinished } from 'vitest';

import { runCommandLine } from '../../src/operator/command-line.ts';
import { freePort } from './free-port.ts';

const RUN = join(import.meta.dirname, '../../src/run.js');

export interface Started {
  child: ChildProcess;
  /** Everything that it has written so far. */
  output: { stdout: string; stderr: string };
}

export interface RunningServer extends Started {
  /** The address that it printed. */
  url: string;
  /** Sends the signal and waits for the exit code; null when the signal killed it. */
  stop: (signal?: NodeJS.Signals) => Promise<number | null>;
}

/**
 * Starts one of our programs as a separate process, with only PATH and the given environment. It is killed when the test
 * has finished.
 *
 * @param folder where it runs; a new empty one when omitted
 * @param stdout a file descriptor for its standard output, which is then not in `output`
 */
export async function startProgram(
  program: 'server' | 'cli' | 'demo',
  args: string[],
  env: Record<string, string>,
  folder?: string,
  stdout: number | 'pipe' = 'pipe',
): Promise<Started> {
  const child = spawn(process.execPath, [RUN, program, ...args], {
    cwd: folder ?? (await emptyFolder()),
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', stdout, 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const output = { stdout: '', stderr: '' };
  child.stdout?.on('data', (chunk: Buffer) => (output.stdout += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (output.stderr += chunk.toString()));
  return { child, output };
}

/** Waits for a process and its output to end. */
export async function ended({ child, output }: Started): Promise<CliOutcome> {
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...output };
}

/** The outcome of a run of the command line. */
export interface CliOutcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the command line to its end in this process; `runCliProcess` starts a process for it. */
export async function runCli(
  args: string[],
  env: { DATABASE_URL: string } & Record<string, string>,
  fromFile: ReadonlySet<string> = new Set(),
  now: () => Date = () => new Date(),
): Promise<CliOutcome> {
  const [stdout, stderr] = [new Collected(), new Collected()];
  const code = await runCommandLine(args, { env, fromFile, stdout, stderr, now });
  return { code, stdout: stdout.text, stderr: stderr.text };
}

/** Runs the command line to its end in this process, on a terminal. */
export async function runCliOnTerminal(
  args: string[],
  env: { DATABASE_URL: string } & Record<string, string>,
): Promise<string> {
  const [stdout, stderr] = [new Terminal(), new Terminal()];
  await runCommandLine(args, { env, fromFile: new Set(), stdout, stderr, now: () => new Date() });
  return stdout.text + stderr.text;
}

/** Keeps what is written to it. */
export class Collected extends Writable {
  text = '';

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

/** A `Collected` that passes for a terminal with colours, wherever the tests run. */
export class Terminal extends Collected {
  isTTY = true;
  getColorDepth = (): number => {
    const { NO_COLOR } = process.env;
    const env = { TERM: 'xterm-256color', ...(NO_COLOR !== undefined && { NO_COLOR }) };
    return WriteStream.prototype.getColorDepth.call(this, env);
  };
}

/** Runs the command line to its end as a separate process. */
export async function runCliProcess(
  args: string[],
  env: Record<string, string>,
  folder?: string,
): Promise<CliOutcome> {
  return ended(await startProgram('cli', args, env, folder));
}

/** Starts a server on a free port, or on the given one, and waits until it has printed its address. */
export async function runServer(env: Record<string, string>, folder?: string): Promise<RunningServer> {
  const started = await startProgram(
    'server',
    [],
    { PORT: String(await freePort()), LOG_LEVEL: 'warn', ...env },
    folder,
  );
  const { child, output } = started;
  const url = await until(() => {
    if (child.exitCode !== null) throw new Error(`The server exited: ${output.stderr}`);
    return Promise.resolve(/^\{.*"url":"([^"]+)".*"msg":"Tandem is at/m.exec(output.stdout)?.[1]);
  });
  async function stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const end = ended(started);
    child.kill(signal);
    return (await end).code;
  }
  return { ...started, url, stop };
}

/** As fetch, but asks again when the server says that it is busy. */
export async function fetchPatiently(url: string, init: RequestInit): Promise<Response> {
  return until(async () => {
    const answer = await fetch(url, init);
    return answer.status === 503 && answer.headers.has('retry-after') ? undefined : answer;
  });
}

/** Polls up to 600 times, 50 ms apart, until there is a result. */
export async function until<T>(look: () => Promise<T | undefined>): Promise<T> {
  for (let tries = 0; tries < 600; tries += 1) {
    const seen = await look();
    if (seen !== undefined) return seen;
    await pause(50);
  }
  throw new Error(`Still nothing after 600 attempts of ${String(look)}`);
}

export function emptyFolder(): Promise<string> {
  return mkdtemp(join(inject('scratch'), 'process-'));
}
