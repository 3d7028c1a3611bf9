import { webhook } from './events.ts';
import { KINDS, openField, SETTINGS_SHOT, shotsFor } from './field.ts';
import type { Field, Kind } from './field.ts';
import { fire, median } from './load.ts';
import { tableOf } from './report.ts';
import { scans, statementsOf } from './statements.ts';

/** The short history, in converted referrals. */
const SHORT = 1000;
const SHOTS = 400;
const WARM_UP = 3000;
const ASKED = KINDS.filter((kind) => kind !== 'pricing page');

/** The share of the throughput that must remain with a long history. */
const TARGET = 0.9;

interface Rates {
  tandem: number;
  baseline: number;
}

/**
 * Measures at one connection with a short and a long history, on SQLite, and asks SQLite how it finds the rows.
 *
 * @param past the long history, in converted referrals
 * @param rounds how often each is measured
 * @param log receives each line as soon as it is known
 * @returns lines of Markdown, without the statements and their plans, which only `log` receives
 */
export async function measureHistory(
  past: number,
  rounds: number,
  log: (line: string) => void,
): Promise<string[]> {
  // One more than is measured, for the query plans.
  const buyers = rounds * SHOTS + 1 + WARM_UP;
  const short = await openField('sqlite', { past: SHORT, buyers });
  const long = await openField('sqlite', { past, buyers });
  log(`${past} past referrals are seeded`);
  for (const field of [short, long]) await field.warmUp(WARM_UP);
  const rows: string[][] = [];
  for (const kind of ASKED) {
    const [before, after] = await measureKind([short, long], kind, rounds);
    const ratio = after.tandem / before.tandem;
    rows.push([
      kind,
      before.tandem.toFixed(0),
      after.tandem.toFixed(0),
      ratio.toFixed(2),
      `${TARGET} ${ratio >= TARGET ? 'reached' : 'not reached'}`,
      (after.baseline / before.baseline).toFixed(2),
    ]);
    log(rows.at(-1)?.join('  ') ?? '');
  }
  await Promise.all([short.stop(), long.stop()]);
  const plans = await plansOf(long, log);
  await Promise.all([short.remove(), long.remove()]);
  const head = [
    '',
    `${SHORT} past, req/s`,
    `${past} past, req/s`,
    'ratio',
    'target',
    'ratio of the baseline',
  ];
  return [...tableOf(head, rows), '', plans];
}

/** The median over alternating rounds, of each field. */
async function measureKind(
  fields: readonly [Field, Field],
  kind: Kind,
  rounds: number,
): Promise<[Rates, Rates]> {
  const measured = fields.map((field) => ({
    field,
    tandem: [] as number[],
    baseline: [] as number[],
  }));
  for (let round = 0; round < rounds; round += 1) {
    for (const { field, tandem, baseline } of measured) {
      const shots = shotsFor(field, kind, SHOTS);
      tandem.push((await fire(field.tandem.port, shots(), 1)).perSecond);
      baseline.push((await fire(field.baseline.port, shots(), 1)).perSecond);
    }
  }
  const [short, long] = measured.map(({ tandem, baseline }) => ({
    tandem: median(tandem),
    baseline: median(baseline),
  }));
  if (!short || !long) throw new Error('A field is missing.');
  return [short, long];
}

async function plansOf(
  { databases, conversions, renewals, duplicates }: Field,
  log: (line: string) => void,
): Promise<string> {
  const statements = await statementsOf(databases.tandem, [
    ...[...conversions(1), ...renewals(1)].map((payload) => webhook(payload, 'ok')),
    ...duplicates(1).map((payload) => webhook(payload, 'duplicate')),
    SETTINGS_SHOT,
  ]);
  for (const { sql, plan } of statements) log([sql, ...plan.map((step) => `    ${step}`)].join('\n'));
  const scanning = statements.filter(scans).length;
  return (
    `${statements.length} different statements were used, and ` +
    `${scanning === 0 ? 'none of them scans' : `${scanning} of them scan`} a whole table.`
  );
}
