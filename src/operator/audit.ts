import { listAudit } from '../audit.ts';
import type { AuditRow } from '../db/generated/client.ts';
import { accountOf, formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { DAY_SECONDS } from '../instants.ts';

/** `audit`: shows who changed what about an account's access, when and why, oldest first. */
export async function audit({ db }: CommandContext, email: string): Promise<CommandResult> {
  const account = await accountOf(db, email);
  const rows = await listAudit(db, account.id);
  const text =
    rows.length === 0 ? `Nothing has changed the access of ${email} yet.` : rows.map(line).join('\n');
  return { text, json: rows };
}

function line(row: AuditRow): string {
  const note = row.note === null ? '' : ` "${row.note}"`;
  return `${formatInstant(row.at)}  ${row.actor.padEnd(8)}  ${change(row)}  (${row.causeId})${note}`;
}

function change({ kind, fromTier, toTier, seconds }: AuditRow): string {
  if (kind === 'tier') return `${fromTier} -> ${toTier}`;
  const days = (seconds ?? 0) / DAY_SECONDS;
  return `credit ${days < 0 ? '' : '+'}${Number(days.toFixed(2))} days`;
}
