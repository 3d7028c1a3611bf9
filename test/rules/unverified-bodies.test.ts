import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';

import { expect, test } from 'vitest';

import { HttpError } from '../../src/http/errors.ts';
import { createBodyReader } from '../../src/http/unverified-bodies.ts';

/** A request whose whole body has arrived. */
function requestWith(body: string): IncomingMessage {
  const request = new IncomingMessage(new Socket());
  request.push(body);
  request.push(null);
  return request;
}

test('a body that has arrived counts as held until it is its turn', async () => {
  const busy = new HttpError(503, 'busy', 'busy');
  const read = createBodyReader({ ofNetwork: 10, inAll: 100 }, () => busy);
  const atOnce = () => Promise.resolve();
  let hasArrived = (): void => undefined;
  const arrival = new Promise<void>((resolve) => (hasArrived = resolve));
  let begin = (): void => undefined;
  const first = read('a', requestWith('x'.repeat(10)), () => {
    hasArrived();
    return new Promise((resolve) => (begin = resolve));
  });
  await arrival;
  await expect(read('a', requestWith('y'), atOnce)).rejects.toBe(busy);
  expect(await read('b', requestWith('y'), atOnce)).toHaveLength(1);
  begin();
  expect(await first).toHaveLength(10);
  expect(await read('a', requestWith('y'), atOnce)).toHaveLength(1);
});
