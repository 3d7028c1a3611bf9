import { isDeepStrictEqual } from 'node:util';

import { newId } from './ids.ts';
import type { EventObject, StripeEvent } from './types.ts';

/** The API version whose shapes the sandbox speaks, the one that `stripe` 23.1 pins. */
export const API_VERSION = '2026-10-28.endive';

/** When something happened and which request asked for it (none when a person did, on a page). */
export interface Cause {
  /** Epoch seconds. */
  at: number;
  requestId: string | null;
  idempotencyKey: string | null;
}

/**
 * Records what just happened to an object: https://docs.stripe.com/api/events/object
 *
 * @param cause when and by whom
 * @param type e.g. `customer.subscription.updated`
 * @param object the object as it is now; the event keeps a copy
 * @param before the object as it was, for an `updated` event
 * @returns an event that nobody was told of yet
 */
export function buildEvent(
  cause: Cause,
  type: string,
  object: EventObject,
  before?: EventObject,
): StripeEvent {
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
 * Says what an object looked like where it differs now, as `previous_attributes` does: nested objects are
 * narrowed to the keys that changed, a list that changed is given whole.
 *
 * @param before the object as it was
 * @param after the object as it is
 * @returns the old values of what changed
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
