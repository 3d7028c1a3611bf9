import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { compare, makeDatabases } from './databases.ts';
import { conversion, renewal, signed } from './events.ts';
import { fire, median, percentile } from './load.ts';
import type { Measured, Shot } from './load.ts';
import { describeMachine } from './machine.ts';
import { READER, READER_TOKEN } from './seed.ts';
import { startLimit, startTandem } from './servers.ts';
import type { Server } from './servers.ts';
import type { Engine, PageParts } from './shared.ts';

// `npm run bench` measures all of it, some minutes long, and writes docs/benchmarks.md. While tuning:
//   npm run bench -- --engine sqlite --kind conversions --connections 1 --rounds 3
//   npm run bench -- --engine sqlite --kind renewals --profile /tmp/profiles
// `--history` and `--memory` are the two long ones, by themselves.

const KINDS = ['conversions', 'renewals', 'duplicates', 'settings page', 'pricing page'] as const;
type Kind = (typeof KINDS)[number];
const CONNECTIONS = [1, 16, 64];

/** Requests in one round, by connections: about half a second to two seconds of the limit's. */
const SHOTS: Readonly<Record<number, number>> = { 1: 400, 16: 1000, 64: 2000 };
const WARM_UP = 500;

/** The share of the limit's throughput to reach on SQLite, at 1 and at 64 connections. */
const TARGETS: Readonly<Partial<Record<Kind, Readonly<Record<number, number>>>>> = {
  conversions: { 1: 0.4, 64: 0.6 },
  renewals: { 1: 0.5, 64: 1 },
  duplicates: { 1: 0.5, 64: 0.5 },
  'settings page': { 1: 0.5, 64: 0.5 },
};

const { values: options } = parseArgs({
  options: {
    engine: { type: 'string', multiple: true, default: ['sqlite', 'postgresql'] },
    kind: { type: 'string', multiple: true, default: [...KINDS] },
    connections: { type: 'string', multiple: true, default: CONNECTIONS.map(String) },
    rounds: { type: 'string', default: '5' },
    profile: { type: 'string' },
    history: { type: 'boolean', default: false },
    memory: { type: 'boolean', default: false },
  },
});
const rounds = Number(options.rounds);
const kinds = KINDS.filter((kind) => options.kind.includes(kind));
const connectionCounts = options.connections.map(Number);
const isWhole = kinds.length === KINDS.length && connectionCounts.length === CONNECTIONS.length;

/** Both servers on their own databases with the same rows, and the buyers who have not been used up. */
interface Field {
  tandem: Server;
  limit: Server;
  at: number;
  take: (count: number) => number[];
  close: () => Promise<void>;
}

if (options.memory) await measureMemory();
else if (options.history) await measureHistory();
else await measureAll();

async function measureAll(): Promise<void> {
  const sections: string[] = [];
  for (const engine of options.engine as Engine[]) {
    const lines = await measureEngine(engine);
    sections.push(`## ${engine === 'sqlite' ? 'SQLite' : 'PostgreSQL'}\n\n${lines.join('\n')}\n`);
    process.stdout.write(`${sections.at(-1) ?? ''}\n`);
  }
  if (isWhole && options.engine.length === 2)
    await report('measured', [...describeMachine(), '', ...sections].join('\n'));
}

async function measureEngine(engine: Engine): Promise<string[]> {
  const perKind = connectionCounts.reduce((sum, connections) => sum + (SHOTS[connections] ?? 0), 0) * rounds;
  const field = await openField(
    engine,
    1000,
    WARM_UP + perKind * (kinds.includes('conversions') ? 1 : 0) + 2 * perKind,
  );
  const lines = [
    '| | connections | Tandem, a second | p50 ms | p99 ms | limit, a second | p50 ms | p99 ms | ratio | target |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |',
  ];
  for (const kind of kinds) {
    for (const connections of connectionCounts) {
      const { tandem, limit } = await measureCell(field, kind, connections, SHOTS[connections] ?? 1000);
      const ratio = tandem.perSecond / limit.perSecond;
      const target = engine === 'sqlite' ? TARGETS[kind]?.[connections] : undefined;
      lines.push(
        `| ${[kind, connections, ...figures(tandem), ...figures(limit), ratio.toFixed(2), verdict(ratio, target)].join(' | ')} |`,
      );
      process.stderr.write(`${engine}: ${lines.at(-1) ?? ''}\n`);
    }
  }
  await field.close();
  return lines;
}

function figures({ perSecond, latencies }: Measured): string[] {
  return [
    perSecond.toFixed(0),
    percentile(latencies, 0.5).toFixed(2),
    percentile(latencies, 0.99).toFixed(2),
  ];
}

function verdict(ratio: number, target: number | undefined): string {
  if (target === undefined) return '';
  return `${target.toFixed(1)} ${ratio >= target ? 'reached' : 'not reached'}`;
}

/** Interleaved rounds, so that whatever the machine does meanwhile happens to both; medians of them. */
async function measureCell(
  field: Field,
  kind: Kind,
  connections: number,
  count: number,
): Promise<{ tandem: Measured; limit: Measured }> {
  const results: { tandem: Measured[]; limit: Measured[] } = { tandem: [], limit: [] };
  for (let round = 0; round < rounds; round += 1) {
    const shots = await shotsFor(field, kind, count);
    results.tandem.push(await fire(field.tandem.port, shots(), connections));
    results.limit.push(await fire(field.limit.port, shots(), connections));
  }
  return { tandem: summary(results.tandem), limit: summary(results.limit) };
}

function summary(measured: readonly Measured[]): Measured {
  return {
    perSecond: median(measured.map(({ perSecond }) => perSecond)),
    latencies: measured.flatMap(({ latencies }) => latencies),
  };
}

/** What to fire in one round; both servers have had what must come before. Signed anew for each of them. */
async function shotsFor(field: Field, kind: Kind, count: number): Promise<() => Shot[]> {
  if (kind === 'settings page') return () => Array<Shot>(count).fill(page('/settings', READER.email));
  if (kind === 'pricing page') return () => Array<Shot>(count).fill(page('/pricing', '45 days'));
  if (kind === 'conversions') {
    const buyers = field.take(count);
    return () => buyers.map((n) => webhook(conversion(n, field.at), 'ok'));
  }
  const buyers = field.take(count);
  const before = buyers.map((n) => conversion(n, field.at));
  await fireAtBoth(field, before, 'ok');
  if (kind === 'renewals') return () => buyers.map((n) => webhook(renewal(n, field.at), 'ok'));
  return () => before.map((payload) => webhook(payload, 'duplicate'));
}

async function fireAtBoth(field: Field, payloads: readonly string[], status: string): Promise<void> {
  for (const { port } of [field.tandem, field.limit]) {
    await fire(
      port,
      payloads.map((payload) => webhook(payload, status)),
      16,
    );
  }
}

function page(path: string, expected: string): Shot {
  const headers = path === '/settings' ? { cookie: `tandem_session=${READER_TOKEN}` } : {};
  return { method: 'GET', path, headers, body: '', expected };
}

function webhook(body: string, status: string): Shot {
  const { payload, signature } = signed(body);
  const headers = {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(payload),
    'stripe-signature': signature,
  };
  return { method: 'POST', path: '/api/stripe/webhook', headers, body: payload, expected: `"${status}"` };
}

async function openField(engine: Engine, past: number, buyers: number): Promise<Field> {
  const at = Math.floor(Date.now() / 1000) - 60;
  const databases = await makeDatabases(engine, { past, buyers, at });
  const profiles = options.profile ?? null;
  if (profiles) await mkdir(profiles, { recursive: true });
  const tandem = await startTandem(databases.tandem, profiles);
  const limit = await startLimit(databases.limit, await pagesOf(tandem.port));
  let taken = 0;
  const field: Field = {
    tandem,
    limit,
    at,
    take: (count) => {
      if (taken + count > buyers) throw new Error('Too few buyers were seeded.');
      taken += count;
      return Array.from({ length: count }, (_, index) => taken - count + index);
    },
    close: async () => {
      await Promise.all([tandem.stop(), limit.stop()]);
      await compare(databases);
      await databases.remove();
    },
  };
  const first = field.take(Math.min(WARM_UP, buyers));
  await fireAtBoth(
    field,
    first.map((n) => conversion(n, at)),
    'ok',
  );
  await fireAtBoth(
    field,
    first.map((n) => renewal(n, at)),
    'ok',
  );
  await fireAtBoth(
    field,
    first.map((n) => renewal(n, at)),
    'duplicate',
  );
  for (const { port } of [tandem, limit]) {
    for (const shot of [page('/settings', READER.email), page('/pricing', '45 days')]) {
      await fire(port, Array<Shot>(WARM_UP / 2).fill(shot), 16);
    }
  }
  return field;
}

/** Tandem's own pages, cut where the reader's columns stand, for the limit to send. */
async function pagesOf(port: number): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tandem-bench-pages-'));
  const read = async (path: string): Promise<string> => {
    const headers = { cookie: path === '/settings' ? `tandem_session=${READER_TOKEN}` : '' };
    return (await fetch(`http://127.0.0.1:${port}${path}`, { headers })).text();
  };
  const settings = (await read('/settings'))
    .split(new RegExp(`(${READER.email}|${READER.code})`))
    .reduce<PageParts>((parts, piece) => {
      const column = piece === READER.email ? 'email' : piece === READER.code ? 'code' : null;
      return [...parts, { text: column === null ? piece : '', column }];
    }, []);
  await writeFile(join(folder, 'settings.json'), JSON.stringify(settings));
  await writeFile(join(folder, 'pricing.html'), await read('/pricing'));
  return folder;
}

/** The same at one connection with a short and with a long past. */
async function measureHistory(): Promise<void> {
  const lines = [
    '| | with 1 000 past referrals, a second | with 1 000 000 | ratio |',
    '| --- | --- | --- | --- |',
  ];
  const count = 400;
  const measured: Record<string, number[]> = {};
  const asked = KINDS.filter((kind) => kind !== 'pricing page');
  const buyers = WARM_UP + 3 * rounds * count;
  const fields = [await openField('sqlite', 1000, buyers), await openField('sqlite', 1_000_000, buyers)];
  for (const kind of asked) {
    const perField: number[][] = fields.map(() => []);
    for (let round = 0; round < rounds; round += 1) {
      for (const [index, field] of fields.entries()) {
        const shots = (await shotsFor(field, kind, count))();
        perField[index]?.push((await fire(field.tandem.port, shots, 1)).perSecond);
        // The limit gets the same, so that both can be compared in the end.
        await fire(
          field.limit.port,
          kind.endsWith('page')
            ? shots
            : shots.map((shot) => webhook(shot.body, kind === 'duplicates' ? 'duplicate' : 'ok')),
          16,
        );
      }
    }
    measured[kind] = perField.map(median);
    const [short = 0, long = 0] = measured[kind];
    lines.push(`| ${kind} | ${short.toFixed(0)} | ${long.toFixed(0)} | ${(long / short).toFixed(2)} |`);
    process.stderr.write(`${lines.at(-1) ?? ''}\n`);
  }
  for (const field of fields) await field.close();
  process.stdout.write(`${lines.join('\n')}\n`);
  await report('history', [...describeMachine(), '', ...lines].join('\n'));
}

/** 200 000 events through one process. */
async function measureMemory(): Promise<void> {
  const total = 200_000;
  const step = 20_000;
  const field = await openField('sqlite', 1000, total / 2 + WARM_UP);
  const lines = ['| events handled | resident memory, MB |', '| --- | --- |'];
  const note = (handled: number): void => {
    lines.push(`| ${handled} | ${field.tandem.memory().toFixed(0)} |`);
    process.stderr.write(`${lines.at(-1) ?? ''}\n`);
  };
  note(0);
  for (let handled = step; handled <= total; handled += step) {
    const buyers = field.take(step / 2);
    for (const make of [conversion, renewal]) {
      await fire(
        field.tandem.port,
        buyers.map((n) => webhook(make(n, field.at), 'ok')),
        16,
      );
    }
    note(handled);
  }
  await Promise.all([field.tandem.stop(), field.limit.stop()]);
  process.stdout.write(`${lines.join('\n')}\n`);
  await report('memory', [...describeMachine(), '', ...lines].join('\n'));
}

/** Replaces one part of docs/benchmarks.md, between its two marks. */
async function report(part: string, text: string): Promise<void> {
  const path = join(import.meta.dirname, '../../docs/benchmarks.md');
  const page = await readFile(path, 'utf8');
  const [begin, end] = [`<!-- ${part} -->`, `<!-- end of ${part} -->`];
  const [head, rest] = page.split(begin);
  const tail = rest?.split(end)[1];
  if (head === undefined || tail === undefined) throw new Error(`${path} has no part ${part}.`);
  await writeFile(path, `${head}${begin}\n\n${text.trim()}\n\n${end}${tail}`);
}
