import type { LightMyRequestResponse } from 'fastify';
import { expect } from 'vitest';

import { postFrom } from './server.ts';
import type { TestServer } from './server.ts';

export const WRONG = { email: 'nobody@example.com', password: 'wrong' };

export async function failLogIns(
  server: TestServer,
  times: number,
  remoteAddress: string,
  headers: Record<string, string> = {},
): Promise<void> {
  for (let time = 0; time < times; time += 1) {
    expect((await postFrom(server, '/login', remoteAddress, WRONG, headers)).statusCode).toBe(401);
  }
}

export function expectTooMany(answer: LightMyRequestResponse): void {
  expect(answer.statusCode).toBe(429);
  expect(answer.headers['retry-after']).toMatch(/^[1-9]\d*$/);
}
