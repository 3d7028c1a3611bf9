import { createResetToken, RESET_LINK_SECONDS } from '../accounts/reset-link.ts';
import { inTransaction } from '../db/transaction.ts';
import { accountOf, formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { PlainError } from '../plain-error.ts';
import { addSeconds, wholeSeconds } from '../instants.ts';

/** `reset-link`: prints a one-time link with which the account's owner sets a new password within an hour. */
export async function resetLink(
  { db, config, sessionSecret, now }: CommandContext,
  email: string,
): Promise<CommandResult> {
  const account = await accountOf(db, email);
  const token = await inTransaction(db, now, (tx) => createResetToken(tx, sessionSecret, account.id));
  if (token === null)
    throw new PlainError('The account was deleted just now, so there is no password to reset.');
  const url = `${config.publicUrl}/reset/${token}`;
  const expiresAt = addSeconds(wholeSeconds(now), RESET_LINK_SECONDS);
  return {
    text: `${url}\nIt works once, until ${formatInstant(expiresAt)}. Using it logs ${account.email ?? email} out everywhere.`,
    json: { email: account.email, url, expiresAt },
  };
}
