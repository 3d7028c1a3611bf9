import { createHash, randomUUID } from 'node:crypto';

import type { OutboxItem } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { appendOutbox } from '../db/write.ts';
import type { OutboxKind, OutboxKinds } from './kinds.ts';

/** Work to be done after the commit. */
export interface NewItem<Kind extends OutboxKind = OutboxKind> {
  kind: Kind;
  /** Null: a mail to the operator. */
  userId: string | null;
  data: OutboxKinds[Kind];
  /** The item's id, when something else is made of it, or when it is to be queued only once (`idOnce`). */
  id?: string;
  /** Where a mail goes, if not to the account's address of the moment. */
  address?: string;
}

/** Queues in a unit of work. Mail is left out when the programme sends none. */
export function queue<Kind extends OutboxKind>(
  { now, rows, programme }: Pick<Unit, 'now' | 'rows' | 'programme'>,
  item: NewItem<Kind>,
): void {
  if (programme.mail || !isMail(item.kind)) rows.outbox.push(rowOf(item, now));
}

/** Queues in an open transaction outside of billing. The caller leaves mail out when none is sent. */
export async function queueNow(tx: Tx, items: readonly NewItem[]): Promise<void> {
  await appendOutbox(
    tx,
    items.map((item) => rowOf(item, tx.now)),
  );
}

/**
 * @param parts what an item is about
 * @returns its id: of two items about the same, only the first one is queued
 */
export function idOnce(...parts: string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32);
}

export function isMail(kind: string): boolean {
  return kind.startsWith('mail.');
}

function rowOf({ kind, userId, data, address, id }: NewItem, now: Date): OutboxItem {
  return {
    id: id ?? randomUUID(),
    kind,
    userId,
    address: address ?? null,
    data: JSON.stringify(data),
    createdAt: now,
    dueAt: now,
    attempts: 0,
    status: 'queued',
    endedAt: null,
    error: null,
  };
}
