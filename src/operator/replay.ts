import type { Event } from '../db/generated/client.ts';
import { isBusyOrUnreachable } from '../db/transaction.ts';
import { PlainError } from '../plain-error.ts';
import { eventContextOf, handleEvent } from '../stripe/handle-event.ts';
import type { EventOutcome } from '../stripe/handle-event.ts';
import { readEvent } from '../stripe/objects/event.ts';
import type { StripeEvent } from '../stripe/objects/event.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { noSuchEvent } from './event.ts';

/**
 * `replay`: handles a failed event again from its stored payload, the way the webhook does. An event that was applied
 * or ignored is a duplicate and changes nothing.
 *
 * @throws PlainError when there is no such event, or the event itself fails again
 */
export async function replay(context: CommandContext, eventId: string): Promise<CommandResult> {
  const row = await context.db.event.findUnique({ where: { id: eventId } });
  if (!row) throw noSuchEvent(eventId);
  const outcome: EventOutcome = row.status === 'failed' ? await again(context, row) : { status: 'duplicate' };
  return { text: `${eventId} ${formatOutcome(outcome)}.`, json: { id: eventId, ...outcome } };
}

async function again(context: CommandContext, row: Event): Promise<EventOutcome> {
  const { id, payload } = row;
  const event = readPayload(row);
  if (payload === null || event === null) {
    throw new PlainError(
      `The event ${id} cannot be handled again, because its stored payload is missing or incomplete. Resend it from Stripe.`,
    );
  }
  try {
    return await handleEvent(eventContextOf(context), event, payload, context.now);
  } catch (error) {
    if (isBusyOrUnreachable(error)) throw error;
    throw new PlainError(`The event ${id} failed again: ${await whyItFailed(context, id, error)}`);
  }
}

function readPayload({ payload, created }: Event): StripeEvent | null {
  // If the payload has no `created`, the second of its first receipt counts (design: rule 7).
  return payload === null ? null : readEvent(JSON.parse(payload), created);
}

/** The error as recorded for `events`, or as thrown if it could not be recorded. */
async function whyItFailed({ db }: CommandContext, id: string, error: unknown): Promise<string> {
  if (error instanceof AggregateError) return error.message;
  const row = await db.event.findUnique({ where: { id }, select: { error: true } });
  return row?.error ?? String(error);
}

function formatOutcome(outcome: EventOutcome): string {
  switch (outcome.status) {
    case 'ok':
      return 'was applied';
    case 'ignored':
      return `was ignored: ${outcome.reason}`;
    case 'duplicate':
      return 'was already applied or ignored, so nothing changed';
  }
}
