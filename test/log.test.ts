import { once } from 'node:events';
import { open } from 'node:fs/promises';

import { afterEach, expect, onTestFinished, test, vi } from 'vitest';

import { announce, readableLine } from '../src/log.ts';
import { painterOf, PLAIN } from '../src/terminal.ts';
import { freePort } from './support/free-port.ts';
import { Collected, startProgram, Terminal, until } from './support/process.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

const HERE = { url: 'http://localhost:3000', sandboxUrl: null, mailboxUrl: null };
const SANDBOX = {
  ...HERE,
  sandboxUrl: 'http://localhost:3001',
  mailboxUrl: 'http://localhost:3001/mail',
};

function announced(stdout: Collected, what = SANDBOX as typeof HERE | typeof SANDBOX): string {
  announce(what, stdout);
  return stdout.text;
}

function line(fields: object): string {
  return JSON.stringify({ level: 30, time: 0, pid: 1, hostname: 'host', msg: 'request', ...fields });
}

test.each(['is full', 'is a pipe that nobody reads'])('the server goes on while its log %s', async (what) => {
  const full = await open('/dev/full', 'w');
  onTestFinished(() => full.close());
  const port = await freePort();
  const log = what === 'is full' ? full.fd : 'pipe';
  const { child, output } = await startProgram('server', [], { PORT: String(port) }, undefined, log);
  child.stdout?.pause();
  const url = `http://127.0.0.1:${port}/healthz`;
  const answers = async () => (await fetch(url).catch(() => null))?.status;
  await until(answers);
  // For the pipe: more than it and its reader hold, at some 150 bytes each.
  const requests = log === 'pipe' ? 1_200 : 60;
  for (let times = 0; times < requests / 20; times += 1) {
    const all = await Promise.all(Array.from({ length: 20 }, answers));
    expect(new Set(all)).toEqual(new Set([200]));
  }
  if (log === 'pipe') {
    // What waited is written as soon as it can be.
    child.stdout?.resume();
    await until(async () => {
      await answers();
      return output.stdout.split('"msg":"request"').length > requests || undefined;
    });
  }
  child.kill();
  expect(await once(child, 'exit')).toEqual([0, null]);
});

test('without a terminal, the address is one JSON line with the url', () => {
  const lines = announced(new Collected()).trimEnd().split('\n');
  expect(lines.map((one) => JSON.parse(one) as object)).toEqual([
    expect.objectContaining({ level: 30, msg: 'Tandem is at http://localhost:3000', ...SANDBOX }),
  ]);
  expect(announced(new Collected(), HERE)).not.toMatch(/sandbox|mail/i);
});

test('on a terminal the address is the last line, alone', () => {
  vi.stubEnv('NO_COLOR', '1');
  vi.stubEnv('FORCE_COLOR', undefined);
  const lines = announced(new Terminal()).split('\n');
  expect(lines.slice(-3)).toEqual(['', 'http://localhost:3000', '']);
  expect(lines.join(' ')).toContain('runs at http://localhost:3001, and no real money moves');
  expect(announced(new Terminal(), HERE)).not.toContain('sandbox');
});

test('on a terminal a line of the log shows its time, level and message, then the rest', () => {
  const shown = readableLine(line({ method: 'GET', statusCode: 200, reqId: 'req-1' }), PLAIN);
  expect(shown).toMatch(/^\d\d:\d\d:\d\d INFO {2}request method=GET statusCode=200$/);
  expect(readableLine(line({ level: 40, msg: 'slow' }), PLAIN)).toMatch(/^\S+ WARN {2}slow$/);
});

test('on a terminal an error in the log shows its stack, its cause and the errors that it aggregates', () => {
  const err = {
    type: 'Error',
    message: 'broken',
    stack: '    at one\n    at two',
    cause: { type: 'TypeError', message: 'deeper' },
  };
  const [first, ...rest] = readableLine(line({ level: 50, msg: 'a request failed', err }), PLAIN).split('\n');
  expect(first).toMatch(/ERROR a request failed$/);
  expect(rest).toEqual(['    Error: broken', '    at one', '    at two', '    TypeError: deeper']);
  const both = { type: 'AggregateError', message: 'both failed', errors: [err, { message: 'a second' }] };
  expect(
    readableLine(line({ err: both }), PLAIN)
      .split('\n')
      .slice(1),
  ).toEqual(['    AggregateError: both failed', ...rest, '    a second']);
  expect(readableLine(line({ err: 'P1001' }), PLAIN).split('\n')[1]).toBe('    P1001');
});

test('control characters in a log line are escaped on a terminal', () => {
  const shown = readableLine(
    line({ msg: '\u001b[2J', route: '\u009b2J', err: { message: '\u0007' } }),
    PLAIN,
  );
  expect(shown).toContain('\\u001b[2J route=\\u009b2J');
  // oxlint-disable-next-line no-control-regex
  expect(shown).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
});

test('NO_COLOR is respected', () => {
  vi.stubEnv('FORCE_COLOR', undefined);
  vi.stubEnv('NO_COLOR', undefined);
  expect(painterOf(new Terminal())('red', 'x')).toBe('\u001b[31mx\u001b[39m');
  vi.stubEnv('NO_COLOR', '1');
  expect(painterOf(new Terminal())('red', 'x')).toBe('x');
  expect(painterOf(new Collected())('red', 'x')).toBe('x');
});
