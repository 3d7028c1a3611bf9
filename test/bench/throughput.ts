import { KINDS, openField, shotsFor } from './field.ts';
import type { Field, Kind } from './field.ts';
import { fire, median, percentile } from './load.ts';
import type { Measured } from './load.ts';
import { tableOf } from './report.ts';
import type { Engine } from './shared.ts';

export const CONNECTIONS = [1, 16, 64];

/** Requests in one round, by connections: half a second to some seconds. */
const SHOTS: Readonly<Record<number, number>> = { 1: 1000, 16: 2000, 64: 4000 };

/** Referrals that converted before the run. */
const PAST = 1000;

/** The share of the limit's throughput to reach on SQLite, by connections. */
const TARGETS: Readonly<Partial<Record<Kind, Readonly<Record<number, number>>>>> = {
  conversions: { 1: 0.4, 64: 0.6 },
  renewals: { 1: 0.5, 64: 1 },
  duplicates: { 1: 0.5, 64: 0.5 },
  'settings page': { 1: 0.5, 64: 0.5 },
};

const HEAD = [
  '',
  'connections',
  'Tandem, a second',
  'p50 ms',
  'p99 ms',
  'limit, a second',
  'p50 ms',
  'p99 ms',
  'ratio',
  'target',
];

export interface Choice {
  kinds: readonly Kind[];
  connections: readonly number[];
  rounds: number;
  /** A folder for Tandem's CPU profile, or null. */
  profiles: string | null;
}

/**
 * Measures Tandem and the limit side by side, and compares what they wrote after each kind.
 *
 * @param log takes a line as soon as it is known
 * @returns lines of Markdown
 */
export async function measureThroughput(
  engine: Engine,
  { kinds, connections, rounds, profiles }: Choice,
  log: (line: string) => void,
): Promise<string[]> {
  const shots = connections.reduce((sum, count) => sum + shotsOf(count), 0) * rounds;
  const buyers = kinds.includes('conversions') ? shots : 0;
  const field = await openField(engine, { past: PAST, buyers }, profiles);
  const rows: string[][] = [];
  let busiest = 0;
  for (const kind of kinds) {
    for (const count of connections) {
      const { tandem, limit } = await measureCell(field, kind, count, rounds);
      const ratio = tandem.perSecond / limit.perSecond;
      const target = engine === 'sqlite' ? TARGETS[kind]?.[count] : undefined;
      const figures = [...figuresOf(tandem), ...figuresOf(limit), ratio.toFixed(2), verdict(ratio, target)];
      rows.push([kind, String(count), ...figures]);
      busiest = Math.max(busiest, tandem.busy, limit.busy);
      log(`${engine}: ${rows.at(-1)?.join('  ') ?? ''}`);
    }
    log(`${engine}: ${await field.check()} rows are the same after ${kind}`);
  }
  await field.stop();
  await field.examine();
  await field.remove();
  return [
    ...tableOf(HEAD, rows),
    '',
    `The two databases held the same rows in the end, and \`doctor\` found nothing in them. The load generator was ` +
      `busy ${Math.round(busiest * 100)} % of the time at most.`,
  ];
}

/** Whether that is all there is to measure. */
export function isWhole({ kinds, connections }: Choice): boolean {
  return kinds.length === KINDS.length && CONNECTIONS.every((count) => connections.includes(count));
}

function shotsOf(connections: number): number {
  return SHOTS[connections] ?? 1000;
}

/** Rounds in turns, so that whatever the machine does meanwhile happens to both. */
async function measureCell(
  field: Field,
  kind: Kind,
  connections: number,
  rounds: number,
): Promise<{ tandem: Measured; limit: Measured }> {
  const results: { tandem: Measured[]; limit: Measured[] } = {
    tandem: [],
    limit: [],
  };
  for (let round = 0; round < rounds; round += 1) {
    const shots = shotsFor(field, kind, shotsOf(connections));
    results.tandem.push(await fire(field.tandem.port, shots(), connections));
    results.limit.push(await fire(field.limit.port, shots(), connections));
  }
  return { tandem: summaryOf(results.tandem), limit: summaryOf(results.limit) };
}

/** The median of the rounds; the latencies of all of them. */
function summaryOf(measured: readonly Measured[]): Measured {
  return {
    perSecond: median(measured.map(({ perSecond }) => perSecond)),
    latencies: measured.flatMap(({ latencies }) => latencies),
    busy: median(measured.map(({ busy }) => busy)),
  };
}

function figuresOf({ perSecond, latencies }: Measured): string[] {
  const [p50, p99] = [percentile(latencies, 0.5), percentile(latencies, 0.99)];
  return [perSecond.toFixed(0), p50.toFixed(2), p99.toFixed(2)];
}

function verdict(ratio: number, target: number | undefined): string {
  if (target === undefined) return '';
  return `${target.toFixed(1)} ${ratio >= target ? 'reached' : 'not reached'}`;
}
