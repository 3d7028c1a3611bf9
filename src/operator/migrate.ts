import type { CommandContext, CommandResult } from './command.ts';

/** `migrate`: reports the migrations that opening the database has just applied. */
export function migrate({ migrations }: CommandContext): Promise<CommandResult> {
  const text = migrations.length === 0 ? 'The database is up to date.' : `Applied: ${migrations.join(', ')}`;
  return Promise.resolve({ text, json: { applied: migrations } });
}
