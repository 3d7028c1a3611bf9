import { expect, test } from 'vitest';

import { isLoopback } from '../../src/config.ts';

// If another machine counted as local, a mail server's password would be sent to it without TLS.

test.each([
  ['localhost', true],
  ['127.0.0.1', true],
  ['127.1.2.3', true],
  ['::1', true],
  ['localhost.example.com', false],
  ['127.0.0.1.example.com', false],
  ['127.example.com', false],
  ['0.0.0.0', false],
  ['::', false],
  ['192.0.2.1', false],
])('%s is this machine: %s', (host, isHere) => {
  expect(isLoopback(host)).toBe(isHere);
});
