import { listAudit } from '../audit.ts';
import type { AuditRow } from '../db/generated/client.ts';
import { DAY_SECONDS } from '../instants.ts';
import { counted } from '../wording.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { plainLines } from './show.ts';
import { accountOf, nameOf } from './who.ts';

/** `audit`: shows who changed what about an account's access, when and why, oldest first. */
export async function audit(context: CommandContext, who: string): Promise<CommandResult> {
  const account = await accountOf(context, who);
  const rows = await listAudit(context.db, account.id);
  if (rows.length === 0)
    return { text: `Nothing has changed the access of ${nameOf(account)} yet.`, json: rows };
  const table = { head: ['AT', 'BY', 'CHANGE', 'CAUSE'], rows: rows.map(cells) };
  return { text: plainLines(table), table, json: rows };
}

function cells(row: AuditRow): string[] {
  const note = row.note === null ? '' : ` "${row.note}"`;
  return [formatInstant(row.at), row.actor.padEnd(8), describeChange(row), `(${row.causeId})${note}`];
}

type ChangeColumns = Pick<AuditRow, 'kind' | 'fromTier' | 'toTier' | 'seconds'> &
  Partial<Pick<AuditRow, 'customerId' | 'otherUserId'>>;

/** What one audit row says changed. */
export function describeChange({ kind, fromTier, toTier, seconds, ...moved }: ChangeColumns): string {
  const { customerId = '', otherUserId = null } = moved;
  switch (kind) {
    case 'tier':
      return `${fromTier} -> ${toTier}`;
    case 'link':
      return `got the customer ${customerId}${otherUserId === null ? ', which belonged to nobody' : ` from ${otherUserId}`}`;
    case 'unlink':
      return `lost the customer ${customerId} to ${otherUserId ?? 'nobody'}`;
    default:
      return `credit ${signed(seconds ?? 0)}`;
  }
}

/** "+45 days" or "-0.5 days"; seconds when the days would round to 0. */
function signed(seconds: number): string {
  const sign = seconds < 0 ? '-' : seconds > 0 ? '+' : '';
  const days = Number((Math.abs(seconds) / DAY_SECONDS).toFixed(2));
  const amount = days === 0 && seconds !== 0 ? counted(Math.abs(seconds), 'second') : counted(days, 'day');
  return sign + amount;
}
