import { handleEvent } from '../../src/stripe/handle-event.ts';
import type { EventContext, EventOutcome } from '../../src/stripe/handle-event.ts';
import { readEvent } from '../../src/stripe/objects/event.ts';

/** Handles events that arrive at the same moment, so that they share one batch. */
export function handleTogether(
  context: EventContext,
  events: readonly object[],
  now: Date,
): Promise<EventOutcome>[] {
  return events.map((body) => {
    const event = readEvent(body, now);
    if (!event) throw new Error('This is not an event.');
    return handleEvent(context, event, JSON.stringify(body), now);
  });
}
