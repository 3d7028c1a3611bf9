import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual, promisify } from 'node:util';

import { freePort } from '../support/free-port.ts';
import { asAdministrator, databaseOn, newDatabaseName } from '../support/postgresql-databases.ts';
import { startPostgresql } from '../support/postgresql-server.ts';

// `npm run test:upgrade -- REF` checks that this checkout can take over the databases of an older version. The version
// REF fills databases on both engines with the demo and random stories, and records what `explain` says about each
// account. This checkout migrates the databases and records it again: both must be equal but for the wording, and
// so must the findings of `doctor`. RUNS and SEED in the environment choose the stories.

const HERE = join(import.meta.dirname, '../..');
const RUNS = Number(process.env['RUNS'] ?? 40);
const SEED = process.env['SEED'] ?? '5';

interface Told {
  databaseUrl: string;
  accounts: unknown[];
  findings: { check: string; row: string }[];
}

/** The output without its wording, which may differ: of each sentence, only the instants and numbers are compared. */
function comparable({ accounts, findings }: Told): unknown {
  return {
    accounts: withoutWording(accounts),
    findings: findings.map(({ check, row }) => ({ check, row })),
  };
}

function withoutWording(value: unknown): unknown {
  if (typeof value === 'string') return value.includes(' ') ? value.match(/[^\s,;:()]*\d[^\s,;()]*/g) : value;
  if (Array.isArray(value)) return value.map(withoutWording);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, withoutWording(one)]));
}

const run = promisify(execFile);

async function inCheckout(
  folder: string,
  command: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<void> {
  const child = spawn(command, args, { cwd: folder, env: { ...process.env, ...env }, stdio: 'inherit' });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} failed in ${folder}.`);
}

function part(folder: string, name: 'fill' | 'tell', env: Record<string, string>): Promise<void> {
  const vitest = ['vitest', 'run', '--config', 'test/upgrade/vitest.config.ts', `${name}.upgrade`];
  return inCheckout(folder, 'npx', vitest, env);
}

/** Runs the demo against a server of the older version. */
async function runDemo(folder: string, databaseUrl: string): Promise<void> {
  const PORT = String(await freePort());
  const env = { ...process.env, DATABASE_URL: databaseUrl, PORT, LOG_LEVEL: 'warn' };
  const server = spawn(process.execPath, ['src/run.js', 'server'], { cwd: folder, env });
  const closed = once(server, 'close');
  try {
    const begun = await Promise.race([
      closed.then(() => false),
      once(server.stdout, 'data').then(() => true),
    ]);
    if (!begun) throw new Error("The older version's server exited.");
    await inCheckout(folder, process.execPath, ['src/run.js', 'demo'], { PORT });
  } finally {
    server.kill('SIGTERM');
    await closed;
  }
}

async function told(folder: string, databases: string[], file: string): Promise<Told[]> {
  await part(folder, 'tell', { UPGRADE_DATABASES: JSON.stringify(databases), UPGRADE_TOLD: file });
  return JSON.parse(await readFile(file, 'utf8')) as Told[];
}

const [ref] = process.argv.slice(2);
if (ref === undefined)
  throw new Error('Usage: npm run test:upgrade -- REF, a commit or tag of the older version.');

const scratch = await mkdtemp(join(tmpdir(), 'tandem-upgrade-'));
const older = join(scratch, 'older');
const postgresql = await startPostgresql({ flags: ['-c', 'fsync=off'] });
try {
  await run('git', ['worktree', 'add', '--detach', older, ref], { cwd: HERE });
  await inCheckout(older, 'npm', ['ci', '--no-audit', '--no-fund']);
  await cp(import.meta.dirname, join(older, 'test/upgrade'), { recursive: true });

  const onSqlite = Array.from({ length: RUNS }, (_, index) => `file:${join(scratch, `${index}.db`)}`);
  const onPostgresql: string[] = [];
  for (let index = 0; index < RUNS; index += 1) {
    const name = newDatabaseName();
    await asAdministrator(postgresql.url, `CREATE DATABASE ${name}`);
    onPostgresql.push(databaseOn(postgresql.url, name));
  }
  const databases = [...onSqlite, ...onPostgresql];
  for (const [first = '', ...rest] of [onSqlite, onPostgresql]) {
    await runDemo(older, first);
    await part(older, 'fill', { UPGRADE_DATABASES: JSON.stringify(rest), UPGRADE_SEED: SEED });
  }
  const before = await told(older, databases, join(scratch, 'before.json'));
  const after = await told(HERE, databases, join(scratch, 'after.json'));
  const differing = after.filter((one, index) => {
    const earlier = before[index];
    return !earlier || !isDeepStrictEqual(comparable(one), comparable(earlier));
  });
  const accounts = after.reduce((sum, one) => sum + one.accounts.length, 0);
  const findings = after.reduce((sum, one) => sum + one.findings.length, 0);
  process.stdout.write(
    `${after.length} databases, ${accounts} accounts, ${findings} findings of doctor; ${differing.length} databases differ.\n`,
  );
  for (const { databaseUrl } of differing) process.stdout.write(`differs: ${databaseUrl}\n`);
  if (differing.length > 0) {
    process.stdout.write(`Compare ${scratch}/before.json and after.json.\n`);
    process.exitCode = 1;
  }
} finally {
  // Ignore this failure: if the worktree was never added, the original error must surface.
  await run('git', ['worktree', 'remove', '--force', older], { cwd: HERE }).catch(() => undefined);
  if (process.exitCode !== 1) await rm(scratch, { recursive: true, force: true });
  await postgresql.stop();
}
