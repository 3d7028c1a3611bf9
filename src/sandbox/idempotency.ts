import { createHash } from 'node:crypto';

import { StripeApiError } from './api-error.ts';
import type { State } from './state.ts';
import { DAY } from './time.ts';

export interface KeyedRequest {
  /** The `Idempotency-Key` header. */
  key: string;
  /** Path including ids, e.g. `/v1/customers/cus_123`. */
  path: string;
  /** Parsed body. */
  params: unknown;
  /** Epoch seconds. */
  at: number;
}

/**
 * Runs an action once per key, and answers a repeated request with the first answer. Keys are forgotten after
 * a day, and failed requests are not stored. See https://docs.stripe.com/api/idempotent_requests
 *
 * @throws 400 `idempotency_error` when the key was used for another request
 */
export function answerOnce(
  state: State,
  request: KeyedRequest,
  act: () => unknown,
): { body: unknown; replayed: boolean } {
  for (const old of state.answers.values()) {
    if (old.at <= request.at - DAY) {
      state.answers.delete(old.id);
    }
  }
  const digest = createHash('sha256')
    .update(JSON.stringify([request.path, request.params]))
    .digest('hex');
  const stored = state.answers.get(request.key);
  if (stored === undefined) {
    const body = structuredClone(act());
    state.answers.set(request.key, { id: request.key, request: digest, at: request.at, answer: body });
    return { body, replayed: false };
  }
  if (stored.request !== digest) {
    throw new StripeApiError(400, {
      type: 'idempotency_error',
      message:
        'Keys for idempotent requests can only be used with the same parameters they were first used with. ' +
        `Try using a key other than '${request.key}' if you meant to execute a different request.`,
    });
  }
  return { body: stored.answer, replayed: true };
}
