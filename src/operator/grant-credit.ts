import { randomUUID } from 'node:crypto';

import { creditView } from '../access/access.ts';
import { grantCredit as grant } from '../credits/ledger.ts';
import { inTransaction } from '../db/transaction.ts';
import { inUnit } from '../db/unit-of-work.ts';
import { DAY_SECONDS } from '../instants.ts';
import { PlainError } from '../plain-error.ts';
import { programmeOf } from '../programme.ts';
import { counted } from '../wording.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { accountOf, nameOf } from './who.ts';

/**
 * `grant-credit`: gives an account days of paid access, which stack like all credit.
 *
 * @param days 1 to 3650
 * @param note the reason, for the audit
 */
export async function grantCredit(
  context: CommandContext,
  who: string,
  days: number,
  note: string | undefined,
): Promise<CommandResult> {
  const { db, config, now } = context;
  const account = await accountOf(context, who);
  const cause = { id: randomUUID(), actor: 'operator' as const, ...(note !== undefined && { note }) };
  const { creditUntil, creditHeld } = await inTransaction(db, now, (tx) =>
    inUnit(tx, programmeOf(config), { users: [account.id] }, (unit) => {
      const user = unit.rows.users.get(account.id);
      if (!user || user.deletedAt)
        throw new PlainError(`The account ${account.id} was deleted, so it cannot be given credit.`);
      return creditView(grant(unit, user, days * DAY_SECONDS, cause), unit.now);
    }),
  );
  const until = formatInstant(creditUntil);
  const credit = creditHeld
    ? `. Their credit is held while they pay, and would last until ${until} if it ran from now on.`
    : `: credit until ${until}.`;
  return {
    text: `${nameOf(account)} has ${counted(days, 'more day')}${credit}`,
    json: { email: account.email, days, creditUntil },
  };
}
