import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import { onTestFinished } from 'vitest';

/** An answer of Stripe's API; its status is 200 when omitted. */
export interface StripeAnswer {
  status?: number;
  body: object;
}

/**
 * Plays Stripe's API, until the test has finished. For tests that need more of Stripe than one answer there is the
 * sandbox.
 *
 * @param answerTo what a request for this path is answered; a promise that never resolves is a Stripe that hangs
 * @returns the environment of a server that asks this API, and the paths that were asked for
 */
export async function startStripeApi(answerTo: (path: string) => StripeAnswer | Promise<StripeAnswer>) {
  const asked: string[] = [];
  const api = createServer(({ url = '' }, response) => {
    asked.push(url);
    void Promise.resolve(answerTo(url)).then(({ status = 200, body }) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    });
  });
  await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    api.close();
  });
  const { port } = api.address() as AddressInfo;
  const env = { STRIPE_API_KEY: 'sk_test_x', STRIPE_API_BASE: `http://127.0.0.1:${port}` };
  return { env, asked };
}
