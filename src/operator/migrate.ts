import type { CommandContext, CommandResult } from './command.ts';

/**
 * `migrate`: brings the database up to date. Opening it has done so already; this says what was done.
 *
 * @param context what every command gets
 * @returns what to print
 */
export function migrate({ migrations }: CommandContext): Promise<CommandResult> {
  const text = migrations.length === 0 ? 'The database is up to date.' : `Applied: ${migrations.join(', ')}`;
  return Promise.resolve({ text, json: { applied: migrations } });
}
