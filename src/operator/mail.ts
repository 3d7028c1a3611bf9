import type { OutboxItem } from '../db/generated/client.ts';
import { inTransaction } from '../db/transaction.ts';
import { PlainError } from '../plain-error.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';

/** So many of the newest are shown. */
const NEWEST = 100;

/** No address. */
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
 * `mail`: shows the outbox: the newest 100 items, the newest first; or all that failed, the oldest first.
 *
 * @param context what every command gets
 * @param onlyFailed whether to show all that failed
 * @returns what to print
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
  const none = onlyFailed ? 'No mail has failed.' : 'No mail has been queued yet.';
  return { text: items.length === 0 ? none : items.map(line).join('\n'), json: items };
}

function line({ createdAt, status, kind, id, userId, attempts, dueAt, error }: ShownItem): string {
  const next =
    status === 'queued' && attempts > 0 ? `tried ${attempts} times, next ${formatInstant(dueAt)}` : null;
  const words = [formatInstant(createdAt), status.padEnd(7), kind, id, userId, next, error];
  return words.filter((word) => word !== null).join('  ');
}

/** They go to an address of their own, which is not kept, or their link is made anew where the user asks for it. */
const NOT_AGAIN: Readonly<Record<string, string>> = {
  'mail.prove-address': 'the user can have it sent again in Settings',
  'mail.address-changing': 'the address that it went to is not kept',
  'mail.address-changed': 'the address that it went to is not kept',
  'mail.account-deleted': 'the address that it went to is not kept',
  'mail.reset-password': 'its link has expired, and the user can ask for another one',
};

/**
 * `mail-resend`: has an item of the outbox done once more, by the next server that looks. A mail keeps its Message-ID. What is
 * no longer true by then is dropped.
 *
 * @param context what every command gets
 * @param id the item's id
 * @returns what to print
 * @throws PlainError when there is no such item, or it cannot be done again
 */
export async function mailResend({ db, config, now }: CommandContext, id: string): Promise<CommandResult> {
  const item = await db.outboxItem.findUnique({ where: { id } });
  if (!item) throw new PlainError(`Nothing in the outbox has the id ${id}.`);
  const why = item.status === 'queued' ? undefined : NOT_AGAIN[item.kind];
  if (why !== undefined) throw new PlainError(`${item.kind} cannot be sent again: ${why}.`);
  const { operatorEmail } = config;
  if (item.kind === 'mail.operator' && operatorEmail === null) {
    throw new PlainError('OPERATOR_EMAIL is not set, so there is nobody to send it to.');
  }
  await inTransaction(db, now, (tx) =>
    tx.outboxItem.update({
      where: { id },
      data: {
        status: 'queued',
        dueAt: tx.now,
        attempts: 0,
        endedAt: null,
        error: null,
        ...(item.kind === 'mail.operator' && { address: operatorEmail }),
      },
    }),
  );
  return {
    text: `${item.kind} ${id} is due now: a running server sends it.`,
    json: { id, status: 'queued' },
  };
}
