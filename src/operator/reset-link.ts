import { createResetToken, RESET_LINK_SECONDS } from '../accounts/reset-link.ts';
import { inTransaction } from '../db/transaction.ts';
import { addSeconds, wholeSeconds } from '../instants.ts';
import { resetUrl } from '../outbox/links.ts';
import { PlainError } from '../plain-error.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { accountOf, nameOf } from './who.ts';

/** `reset-link`: prints a one-time link with which the account's owner sets a new password within an hour. */
export async function resetLink(context: CommandContext, who: string): Promise<CommandResult> {
  const { db, config, sessionSecret, now } = context;
  const account = await accountOf(context, who);
  const token = await inTransaction(db, now, (tx) => createResetToken(tx, sessionSecret, account.id));
  if (token === null)
    throw new PlainError(`The account ${account.id} was deleted, so it has no password to reset.`);
  const url = resetUrl(config.publicUrl, token);
  const expiresAt = addSeconds(wholeSeconds(now), RESET_LINK_SECONDS);
  return {
    text: `${url}\nIt works once, until ${formatInstant(expiresAt)}. Using it logs ${nameOf(account)} out everywhere.`,
    json: { email: account.email, url, expiresAt },
  };
}
