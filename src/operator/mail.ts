import type { OutboxItem } from '../db/generated/client.ts';
import { inTransaction } from '../db/transaction.ts';
import { secondsBetween } from '../instants.ts';
import { LEASE_SECONDS } from '../outbox/items.ts';
import { PlainError } from '../plain-error.ts';
import { counted } from '../wording.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { plainLines, styleOfStatus } from './show.ts';
import type { Table } from './show.ts';

/** How many of the newest items are shown. */
const NEWEST = 100;

/** The address is left out on purpose. */
const SHOWN = {
  id: true,
  kind: true,
  userId: true,
  createdAt: true,
  dueAt: true,
  attempts: true,
  status: true,
  endedAt: true,
  error: true,
} as const;

type ShownItem = Pick<OutboxItem, keyof typeof SHOWN>;

/**
 * `mail`: shows the newest 100 items of the outbox, newest first. With `onlyFailed` it shows all failed items
 * instead, oldest first.
 */
export async function mail({ db }: CommandContext, onlyFailed: boolean): Promise<CommandResult> {
  const items = onlyFailed
    ? await db.outboxItem.findMany({
        where: { status: 'failed' },
        orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
        select: SHOWN,
      })
    : await db.outboxItem.findMany({
        orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
        take: NEWEST,
        select: SHOWN,
      });
  const none = onlyFailed ? 'Nothing has failed.' : 'Nothing has been queued yet.';
  if (items.length === 0) return { text: none, json: items };
  const table: Table = {
    head: ['QUEUED', 'STATUS', 'KIND', 'ID', 'ACCOUNT', 'NEXT', 'WHY'],
    rows: items.map(cells),
    styleOf: (cell, column) => (column === 1 ? styleOfStatus(cell) : null),
  };
  return { text: plainLines(table), table, json: items };
}

function cells(item: ShownItem): (string | null)[] {
  const { createdAt, status, kind, id, userId, attempts, dueAt, error } = item;
  const next =
    status === 'queued' && attempts > 0
      ? `tried ${counted(attempts, 'time')}, next ${formatInstant(dueAt)}`
      : null;
  return [formatInstant(createdAt), status.padEnd(7), kind, id, userId, next, error];
}

/**
 * Kinds that cannot be sent again, with the reason. Their recipient's address is not kept, or the user can
 * ask for a new link.
 */
export const NOT_AGAIN: Readonly<Record<string, string>> = {
  'mail.prove-address': 'the user can ask for a new link in Settings',
  'mail.address-changing': 'the address that it was for is not kept',
  'mail.address-changed': 'the address that it was for is not kept',
  'mail.account-deleted': 'the address that it was for is not kept',
  'mail.reset-password': 'its link works only for an hour, and the user can ask for another one',
};

/**
 * `mail-resend`: makes an item of the outbox due now, and the next server that polls tries it again. An email
 * keeps its Message-ID. It is dropped if what it says no longer applies.
 *
 * @throws PlainError when there is no such item, or it cannot be sent again
 */
export async function mailResend({ db, config, now }: CommandContext, id: string): Promise<CommandResult> {
  const item = await db.outboxItem.findUnique({ where: { id } });
  if (!item)
    throw new PlainError(
      `Nothing in the outbox has the id ${id}. \`mail\` lists what is there.`,
      'not_found',
    );
  const why = item.status === 'queued' ? undefined : NOT_AGAIN[item.kind];
  if (why !== undefined) throw new PlainError(`${item.kind} cannot be sent again: ${why}.`);
  const dueIn = secondsBetween(now, item.dueAt);
  if (item.status === 'queued' && dueIn > 0 && dueIn <= LEASE_SECONDS) {
    // A lease and a pause look alike. If a server is sending it, it must not be sent twice.
    throw new PlainError(
      `${item.kind} ${id} is being sent, or is due within ${LEASE_SECONDS / 60} minutes. If \`mail\` still lists it as queued after that, try again.`,
    );
  }
  const { operatorEmail } = config;
  if (item.kind === 'mail.operator' && operatorEmail === null) {
    throw new PlainError('OPERATOR_EMAIL is not set, so there is nobody to send it to.');
  }
  const { count } = await inTransaction(db, now, (tx) =>
    tx.outboxItem.updateMany({
      // Unless a server took it, or stored its outcome, since it was read.
      where: { id, status: item.status, dueAt: item.dueAt },
      data: {
        status: 'queued',
        dueAt: tx.now,
        // Otherwise the operator would be told at once that it has waited for days. An email to the operator keeps the
        // instant, because failures since then have not been reported (outbox/alarm.ts).
        ...(item.status !== 'queued' && item.kind !== 'mail.operator' && { createdAt: tx.now }),
        attempts: 0,
        endedAt: null,
        error: null,
        ...(item.kind === 'mail.operator' && { address: operatorEmail }),
      },
    }),
  );
  if (count === 0)
    throw new PlainError(`A server took ${id} in the meantime. Look at it with \`mail\`, then try again.`);
  return {
    text: `${item.kind} ${id} is due now. A running server will pick it up.`,
    json: { id, status: 'queued' },
  };
}
