import { isDeepStrictEqual } from 'node:util';

import { newId } from './ids.ts';
import type { StripeEvent } from './types.ts';

/** The API version of the sandbox's objects. `stripe` 23.1 pins the same one. */
const API_VERSION = '2026-10-28.endive';

/**
 * When something happened and which request caused it. The request is null when a person did it on a page.
 */
export interface Cause {
  /** Epoch seconds. */
  at: number;
  requestId: string | null;
  idempotencyKey: string | null;
}

/**
 * The cause of something done by a person, a bank or time, not by an API request.
 *
 * @param at epoch seconds
 */
export function causeAt(at: number): Cause {
  return { at, requestId: null, idempotencyKey: null };
}

/**
 * Builds an event about an object: https://docs.stripe.com/api/events/object
 *
 * @param object the current object; the event keeps a copy
 * @param before the previous object, for an `updated` event
 */
export function buildEvent(cause: Cause, type: string, object: object, before?: object): StripeEvent {
  return {
    id: newId('evt'),
    object: 'event',
    api_version: API_VERSION,
    created: cause.at,
    data: {
      object: structuredClone(object),
      ...(before === undefined ? {} : { previous_attributes: changedFrom(before, object) }),
    },
    livemode: false,
    pending_webhooks: 1,
    request: { id: cause.requestId, idempotency_key: cause.idempotencyKey },
    type,
  };
}

/**
 * Returns the old values of what changed, as in `previous_attributes`. Nested objects contain only the
 * changed keys; lists are given whole.
 */
export function changedFrom(before: object, after: object): Record<string, unknown> {
  const now = new Map<string, unknown>(Object.entries(after));
  const changes: Record<string, unknown> = {};
  for (const [key, old] of Object.entries(before) as [string, unknown][]) {
    const current = now.get(key);
    if (!isDeepStrictEqual(old, current)) {
      changes[key] = isPlain(old) && isPlain(current) ? changedFrom(old, current) : structuredClone(old);
    }
  }
  return changes;
}

function isPlain(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
