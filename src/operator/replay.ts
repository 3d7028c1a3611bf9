import { eventContextOf, handleEvent } from '../stripe/handle-event.ts';
import type { EventOutcome } from '../stripe/handle-event.ts';
import { readEvent } from '../stripe/objects/event.ts';
import type { StripeEvent } from '../stripe/objects/event.ts';
import type { Event } from '../db/generated/client.ts';
import { isRefused } from '../db/transaction.ts';
import { PlainError } from '../plain-error.ts';
import type { CommandContext, CommandResult } from './command.ts';

/**
 * `replay`: handles an event that failed once more, from its kept payload, the way the webhook does. One that was
 * applied or ignored is a duplicate, and changes nothing.
 *
 * @param context what every command gets
 * @param eventId Stripe's id of the event
 * @returns what to print
 * @throws PlainError when there is no such event, or it fails again; an error that `isRefused` when the database is busy
 */
export async function replay(context: CommandContext, eventId: string): Promise<CommandResult> {
  const row = await context.db.event.findUnique({ where: { id: eventId } });
  if (!row) throw new PlainError(`No event has the id ${eventId}.`);
  const outcome: EventOutcome = row.status === 'failed' ? await again(context, row) : { status: 'duplicate' };
  return { text: `${eventId} ${inWords(outcome)}.`, json: { id: eventId, ...outcome } };
}

async function again(context: CommandContext, row: Event): Promise<EventOutcome> {
  const { id, payload } = row;
  const event = readPayload(row);
  if (payload === null || event === null) {
    throw new PlainError(`Of the event ${id} too little is kept to handle it: send it again from Stripe.`);
  }
  try {
    return await handleEvent(eventContextOf(context), event, payload, context.now);
  } catch (error) {
    if (isRefused(error)) throw error;
    throw new PlainError(`The event ${id} failed again: ${await whyItFailed(context, id, error)}`);
  }
}

function readPayload({ payload, created }: Event): StripeEvent | null {
  // Where the payload has no `created`, the row has the second of its first receipt: that counts (design: rule 7).
  return payload === null ? null : readEvent(JSON.parse(payload), created);
}

/** In the words that are kept for `events`; an error that could not even be recorded speaks for itself. */
async function whyItFailed({ db }: CommandContext, id: string, error: unknown): Promise<string> {
  if (error instanceof AggregateError) return error.message;
  const row = await db.event.findUnique({ where: { id }, select: { error: true } });
  return row?.error ?? String(error);
}

function inWords(outcome: EventOutcome): string {
  switch (outcome.status) {
    case 'ok':
      return 'is applied now';
    case 'ignored':
      return `is ignored now: ${outcome.reason}`;
    case 'duplicate':
      return 'was applied or ignored before: nothing was changed';
  }
}
