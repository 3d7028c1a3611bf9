import { examine, INVARIANTS } from './doctor-logic.ts';
import type { Finding, Invariant } from './doctor-logic.ts';
import type { CommandContext, CommandResult } from './command.ts';

/**
 * `doctor`: checks every invariant of the database, and names the rows that break one.
 *
 * @param context what every command gets
 * @returns what to print; failed when there is any finding
 */
export async function doctor({ db, config, now }: CommandContext): Promise<CommandResult> {
  const findings = await examine(db, { clawbackDays: config.clawbackDays, now });
  const failed = findings.length > 0;
  const text = failed ? inText(findings) : `All ${INVARIANTS.length} invariants hold.`;
  return { text, json: { invariants: INVARIANTS.length, findings }, failed };
}

function inText(findings: readonly Finding[]): string {
  return INVARIANTS.map((invariant) => section(invariant, findings))
    .filter((text) => text !== null)
    .join('\n');
}

function section({ name, says }: Invariant, findings: readonly Finding[]): string | null {
  const broken = findings.filter(({ check }) => check === name);
  if (broken.length === 0) return null;
  return [`${name}: ${says}`, ...broken.map(({ row, problem }) => `  ${row}: ${problem}`)].join('\n');
}
