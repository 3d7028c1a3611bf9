import type { Event } from '../db/generated/client.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';

const NEWEST = 100;

/** No payload: it can contain an address, a name or a card. */
const SHOWN = {
  id: true,
  type: true,
  created: true,
  receivedAt: true,
  status: true,
  reason: true,
  error: true,
} as const;

type ShownEvent = Pick<Event, keyof typeof SHOWN>;

/** `events`: shows the newest 100 events of the ledger, newest first; or all failed ones, oldest first. */
export async function events({ db }: CommandContext, onlyFailed: boolean): Promise<CommandResult> {
  const rows = onlyFailed
    ? await db.event.findMany({
        where: { status: 'failed' },
        orderBy: [{ receivedAt: 'asc' }, { created: 'asc' }, { id: 'asc' }],
        select: SHOWN,
      })
    : await db.event.findMany({
        orderBy: [{ receivedAt: 'desc' }, { created: 'desc' }, { id: 'desc' }],
        take: NEWEST,
        select: SHOWN,
      });
  const none = onlyFailed ? 'No event has failed.' : 'No event has arrived yet.';
  return { text: rows.length === 0 ? none : rows.map(line).join('\n'), json: rows };
}

function line({ receivedAt, status, type, id, reason, error }: ShownEvent): string {
  const words = [formatInstant(receivedAt), status.padEnd(7), type, id, reason ?? error];
  return words.filter((word) => word !== null).join('  ');
}
