import { PlainError } from '../plain-error.ts';
import { printable } from '../terminal.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { fieldLines } from './show.ts';
import { customerOfEvent, nameOf } from './who.ts';

/** `event`: shows one event with its outcome, whom it is about, and its payload, which can hold personal data. */
export async function event({ db, paint }: CommandContext, id: string): Promise<CommandResult> {
  const row = await db.event.findUnique({ where: { id } });
  if (!row) throw noSuchEvent(id);
  const customerId = await customerOfEvent(db, row);
  const customer =
    customerId === null
      ? null
      : await db.customer.findUnique({ where: { id: customerId }, include: { user: true } });
  const user = customer?.user ?? null;
  const payload: unknown = row.payload === null ? null : JSON.parse(row.payload);
  const { type, created, receivedAt, appliedAt, status, reason, error, thinned } = row;
  const fields = fieldLines(paint, [
    ['id', id],
    ['type', type],
    ['created', formatInstant(created)],
    ['received', formatInstant(receivedAt)],
    ['handled', formatInstant(appliedAt)],
    ['outcome', status === 'failed' ? paint('red', status) : status],
    ...(reason === null ? [] : [['reason', reason] as const]),
    ...(error === null ? [] : [['error', error] as const]),
    ['customer', customerId ?? '-'],
    ['account', user ? (user.email === null ? nameOf(user) : `${user.email} (${user.id})`) : '-'],
    [
      'payload',
      payload === null ? 'not kept' : thinned ? 'thinned to the fields that Tandem reads' : 'as received',
    ],
  ]);
  return {
    text: payload === null ? fields : `${fields}\n\n${printable(JSON.stringify(payload, null, 2))}`,
    json: {
      ...{ id, type, created, receivedAt, appliedAt, status, reason, error, thinned, customerId },
      user: user && { id: user.id, email: user.email },
      payload,
    },
  };
}

export function noSuchEvent(id: string): PlainError {
  return new PlainError(
    `No event has the id ${id}. \`reconcile\` fetches what never arrived from Stripe.`,
    'not_found',
  );
}
