import { creditView } from '../access/access.ts';
import type { User } from '../db/generated/client.ts';
import { Prisma } from '../db/generated/client.ts';
import { wholeSeconds } from '../instants.ts';
import { counted } from '../wording.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { plainLines } from './show.ts';
import type { Table } from './show.ts';

const NEWEST = 100;

const MORE = `There are more. These are the newest ${NEWEST}; search for part of an address, a code or an id.`;

type ShownUser = Pick<
  User,
  'id' | 'email' | 'code' | 'tier' | 'creditUntil' | 'creditHeldAt' | 'createdAt' | 'deletedAt'
>;

/**
 * `users`: shows the newest 100 accounts, the newest first.
 *
 * @param search only accounts whose address, code or id contains this
 */
export async function users({ db, now }: CommandContext, search?: string): Promise<CommandResult> {
  const found = await db.$queryRaw<ShownUser[]>`
    SELECT "id", "email", "code", "tier", "creditUntil", "creditHeldAt", "createdAt", "deletedAt" FROM "User"
    ${search === undefined ? Prisma.empty : containing(search)}
    ORDER BY "createdAt" DESC, "id" LIMIT ${NEWEST + 1}`;
  const shown = found.slice(0, NEWEST);
  const json = shown.map(({ id, email, code, tier, createdAt, deletedAt, ...credit }) => ({
    ...{ id, email, code, tier, createdAt, deletedAt },
    ...creditView(credit, wholeSeconds(now)),
  }));
  if (shown.length === 0) {
    const text =
      search === undefined
        ? 'Nobody has signed up yet.'
        : `No account's address, code or id contains ${search}.`;
    return { text, json };
  }
  const table: Table = {
    head: ['SIGNED UP', 'ADDRESS', 'CODE', 'TIER', 'CREDIT', 'ID'],
    rows: json.map(({ createdAt, email, code, tier, creditDays, id }) => [
      formatInstant(createdAt),
      email ?? '(deleted account)',
      code,
      tier,
      counted(creditDays, 'day'),
      id,
    ]),
    styleOf: (cell, column) => (column === 5 || cell === '0 days' ? 'dim' : null),
    ...(found.length > NEWEST && { foot: MORE }),
  };
  return { text: plainLines(table), table, json };
}

/** Addresses and ids are in lower case, and codes in upper case without punctuation. */
function containing(search: string): Prisma.Sql {
  const text = search.trim().toLowerCase();
  const code = search.toUpperCase().replaceAll(/[\s-]/g, '');
  const like = (part: string): string => `%${part.replaceAll(/[\\%_]/g, '\\$&')}%`;
  return Prisma.sql`
    WHERE "email" LIKE ${like(text)} ESCAPE '\\' OR "id" LIKE ${like(text)} ESCAPE '\\'
      ${/[^\p{L}\p{N}]/u.test(code) || code === '' ? Prisma.empty : Prisma.sql`OR "code" LIKE ${like(code)} ESCAPE '\\'`}`;
}
