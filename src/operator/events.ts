import type { Event } from '../db/generated/client.ts';
import { Prisma } from '../db/generated/client.ts';
import { engineOf } from '../db/transaction.ts';
import type { Db, Engine } from '../db/transaction.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { plainLines, styleOfStatus } from './show.ts';
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
  const which: Prisma.EventWhereInput = {
    ...(onlyFailed && { status: 'failed' }),
    ...(account && { id: { in: await eventsAbout(db, account.id, onlyFailed) } }),
  };
  const order = onlyFailed ? 'asc' : 'desc';
  const rows = await db.event.findMany({
    where: which,
    orderBy: [{ receivedAt: order }, { created: order }, { id: order }],
    ...(!onlyFailed && { take: NEWEST }),
    select: SHOWN,
  });
  const about = account ? ` about ${nameOf(account)}` : '';
  if (rows.length === 0)
    return { text: `No event${about} has ${onlyFailed ? 'failed' : 'arrived yet'}.`, json: rows };
  return {
    text: plainLines({ head: [], rows: rows.map(cells) }),
    table: {
      head: ['RECEIVED', 'OUTCOME', 'TYPE', 'ID', 'WHY'],
      rows: rows.map(cells),
      styleOf: (cell, column) => (column === 1 ? styleOfStatus(cell) : null),
    },
    json: rows,
  };
}

function cells({ receivedAt, status, type, id, reason, error }: ShownEvent): (string | null)[] {
  return [formatInstant(receivedAt), status.padEnd(7), type, id, reason ?? error];
}

/** PostgreSQL refuses a document with an escaped NUL or half a surrogate pair. Ids have no escapes. */
const PAYLOAD: Readonly<Record<Engine, string>> = {
  sqlite: `e."payload"`,
  postgresql: `replace(e."payload", '\\u', '/u')::json`,
};

/**
 * The events about an account: those that name one of its customers, and those that name no customer but one of its
 * invoices (`invoice_payment.*`) or payments (disputes and refunds).
 *
 * @returns ids: the newest ones, or all that failed
 */
async function eventsAbout(db: Db, userId: string, onlyFailed: boolean): Promise<string[]> {
  const object = Prisma.raw(`${PAYLOAD[engineOf(db)]} -> 'data' -> 'object'`);
  const rows = await db.$queryRaw<{ id: string }[]>`
    WITH customers AS (SELECT "id" FROM "Customer" WHERE "userId" = ${userId}),
    invoices AS (
      SELECT i."id" FROM "Invoice" AS i JOIN "Subscription" AS s ON s."id" = i."subscriptionId"
      WHERE s."customerId" IN (SELECT "id" FROM customers)),
    payments AS (SELECT "id" FROM "Payment" WHERE "invoiceId" IN (SELECT "id" FROM invoices))
    SELECT e."id" FROM "Event" AS e
    WHERE ${onlyFailed ? Prisma.sql`e."status" = 'failed'` : Prisma.sql`true`} AND (
      e."customerId" IN (SELECT "id" FROM customers)
      OR e."customerId" IS NULL AND e."type" LIKE 'invoice_payment.%'
        AND ${object} ->> 'invoice' IN (SELECT "id" FROM invoices)
      OR e."customerId" IS NULL
        AND (e."type" LIKE 'charge.dispute.%' OR e."type" LIKE 'charge.refund.%' OR e."type" LIKE 'refund.%')
        AND coalesce(${object} ->> 'payment_intent', ${object} ->> 'charge') IN (SELECT "id" FROM payments))
    ORDER BY e."receivedAt" DESC, e."created" DESC, e."id" DESC
    ${onlyFailed ? Prisma.empty : Prisma.sql`LIMIT ${NEWEST}`}`;
  return rows.map(({ id }) => id);
}
