import { createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage } from 'node:http';

import Database from 'better-sqlite3';
import { Pool } from 'pg';

import { hashToken } from '../../src/accounts/tokens.ts';
import { handleEvent, readSettings } from './baseline-work.ts';
import type { Instant, SubscriptionEvent, Work } from './baseline-work.ts';
import { instantFor, SESSION_SECRET, WEBHOOK_SECRET } from './shared.ts';
import type { PageParts } from './shared.ts';

// The baseline that the benchmark compares with: a bare node:http server over the database driver. Usage: `baseline.ts
// <port> <database url> <folder of the pages>`.

const [port = '', databaseUrl = '', pages = ''] = process.argv.slice(2);
const TOLERANCE_SECONDS = 300;

/** Runs a piece of work, all of it on one connection. */
type Run = <T>(work: Work<T>) => T | Promise<T>;

const { run, instant } = databaseUrl.startsWith('file:') ? onSqlite() : onPostgresql();
const settings = JSON.parse(readFileSync(`${pages}/settings.json`, 'utf8')) as PageParts;
const pricing = readFileSync(`${pages}/pricing.html`);

createServer((request, response) => {
  answer(request).then(
    ({ status, type, body }) => {
      response
        .writeHead(status, {
          'content-type': type,
          'content-length': Buffer.byteLength(body),
        })
        .end(body);
    },
    (error: unknown) => {
      process.stderr.write(`${String(error)}\n`);
      response.writeHead(500).end();
    },
  );
}).listen(Number(port), '127.0.0.1', () => process.stdout.write('The baseline listens.\n'));

interface Answer {
  status: number;
  type: string;
  body: string | Buffer;
}

async function answer(request: IncomingMessage): Promise<Answer> {
  const now = Math.floor(Date.now() / 1000);
  if (request.url === '/pricing') return { status: 200, type: 'text/html; charset=utf-8', body: pricing };
  if (request.url === '/settings') {
    const token = /__Host-tandem_session=([^;]+)/.exec(request.headers.cookie ?? '')?.[1] ?? '';
    const values = await run(readSettings(hashToken(SESSION_SECRET, token), now, instant));
    if (!values) return { status: 303, type: 'text/plain', body: '' };
    const body = settings.map((part) => (typeof part === 'string' ? part : values[part.value])).join('');
    return { status: 200, type: 'text/html; charset=utf-8', body };
  }
  const body = await bodyOf(request);
  if (!isSigned(body, String(request.headers['stripe-signature']), now)) {
    return {
      status: 400,
      type: 'application/json',
      body: '{"error":"signature"}',
    };
  }
  const payload = body.toString('utf8');
  const status = await run(handleEvent(JSON.parse(payload) as SubscriptionEvent, payload, now, instant));
  return {
    status: 200,
    type: 'application/json',
    body: JSON.stringify({ status }),
  };
}

function bodyOf(request: IncomingMessage): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      resolve(Buffer.concat(chunks));
    });
    request.on('error', reject);
  });
}

function isSigned(body: Buffer, header: string, now: number): boolean {
  const [, time = '', signature = ''] = /^t=(\d+),v1=([0-9a-f]{64})/.exec(header) ?? [];
  if (signature === '' || now - Number(time) > TOLERANCE_SECONDS) return false;
  const expected = createHmac('sha256', WEBHOOK_SECRET).update(`${time}.`).update(body).digest();
  return timingSafeEqual(expected, Buffer.from(signature, 'hex'));
}

function onSqlite(): { run: Run; instant: Instant } {
  const database = new Database(databaseUrl.replace(/^file:/, ''));
  for (const pragma of [
    'journal_mode = WAL',
    'synchronous = FULL',
    'foreign_keys = ON',
    'temp_store = MEMORY',
  ]) {
    database.pragma(pragma);
  }
  const kept = new Map<string, Database.Statement>();
  const statementOf = (sql: string): Database.Statement => {
    const known = kept.get(sql);
    if (known) return known;
    const statement = database.prepare(sql.replace('BEGIN', 'BEGIN IMMEDIATE').replace(/\$\d+/g, '?'));
    kept.set(sql, statement);
    return statement;
  };
  // It runs synchronously from its first statement to its last, so transactions never overlap.
  const run = <T>(work: Work<T>): T => {
    let step = work.next();
    while (step.done !== true) {
      const { sql, args } = step.value;
      const statement = statementOf(sql);
      if (statement.reader) step = work.next(statement.all(args) as Record<string, unknown>[]);
      else {
        statement.run(args);
        step = work.next([]);
      }
    }
    return step.value;
  };
  return { run, instant: instantFor('sqlite') };
}

function onPostgresql(): { run: Run; instant: Instant } {
  const pool = new Pool({ connectionString: databaseUrl, max: 10 });
  const names = new Map<string, string>();
  const nameOf = (sql: string): string => {
    const name = names.get(sql) ?? `baseline_${names.size}`;
    names.set(sql, name);
    return name;
  };
  const run = async <T>(work: Work<T>): Promise<T> => {
    const client = await pool.connect();
    try {
      let step = work.next();
      while (step.done !== true) {
        const { sql, args } = step.value;
        const { rows } = await client.query<Record<string, unknown>>({
          name: nameOf(sql),
          text: sql,
          values: args,
        });
        step = work.next(rows);
      }
      client.release();
      return step.value;
    } catch (error) {
      // Closes the connection, which may be inside a transaction that failed.
      client.release(true);
      throw error;
    }
  };
  return { run, instant: instantFor('postgresql') };
}
