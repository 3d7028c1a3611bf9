import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';

import { expect, test } from 'vitest';

import { HttpError } from '../../src/http/errors.ts';
import { createBodyReader } from '../../src/http/held-bodies.ts';

/** A request whose whole body has arrived. */
function requestWith(body: string): IncomingMessage {
  const request = new IncomingMessage(new Socket());
  request.push(body);
  request.push(null);
  return request;
}

test('a body that has arrived counts as held until it is released', async () => {
  const busy = new HttpError(503, 'busy', 'busy');
  const tooLarge = new HttpError(413, 'too_large', 'too large');
  const read = createBodyReader({ ofNetwork: 10, inAll: 100 }, { bytes: 20, error: tooLarge }, busy);
  const first = await read('a', requestWith('x'.repeat(10)));
  expect(first.body).toHaveLength(10);
  await expect(read('a', requestWith('y'))).rejects.toBe(busy);
  expect((await read('b', requestWith('y'))).body).toHaveLength(1);
  first.release();
  expect((await read('a', requestWith('y'))).body).toHaveLength(1);
});

test('a body that is refused is not held', async () => {
  const busy = new HttpError(503, 'busy', 'busy');
  const tooLarge = new HttpError(413, 'too_large', 'too large');
  const read = createBodyReader({ ofNetwork: 10, inAll: 100 }, { bytes: 8, error: tooLarge }, busy);
  await expect(read('a', requestWith('x'.repeat(9)))).rejects.toBe(tooLarge);
  const { release } = await read('a', requestWith('x'.repeat(8)));
  await expect(read('a', requestWith('x'.repeat(8)))).rejects.toBe(busy);
  release();
  expect((await read('a', requestWith('x'.repeat(8)))).body).toHaveLength(8);
});
