// `npm run bench` compares Tandem with a bare server that does the same work (baseline.ts). It takes some minutes and
// writes docs/benchmarks.md. While tuning, measure one kind at one number of connections; this takes half a minute and
// writes nothing:
//
//   npm run bench -- --engine sqlite --kind conversions --connections 1 --rounds 3
//   npm run bench -- --engine sqlite --kind renewals --connections 64 --rounds 3 --profile /tmp/profiles
//
// `--quick` (or `npm run test:bench`) checks in about a minute, on SQLite, that both servers still do the same work. It
// fails when pages, rows or statements differ, and writes nothing.
//
// Kinds are conversions, renewals, duplicates, "settings page" and "pricing page"; --kind and --connections can be
// repeated. --history and --memory are two separate long measurements; with --size they are shorter and write nothing.

import { parseArgs } from 'node:util';

import { KINDS } from './field.ts';
import { measureHistory } from './history.ts';
import { describeMachine } from './machine.ts';
import { measureMemory } from './memory.ts';
import { report } from './report.ts';
import type { Engine } from './shared.ts';
import { CONNECTIONS, isWhole, measureThroughput, QUICK, ROUNDS, WHOLE } from './throughput.ts';

const ENGINES: readonly Engine[] = ['sqlite', 'postgresql'];
const PAST_REFERRALS = 1_000_000;
const EVENTS = 200_000;

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    engine: { type: 'string', multiple: true },
    kind: { type: 'string', multiple: true, default: [...KINDS] },
    connections: { type: 'string', multiple: true },
    rounds: { type: 'string' },
    profile: { type: 'string' },
    history: { type: 'boolean', default: false },
    memory: { type: 'boolean', default: false },
    size: { type: 'string' },
  },
});

const engines = chosen(ENGINES, values.engine ?? (values.quick ? ['sqlite'] : ENGINES));
const choice = {
  kinds: chosen(KINDS, values.kind),
  connections: values.connections?.map(Number) ?? (values.quick ? [16] : CONNECTIONS),
  rounds: Number(values.rounds ?? (values.quick ? 1 : ROUNDS)),
  extent: values.quick ? QUICK : WHOLE,
  profiles: values.profile ?? null,
};
const size = values.size === undefined ? null : Number(values.size);

const log = (line: string): void => void process.stderr.write(`${line}\n`);
const machine = describeMachine();

if (values.history) {
  const lines = await measureHistory(size ?? PAST_REFERRALS, choice.rounds, log);
  await publish('history', lines, size === null && choice.rounds === ROUNDS);
} else if (values.memory) {
  await publish('memory', await measureMemory(size ?? EVENTS, log), size === null);
} else {
  for (const engine of engines) {
    await publish(engine, await measureThroughput(engine, choice, log), isWhole(choice));
  }
}
// The PostgreSQL server leaves connections open that would keep this process alive.
process.exit();

function chosen<T extends string>(all: readonly T[], names: readonly string[]): T[] {
  const unknown = names.find((name) => !all.some((one) => one === name));
  if (unknown !== undefined) throw new Error(`"${unknown}" is none of: ${all.join(', ')}.`);
  return all.filter((one) => names.includes(one));
}

async function publish(part: string, lines: readonly string[], whole: boolean): Promise<void> {
  const text = [...machine, '', ...lines];
  process.stdout.write(`${text.join('\n')}\n`);
  if (whole) await report(part, text);
}
