import { createHash } from 'node:crypto';

import { v7 as orderedId } from 'uuid';

import type { OutboxItem } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { appendOutbox } from '../db/write.ts';
import { isMail } from './kinds.ts';
import type { OutboxWork } from './kinds.ts';

/** Work to be done after the commit. */
export type NewItem = OutboxWork & {
  /** Null for mail to the operator. */
  userId: string | null;
  /**
   * Set when something is derived from the id, or when the item must be queued only once (`idOnce`). The default is a
   * new id; new ids sort in the order in which the items were queued.
   */
  id?: string;
  /**
   * An address that must not follow a change of the account's: the recipient of an email, or what Stripe is told for a
   * retired customer. By default, it is the address that the account has when the item is carried out.
   */
  address?: string;
  /** The keyed hash of the unproven mailbox that an email is counted against (accounts/mail-limit.ts). */
  mailbox?: string | null;
};

/** Queues an item in a unit of work. Mail is skipped when mail is off. */
export function queue(
  { now, rows, programme }: Pick<Unit, 'now' | 'rows' | 'programme'>,
  item: NewItem,
): void {
  if (programme.mail || !isMail(item.kind)) rows.outbox.push(rowOf(item, now));
}

/** Queues items in an open transaction, outside a unit of work. The caller must skip mail when mail is off. */
export async function queueNow(tx: Tx, items: readonly NewItem[]): Promise<void> {
  await appendOutbox(
    tx,
    items.map((item) => rowOf(item, tx.now)),
  );
}

/**
 * Derives an id from what an item is about. A second item about the same thing gets the same id and is not
 * queued.
 */
export function idOnce(...parts: string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32);
}

function rowOf({ kind, userId, data, address, mailbox, id }: NewItem, now: Date): OutboxItem {
  return {
    // New ids are ordered: of two items with new ids that are due in the same second, the one queued first is taken first.
    id: id ?? orderedId(),
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
    mailbox: mailbox ?? null,
  };
}
