import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';

// `npm test` runs the checks and the tests on both engines. `npm run test:all` adds what takes too long for every
// change: every story and every kill, the pages in a real browser, and the quick benchmark. Both print how long each
// stage took and end with one line of counts.

const ROOT = join(import.meta.dirname, '..');
const RESULTS = join(ROOT, 'test-results');

interface Stage {
  name: string;
  command: string[];
  env?: Record<string, string>;
}

interface Outcome {
  passed: boolean;
  line: string;
}

const script = (name: string): string[] => ['npm', 'run', '--silent', name];

const lint: Stage = { name: 'lint', command: script('lint') };
const format: Stage = { name: 'format', command: script('format:check') };
const types: Stage = { name: 'types', command: script('typecheck') };
const schema: Stage = { name: 'schema', command: script('schema:check') };
const benchmark: Stage = { name: 'benchmark', command: script('test:bench') };

function tests(name: string, projects: string[], env: Record<string, string> = {}): Stage {
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${resultsOf(name)}`];
  const selection = projects.flatMap((project) => ['--project', project]);
  return { name, command: [join(ROOT, 'node_modules/.bin/vitest'), 'run', ...selection, ...reporters], env };
}

function resultsOf(name: string): string {
  return join(RESULTS, `${name}.json`);
}

async function run({ name, command: [program = '', ...args], env = {} }: Stage): Promise<Outcome> {
  const begun = performance.now();
  const child = spawn(program, args, { cwd: ROOT, env: { ...process.env, ...env }, stdio: 'inherit' });
  const [code] = (await once(child, 'close')) as [number | null];
  const seconds = Math.round((performance.now() - begun) / 1000);
  const passed = code === 0;
  const line = `${name.padEnd(10)} ${String(seconds).padStart(4)} s${passed ? '' : '   failed'}`;
  process.stdout.write(`${line}\n`);
  return { passed, line };
}

/** Runs all stages, one after the other, even when one fails, so that each reports its findings. */
async function runAll(stages: Stage[]): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const stage of stages) outcomes.push(await run(stage));
  return outcomes;
}

interface Counts {
  numPassedTests: number;
  numFailedTests: number;
}

/** The counts of a stage; zero for a stage that did not reach its tests. */
async function countsOf({ name }: Stage): Promise<Counts> {
  const text = await readFile(resultsOf(name), 'utf8').catch(() => null);
  if (text === null) return { numPassedTests: 0, numFailedTests: 0 };
  return JSON.parse(text) as Counts;
}

const all = process.argv.includes('--all');
const unit = tests('tests', ['sqlite', 'postgresql'], all ? { THOROUGH: '1' } : {});
const browser = tests('browser', ['e2e']);

await rm(RESULTS, { recursive: true, force: true });
await mkdir(RESULTS);
const begun = performance.now();
// In parallel: the tests spend enough time waiting for databases and processes.
const others = [lint, types, format, schema, ...(all ? [benchmark, browser] : [])];
const outcomes = (await Promise.all([others, [unit]].map(runAll))).flat();

const counts = await Promise.all([unit, ...(all ? [browser] : [])].map(countsOf));
const sum = (key: keyof Counts): number => counts.reduce((total, one) => total + one[key], 0);
const allPassed = outcomes.every(({ passed }) => passed);
// A failed check counts as a failure although no test failed.
const failed = Math.max(sum('numFailedTests'), allPassed ? 0 : 1);
process.stdout.write(
  [
    '',
    ...outcomes.map(({ line }) => line),
    `${'in all'.padEnd(10)} ${String(Math.round((performance.now() - begun) / 1000)).padStart(4)} s`,
    ...(all
      ? []
      : [`Results: ${relative(process.cwd(), RESULTS)}/. npm run test:all runs the longer tests.`]),
    `${sum('numPassedTests')} passed, ${failed} failed`,
    '',
  ].join('\n'),
);
process.exitCode = allPassed ? 0 : 1;
