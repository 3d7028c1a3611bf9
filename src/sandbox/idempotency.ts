import { createHash } from 'node:crypto';

import { StripeApiError } from './errors.ts';
import type { State } from './state.ts';
import { DAY } from './time.ts';

/** A POST as far as its idempotency goes. */
export interface KeyedRequest {
  /** The `Idempotency-Key` header. */
  key: string;
  /** Path with its ids, e.g. `/v1/customers`. */
  path: string;
  /** Decoded body. */
  params: unknown;
  /** Epoch seconds. */
  at: number;
}

/**
 * Does something once for each key: a repeated request gets the answer of the first one. Keys are forgotten
 * after a day, and requests that failed are not remembered. See https://docs.stripe.com/api/idempotent_requests
 *
 * @param state where answers are kept
 * @param request the request
 * @param act does the work and returns the answer's body
 * @returns the body, and whether it is a repeated one
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
