import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { hashToken } from '../../src/accounts/tokens.ts';
import { inShort } from '../support/in-short.ts';
import { readSettings } from './baseline-work.ts';
import { compare, examine, makeDatabases, scratchFolder } from './databases.ts';
import { conversion, renewal, webhook } from './events.ts';
import { fire, shotOf } from './load.ts';
import type { Shot } from './load.ts';
import { READER } from './seed.ts';
import { startBaseline, startTandem } from './servers.ts';
import type { Server } from './servers.ts';
import { instantFor, SESSION_SECRET } from './shared.ts';
import type { Engine, PageParts, SettingsValues } from './shared.ts';
import { askedByBaseline, askedFor } from './statements.ts';

export const KINDS = ['conversions', 'renewals', 'duplicates', 'settings page', 'pricing page'] as const;
export type Kind = (typeof KINDS)[number];

export const SETTINGS_SHOT = shotOf(
  'GET /settings',
  { cookie: `__Host-tandem_session=${READER.token}` },
  '',
  READER.email,
);
const PRICING_SHOT = shotOf('GET /pricing', {}, '', '45 days');

/** Both servers, each on its own database with the same rows. */
export interface Field {
  tandem: Server;
  baseline: Server;
  /** When the seeded conversions happened. */
  at: number;
  databases: { tandem: string; baseline: string };
  /** Events that nobody has sent yet: the next buyers pay. */
  conversions: (count: number) => string[];
  /** Unsent events: buyers who converted in the past renew. */
  renewals: (count: number) => string[];
  /** Events of the past, which are in the event ledger. */
  duplicates: (count: number) => string[];
  /** Sends both servers this many requests of each kind. @throws Error when one is not answered as expected */
  warmUp: (count: number) => Promise<void>;
  /** How many rows the two databases hold. @throws Error when they differ */
  check: () => Promise<number>;
  /**
   * How many statements Tandem and the baseline run for the settings page, on SQLite, once both servers are stopped.
   *
   * @throws Error when they run different statements
   */
  checkStatements: () => Promise<number>;
  /** Stops both servers and keeps their databases. */
  stop: () => Promise<void>;
  /** Runs `doctor` on Tandem's database, which equals the other one. @throws Error when it finds anything */
  examine: () => Promise<void>;
  remove: () => Promise<void>;
}

/**
 * Starts both servers.
 *
 * @param size how many referrals have converted, and how many buyers can still pay, including those of the warm-up
 * @param profiles a folder for Tandem's CPU profile, or null
 */
export async function openField(
  engine: Engine,
  size: { past: number; buyers: number },
  profiles: string | null = null,
): Promise<Field> {
  const began = Math.floor(Date.now() / 1000);
  const at = began - 600;
  const { past, buyers } = size;
  const databases = await makeDatabases(engine, { past, buyers, at });
  if (profiles !== null) await mkdir(profiles, { recursive: true });
  const tandem = await startTandem(databases.tandem, profiles);
  const pages = scratchFolder();
  await copyPages(tandem.port, pages.folder);
  const baseline = await startBaseline(databases.baseline, pages.folder);
  pages.clear();
  let [converted, renewed] = [0, 0];

  const field: Field = {
    tandem,
    baseline,
    at,
    databases,
    conversions: (count) => {
      if (converted + count > buyers) throw new Error('Too few buyers were seeded.');
      return counted(count, () => conversion(`buyer${converted++}`, at));
    },
    renewals: (count) =>
      counted(count, () => {
        const [month, n] = [Math.floor(renewed / size.past) + 1, renewed % size.past];
        renewed += 1;
        return renewal(`past${n}`, at, month);
      }),
    duplicates: (count) => counted(count, (index) => conversion(`past${index % size.past}`, at)),
    warmUp: async (count) => {
      for (const kind of KINDS) {
        const shots = shotsFor(field, kind, count);
        for (const { port } of [tandem, baseline]) await fire(port, shots(), 16);
      }
    },
    check: () => compare(databases, new Date(began * 1000)),
    checkStatements: () => compareStatements(field),
    stop: async () => {
      await Promise.all([tandem.stop(), baseline.stop()]);
    },
    examine: () => examine(databases.tandem),
    remove: () => databases.remove(),
  };
  for (const shot of [SETTINGS_SHOT, PRICING_SHOT]) await comparePages(field, shot);
  return field;
}

function counted(count: number, make: (index: number) => string): string[] {
  return Array.from({ length: count }, (_, index) => make(index));
}

async function compareStatements({ databases }: Field): Promise<number> {
  const now = Math.floor(Date.now() / 1000);
  const work = readSettings(hashToken(SESSION_SECRET, READER.token), now, instantFor('sqlite'));
  const [asked = []] = await askedFor(databases.tandem, [SETTINGS_SHOT]);
  // The server also polls its outbox, whether or not a page is requested.
  const tandems = asked.map(({ sql }) => inShort(sql)).filter((statement) => !/ OutboxItem$/.test(statement));
  const baselines = askedByBaseline(databases.baseline, work).map(inShort);
  if (tandems.join() !== baselines.join()) {
    const lists = [tandems, baselines].map((list) => list.join('\n  ')).join('\nthe baseline:\n  ');
    throw new Error(
      `For the settings page Tandem and the baseline run different statements; change baseline-work.ts, or what runs them.\n` +
        `Tandem:\n  ${lists}`,
    );
  }
  return tandems.length;
}

/** What to send both servers in one round, signed at each call because signatures expire. */
export function shotsFor(field: Field, kind: Kind, count: number): () => Shot[] {
  const webhooks = (payloads: readonly string[], status: 'ok' | 'duplicate') => () =>
    payloads.map((payload) => webhook(payload, status));
  switch (kind) {
    case 'conversions':
      return webhooks(field.conversions(count), 'ok');
    case 'renewals':
      return webhooks(field.renewals(count), 'ok');
    case 'duplicates':
      return webhooks(field.duplicates(count), 'duplicate');
    case 'settings page':
      return () => Array<Shot>(count).fill(SETTINGS_SHOT);
    case 'pricing page':
      return () => Array<Shot>(count).fill(PRICING_SHOT);
  }
}

const VALUE_NAMES = [
  'email',
  'code',
  'periodEnd',
  'periodEndText',
  'creditDays',
  'invited',
  'converted',
  'activeCredits',
] as const satisfies readonly (keyof SettingsValues)[];

/** Where the reader's values are in the settings page. */
const VALUES = new RegExp(
  [
    `(?<email>${READER.email.replace('.', '\\.')})`,
    `(?<code>${READER.code})`,
    '(?<=Renews on <time datetime=")(?<periodEnd>[^"]+)',
    '(?<=Renews on <time datetime="[^"]+">)(?<periodEndText>[^<]+)',
    '(?<creditDays>\\d+)(?= days(?: of paid access</strong>| on your account))',
    ...['Invited', 'Converted', 'Active credits'].map(
      (label, index) =>
        `(?<=<dt>${label}</dt>\\s*<dd>\\s*<span class="stat-number">)` +
        `(?<${['invited', 'converted', 'activeCredits'][index] ?? ''}>\\d+)`,
    ),
  ].join('|'),
  'g',
);

/**
 * Writes Tandem's own pages to a folder for the baseline to send; the settings page is split where the reader's values
 * are.
 */
async function copyPages(port: number, folder: string): Promise<void> {
  const html = await pageOf(port, SETTINGS_SHOT);
  const parts: PageParts = [];
  let from = 0;
  for (const { index, groups, 0: text } of html.matchAll(VALUES)) {
    const found: Record<string, string | undefined> = { ...groups };
    const value = Object.keys(found).find((name) => found[name] !== undefined);
    parts.push(html.slice(from, index), {
      value: value as keyof SettingsValues,
    });
    from = index + text.length;
  }
  parts.push(html.slice(from));
  const values = parts.map((part) => (typeof part === 'string' ? null : part.value));
  for (const name of VALUE_NAMES) {
    if (!values.includes(name))
      throw new Error(`The settings page shows no ${name} where field.ts looks for it.`);
  }
  await writeFile(join(folder, 'settings.json'), JSON.stringify(parts));
  await writeFile(join(folder, 'pricing.html'), await pageOf(port, PRICING_SHOT));
}

async function comparePages({ tandem, baseline }: Field, shot: Shot): Promise<void> {
  const [ours, theirs] = [await pageOf(tandem.port, shot), await pageOf(baseline.port, shot)];
  if (ours === theirs) return;
  const [ourLines, theirLines] = [ours.split('\n'), theirs.split('\n')];
  const at = ourLines.findIndex((line, index) => line !== theirLines[index]);
  throw new Error(
    `Tandem and the baseline send different pages. Line ${at + 1} of Tandem's and of the baseline's:\n` +
      `${ourLines[at] ?? ''}\n${theirLines[at] ?? ''}`,
  );
}

async function pageOf(port: number, { bytes }: Shot): Promise<string> {
  const [line = '', ...fields] = bytes.toString().trim().split('\r\n');
  const cookie = fields.find((field) => field.startsWith('cookie: '))?.slice('cookie: '.length) ?? '';
  return (
    await fetch(`http://127.0.0.1:${port}${line.split(' ')[1] ?? ''}`, {
      headers: { cookie },
    })
  ).text();
}
