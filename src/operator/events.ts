import type { Event } from '../db/generated/client.ts';
import { Prisma } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { eventsAbout } from '../stripe/event-ledger.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { plainLines, styleOfStatus } from './show.ts';
import type { Table } from './show.ts';
import { accountOf, nameOf } from './who.ts';

/** How many of the newest events are shown. */
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

/**
 * `events`: shows the newest 100 events of the ledger, newest first; or all failed ones, oldest first.
 *
 * @param who only events about this account
 */
export async function events(
  context: CommandContext,
  onlyFailed: boolean,
  who?: string,
): Promise<CommandResult> {
  const { db } = context;
  const account = who === undefined ? null : await accountOf(context, who);
  const rows = account ? await eventsOf(db, account.id, onlyFailed) : await allEvents(db, onlyFailed);
  const about = account ? ` about ${nameOf(account)}` : '';
  if (rows.length === 0)
    return { text: `No event${about} has ${onlyFailed ? 'failed' : 'arrived yet'}.`, json: rows };
  const table: Table = {
    head: ['RECEIVED', 'OUTCOME', 'TYPE', 'ID', 'WHY'],
    rows: rows.map(cells),
    styleOf: (cell, column) => (column === 1 ? styleOfStatus(cell) : null),
  };
  return { text: plainLines(table), table, json: rows };
}

function cells({ receivedAt, status, type, id, reason, error }: ShownEvent): (string | null)[] {
  return [formatInstant(receivedAt), status.padEnd(7), type, id, reason ?? error];
}

function allEvents(db: Db, onlyFailed: boolean): Promise<ShownEvent[]> {
  const order = onlyFailed ? 'asc' : 'desc';
  return db.event.findMany({
    where: onlyFailed ? { status: 'failed' } : {},
    orderBy: [{ receivedAt: order }, { created: order }, { id: order }],
    ...(!onlyFailed && { take: NEWEST }),
    select: SHOWN,
  });
}

/** The same for one account. */
async function eventsOf(db: Db, userId: string, onlyFailed: boolean): Promise<ShownEvent[]> {
  const ids = await idsAbout(db, userId, onlyFailed);
  // With no other condition and no order, Prisma splits a list that is too long for one statement.
  const rows = await db.event.findMany({ where: { id: { in: ids } }, select: SHOWN });
  const byId = new Map(rows.map((row) => [row.id, row]));
  const newestFirst = ids.flatMap((id) => byId.get(id) ?? []);
  return onlyFailed ? newestFirst.reverse() : newestFirst;
}

/** The events about an account, by id, newest first: the newest ones, or all that failed. */
async function idsAbout(db: Db, userId: string, onlyFailed: boolean): Promise<string[]> {
  const which = onlyFailed ? Prisma.sql`e."status" = 'failed'` : Prisma.sql`true`;
  const rows = await db.$queryRaw<{ id: string }[]>`
    ${eventsAbout(userId, which)}
    ORDER BY e."receivedAt" DESC, e."created" DESC, e."id" DESC
    ${onlyFailed ? Prisma.empty : Prisma.sql`LIMIT ${NEWEST}`}`;
  return rows.map(({ id }) => id);
}
