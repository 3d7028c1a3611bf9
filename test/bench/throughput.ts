import { KINDS, openField, shotsFor } from './field.ts';
import type { Field, Kind } from './field.ts';
import { fire, median, percentile } from './load.ts';
import type { Measured } from './load.ts';
import { tableOf } from './report.ts';
import type { Engine } from './shared.ts';

export const CONNECTIONS = [1, 16, 64];

/** Events sent first to freshly started servers, and over how many connections. */
const FIRST = { events: 500, connections: 16 };

export interface Extent {
  /** Referrals that converted before the run. */
  past: number;
  /** Requests of each kind to both servers before anything but the first events is measured. */
  warmUp: number;
  /** Requests in one round, by connections. */
  shots: Readonly<Record<number, number>>;
}

/** How often each row is measured. */
export const ROUNDS = 3;

/** A round takes between half a second and a few seconds. */
export const WHOLE: Extent = { past: 1000, warmUp: 3000, shots: { 1: 1000, 16: 2000, 64: 4000 } };

/** Shows in a minute whether everything works; the figures mean little. */
export const QUICK: Extent = { past: 200, warmUp: 50, shots: { 1: 50, 16: 100, 64: 200 } };

/** The share of the baseline's throughput to reach on SQLite, by connections. */
const TARGETS: Readonly<Partial<Record<Kind, Readonly<Record<number, number>>>>> = {
  conversions: { 1: 0.35, 16: 0.9, 64: 1 },
  renewals: { 1: 0.4, 16: 0.8, 64: 1 },
  duplicates: { 1: 0.4, 16: 0.5, 64: 0.5 },
  'settings page': { 1: 0.5, 64: 0.5 },
};

const HEAD = [
  '',
  'connections',
  'Tandem, req/s',
  'p50 ms',
  'p99 ms',
  'CPU ms',
  'baseline, req/s',
  'p50 ms',
  'p99 ms',
  'CPU ms',
  'ratio',
  'target',
];

export interface Choice {
  kinds: readonly Kind[];
  connections: readonly number[];
  rounds: number;
  extent: Extent;
  /** A folder for Tandem's CPU profile, or null. */
  profiles: string | null;
}

/**
 * Measures Tandem and the baseline side by side, and compares what they wrote after each kind.
 *
 * @param log receives each line as soon as it is known
 * @returns lines of Markdown
 */
export async function measureThroughput(
  engine: Engine,
  { kinds, connections, rounds, extent, profiles }: Choice,
  log: (line: string) => void,
): Promise<string[]> {
  const shotsOf = (count: number): number => extent.shots[count] ?? 1000;
  const shots = connections.reduce((sum, count) => sum + shotsOf(count), 0) * rounds;
  const buyers = FIRST.events + extent.warmUp + (kinds.includes('conversions') ? shots : 0);
  const field = await openField(engine, { past: extent.past, buyers }, profiles);
  const rows: string[][] = [];
  const all: Measured[] = [];

  async function measure(
    label: string,
    kind: Kind,
    count: number,
    cell: Cell,
    target?: number,
  ): Promise<void> {
    const { tandem, baseline } = await measureCell(field, kind, count, cell);
    const ratio = tandem.perSecond / baseline.perSecond;
    const figures = [...figuresOf(tandem), ...figuresOf(baseline), ratio.toFixed(2), verdict(ratio, target)];
    rows.push([label, String(count), ...figures]);
    all.push(tandem, baseline);
    log(`${engine}: ${rows.at(-1)?.join('  ') ?? ''}`);
  }

  const first = { rounds: 1, shots: FIRST.events };
  await measure('first 500 after a start', 'conversions', FIRST.connections, first);
  await field.warmUp(extent.warmUp);
  for (const kind of kinds) {
    for (const count of connections) {
      const target = engine === 'sqlite' ? TARGETS[kind]?.[count] : undefined;
      await measure(kind, kind, count, { rounds, shots: shotsOf(count) }, target);
    }
    log(`${engine}: ${await field.check()} rows are the same after ${kind}`);
  }
  await field.stop();
  if (engine === 'sqlite') log(`${await field.checkStatements()} statements are the same`);
  await field.examine();
  await field.remove();
  const percent = (share: number): string => `${Math.round(100 * share)}%`;
  return [
    ...tableOf(HEAD, rows),
    '',
    `The two databases held the same rows in the end, and \`doctor\` found nothing in them. The load generator was ` +
      `busy ${percent(Math.max(...all.map(({ busy }) => busy)))} of the time at most. The connection that got the ` +
      `fewest answers in a round got ${percent(Math.min(...all.map(({ leastShare }) => leastShare)))} of an equal ` +
      `share. Requests refused because a server was too busy, and sent again: ` +
      `${all.reduce((sum, { refused }) => sum + refused, 0)}.`,
  ];
}

/** Whether the choice covers everything that can be measured. */
export function isWhole({ kinds, connections, rounds, extent, profiles }: Choice): boolean {
  return (
    extent === WHOLE &&
    rounds === ROUNDS &&
    profiles === null &&
    kinds.length === KINDS.length &&
    CONNECTIONS.every((count) => connections.includes(count))
  );
}

interface Cell {
  rounds: number;
  shots: number;
}

/** What was measured of one server, with its processor time for each request, ms. */
type Summary = Measured & { cpu: number };

/** Alternates rounds, so that whatever the machine does meanwhile affects both. */
async function measureCell(
  field: Field,
  kind: Kind,
  connections: number,
  { rounds, shots: count }: Cell,
): Promise<{ tandem: Summary; baseline: Summary }> {
  const results: { tandem: Summary[]; baseline: Summary[] } = { tandem: [], baseline: [] };
  for (let round = 0; round < rounds; round += 1) {
    const shots = shotsFor(field, kind, count);
    for (const side of ['tandem', 'baseline'] as const) {
      const server = field[side];
      const before = server.cpu();
      const measured = await fire(server.port, shots(), connections);
      results[side].push({ ...measured, cpu: (server.cpu() - before) / count });
    }
  }
  return { tandem: summaryOf(results.tandem), baseline: summaryOf(results.baseline) };
}

/** The median of the rounds, and the latencies of all of them. */
function summaryOf(measured: readonly Summary[]): Summary {
  return {
    perSecond: median(measured.map(({ perSecond }) => perSecond)),
    latencies: measured.flatMap(({ latencies }) => latencies),
    busy: median(measured.map(({ busy }) => busy)),
    cpu: median(measured.map(({ cpu }) => cpu)),
    refused: measured.reduce((sum, { refused }) => sum + refused, 0),
    leastShare: Math.min(...measured.map(({ leastShare }) => leastShare)),
  };
}

function figuresOf({ perSecond, latencies, cpu }: Summary): string[] {
  const [p50, p99] = [percentile(latencies, 0.5), percentile(latencies, 0.99)];
  return [perSecond.toFixed(0), p50.toFixed(2), p99.toFixed(2), cpu.toFixed(2)];
}

function verdict(ratio: number, target: number | undefined): string {
  if (target === undefined) return '';
  return `${target} ${ratio >= target ? 'reached' : 'not reached'}`;
}
