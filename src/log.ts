import { writeSync } from 'node:fs';
import type { Writable } from 'node:stream';

import { levels, pino } from 'pino';
import type { DestinationStream, Logger } from 'pino';

import type { Config } from './config.ts';
import { isTerminal, painterOf, printable } from './terminal.ts';
import type { Paint } from './terminal.ts';

/** The server's log: readable on a terminal, one JSON object per line elsewhere. */
export function openLog(level: Config['logLevel']): Logger {
  const { stdout } = process;
  if (!isTerminal(stdout)) return pino({ level }, patientOutput(stdout.fd));
  const paint = painterOf(stdout);
  return pino({ level }, { write: (line) => void stdout.write(`${readableLine(line, paint)}\n`) });
}

/** Bytes of the log that wait in memory while they cannot be written. */
const MAX_UNWRITTEN = 1024 * 1024;

/**
 * Writes lines to a file or pipe. While its disk is full or its reader stalls, lines stay in memory, up to
 * MAX_UNWRITTEN, and are tried again with the next line; further ones are lost. pino's own output would end the
 * process, or stop the event loop until it can write.
 */
function patientOutput(fd: number): DestinationStream {
  let unwritten = Buffer.alloc(0);
  return {
    write(line) {
      const bytes = Buffer.from(line);
      if (unwritten.length + bytes.length <= MAX_UNWRITTEN) unwritten = Buffer.concat([unwritten, bytes]);
      try {
        while (unwritten.length > 0) unwritten = unwritten.subarray(writeSync(fd, unwritten));
      } catch {
        // Tried again with the next line.
      }
    },
  };
}

/** Where a server can be reached, for the person or the program that started it. */
export interface Announcement {
  url: string;
  /** The sandbox; null when it is off. */
  sandboxUrl: string | null;
  /** Where the sandbox shows the email that is not sent; null when there is none. */
  mailboxUrl: string | null;
}

/** Says that the server is ready, whatever LOG_LEVEL is. On a terminal the address is the last line, by itself. */
export function announce({ url, sandboxUrl, mailboxUrl }: Announcement, stdout: Writable): void {
  if (!isTerminal(stdout)) {
    const sandbox = {
      ...(sandboxUrl !== null && { sandboxUrl }),
      ...(mailboxUrl !== null && { mailboxUrl }),
    };
    pino({}, stdout).info({ url, ...sandbox }, `Tandem is at ${url}`);
    return;
  }
  const lines = [
    '',
    ...(sandboxUrl === null
      ? []
      : [
          `The sandbox is on: a stand-in for Stripe runs at ${sandboxUrl}, and no real money moves.`,
          ...(mailboxUrl === null ? [] : [`Mail is not sent: read it at ${mailboxUrl}`]),
          'Sign up, open your referral link in a second browser, then sign up as a friend there and choose a plan.',
        ]),
    'Tandem is ready at',
    '',
    painterOf(stdout)('bold', url),
  ];
  stdout.write(`${lines.join('\n')}\n`);
}

/** Fields that are not shown on a terminal. */
const UNSHOWN: ReadonlySet<string> = new Set(['pid', 'hostname', 'reqId']);

/**
 * A line of the log for people: the time, the level, the message and the rest. An error follows with its stack.
 *
 * @param line one JSON object, as pino writes it
 */
export function readableLine(line: string, paint: Paint): string {
  const { level, time, msg, err, ...rest } = JSON.parse(line) as Record<string, unknown>;
  const name = levels.labels[Number(level)] ?? 'info';
  const details = Object.entries(rest)
    .filter(([key]) => !UNSHOWN.has(key))
    .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  const style = STYLES[name];
  const label = name.toUpperCase().padEnd(5);
  const words = [
    paint('dim', new Date(Number(time)).toTimeString().slice(0, 8)),
    style ? paint(style, label) : label,
    printable(String(msg)),
    ...(details.length > 0 ? [paint('dim', printable(details.join(' ')))] : []),
  ];
  return [words.join(' '), ...errorLines(err)].join('\n');
}

const STYLES: Readonly<Record<string, 'red' | 'yellow'>> = { warn: 'yellow', error: 'red', fatal: 'red' };

/** An error as it was logged: an object, or only a name where the message could contain an address. */
function errorLines(error: unknown): string[] {
  if (error === undefined) return [];
  const { type, message, stack, cause, errors } = (
    typeof error === 'object' ? error : { message: error }
  ) as { [Key in 'type' | 'message' | 'stack' | 'cause' | 'errors']?: unknown };
  const title = [type, message].filter((part) => typeof part === 'string').join(': ');
  const lines = [title, ...(typeof stack === 'string' ? stack.split('\n') : [])];
  const several: unknown[] = Array.isArray(errors) ? errors : [];
  return [
    ...lines.map((one) => `    ${printable(one.trim())}`),
    ...several.flatMap(errorLines),
    ...errorLines(cause),
  ];
}
