import { pruneDatabase } from './prune-logic.ts';
import type { CommandContext, CommandResult } from './command.ts';

/**
 * `prune`: thins the payloads of old events, and deletes sessions and reset links that have ended.
 *
 * @param context what every command gets
 * @returns what to print
 */
export async function prune({ db, config, now }: CommandContext): Promise<CommandResult> {
  const pruned = await pruneDatabase(db, config.eventRetentionDays, now);
  const { events, sessions, resetLinks } = pruned;
  const text = `Thinned ${events} events; deleted ${sessions} sessions and ${resetLinks} reset links that had ended.`;
  return { text, json: pruned };
}
