import { randomUUID } from 'node:crypto';

import { creditView } from '../access/access.ts';
import { grantCredit as grant } from '../credits/ledger.ts';
import { programmeOf } from '../stripe/handle-event.ts';
import { inTransaction } from '../db/transaction.ts';
import { inUnit } from '../db/unit-of-work.ts';
import { PlainError } from '../plain-error.ts';
import { accountOf, formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { DAY_SECONDS } from '../instants.ts';

/**
 * `grant-credit`: gives an account days of paid access, which stack like all credit.
 *
 * @param days 1 to 3650
 * @param note the reason, for the audit
 */
export async function grantCredit(
  { db, config, now }: CommandContext,
  email: string,
  days: number,
  note: string | undefined,
): Promise<CommandResult> {
  const account = await accountOf(db, email);
  const cause = { id: randomUUID(), actor: 'operator' as const, ...(note !== undefined && { note }) };
  const { creditUntil, creditHeld } = await inTransaction(db, now, (tx) =>
    inUnit(tx, programmeOf(config), { users: [account.id] }, (unit) => {
      const user = unit.rows.users.get(account.id);
      if (!user || user.deletedAt) throw new PlainError(`The account ${email} was deleted just now.`);
      return creditView(grant(unit, user, days * DAY_SECONDS, cause), unit.now);
    }),
  );
  const held = creditHeld ? ', if it ran from now on; it is held while they pay' : '';
  return {
    text: `${account.email ?? email} has ${days} more days: credit until ${formatInstant(creditUntil)}${held}.`,
    json: { email: account.email, days, creditUntil },
  };
}
