import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { checkConfig, VARIABLE_NAMES } from '../src/config.ts';
import { emptyFolder, runCli, runCliProcess } from './support/process.ts';
import { SESSION_SECRET } from './support/server.ts';

/** There is no database here, and the command creates none. */
const DATABASE_URL = 'file:/dev/null/x/tandem.db';

const PRODUCTION = {
  NODE_ENV: 'production',
  DATABASE_URL,
  PUBLIC_URL: 'https://tandem.test',
  SESSION_SECRET,
  STRIPE_API_KEY: 'sk_live_hidden',
  STRIPE_WEBHOOK_SECRET: 'whsec_hidden,whsec_hidden2',
  STRIPE_PRICE_MONTHLY: 'price_m',
  STRIPE_PRICE_ANNUAL: 'price_a',
  TRUST_PROXY: '127.0.0.1',
  SMTP_URL: 'smtps://hidden:hidden@mail.tandem.test',
  MAIL_FROM: 'hello@tandem.test',
  OPERATOR_EMAIL: '',
};

interface Told {
  name: string;
  set: boolean;
  from: string | null;
  value: string | null;
  effect: string;
  problem: string | null;
  warning: string | null;
}

async function told(
  env: { DATABASE_URL: string } & Record<string, string>,
  fromFile?: ReadonlySet<string>,
): Promise<{ code: number | null; starts: boolean; of: (name: string) => Told }> {
  const { code, stdout, stderr } = await runCli(['check-config', '--json'], env, fromFile);
  expect(stderr).toBe('');
  const { starts, variables } = JSON.parse(stdout) as { starts: boolean; variables: Told[] };
  expect(variables.map(({ name }) => name)).toEqual(VARIABLE_NAMES);
  const of = (name: string): Told => {
    const found = variables.find((variable) => variable.name === name);
    if (!found) throw new Error(`${name} is missing from the output.`);
    return found;
  };
  return { code, starts, of };
}

test('check-config accepts a valid production configuration with exit code 0 and says where each variable comes from and what it does', async () => {
  const { code, starts, of } = await told(PRODUCTION, new Set(['PUBLIC_URL']));
  expect({ code, starts }).toEqual({ code: 0, starts: true });
  for (const name of VARIABLE_NAMES) {
    expect(of(name)).toMatchObject({ problem: null, warning: null });
    expect(of(name).effect).toMatch(/^[A-Z].*\.$/);
  }
  expect(of('PUBLIC_URL')).toMatchObject({ set: true, from: '.env', value: 'https://tandem.test' });
  expect(of('STRIPE_PRICE_MONTHLY')).toMatchObject({ set: true, from: 'environment', value: 'price_m' });
  expect(of('PORT')).toMatchObject({ set: false, from: 'default', value: '3000' });
  expect(of('BRAND')).toMatchObject({ set: false, from: 'default', value: 'Tandem' });
  expect(of('STRIPE_PRODUCTS')).toMatchObject({ set: false, from: null, value: null });
  expect(of('STRIPE_WEBHOOK_SECRET').effect).toContain('any of these 2 secrets');
});

test('check-config shows no secret, no password in DATABASE_URL or PUBLIC_URL, and no Stripe key in HOST, BRAND or a price', async () => {
  const secrets = ['hidden', PRODUCTION.SESSION_SECRET, 'pass-word'];
  for (const env of [
    PRODUCTION,
    { ...PRODUCTION, DATABASE_URL: 'postgresql://ann:pass-word@db.test:5432/tandem?password=pass-word' },
    { ...PRODUCTION, DATABASE_URL: 'postgres//ann:pass-word@db.test/tandem' },
    { ...PRODUCTION, PUBLIC_URL: 'https://ann:pass-word@tandem.test' },
    { ...PRODUCTION, STRIPE_API_KEY: 'hidden' },
    {
      ...PRODUCTION,
      HOST: 'sk_live_hidden',
      BRAND: 'sk_live_hidden',
      STRIPE_PRICE_MONTHLY: 'sk_live_hidden',
    },
    { ...PRODUCTION, SESSION_SECRET: 'hidden' },
  ]) {
    for (const args of [['check-config'], ['check-config', '--json']]) {
      const { stdout } = await runCli(args, env);
      for (const secret of secrets) expect(stdout).not.toContain(secret);
    }
  }
  const { of } = await told({
    ...PRODUCTION,
    DATABASE_URL: 'postgresql://ann:pass-word@db.test:5432/tandem?sslmode=require',
  });
  expect(of('DATABASE_URL').value).toBe('postgresql://ann@db.test:5432/tandem');
});

test('check-config lists everything that is wrong at once, and exits with 1', async () => {
  const env = {
    DATABASE_URL,
    NODE_ENV: 'Production',
    PORT: 'http',
    STRIPE_API_KEY: 'pk_live_1',
    SESSION_SECRET: 'x'.repeat(40),
    STRIPE_API_BASE: 'http://127.0.0.1:1',
    TRUST_PROXY: '0.0.0.0/0',
  };
  const { code, starts, of } = await told(env);
  expect({ code, starts }).toEqual({ code: 1, starts: false });
  const wrong = VARIABLE_NAMES.filter((name) => of(name).problem !== null);
  expect(wrong).toEqual([
    'NODE_ENV',
    'PORT',
    'PUBLIC_URL',
    'STRIPE_API_KEY',
    'STRIPE_WEBHOOK_SECRET',
    'STRIPE_PRICE_MONTHLY',
    'STRIPE_PRICE_ANNUAL',
    'STRIPE_API_BASE',
    'SESSION_SECRET',
    'TRUST_PROXY',
  ]);
  for (const name of wrong) expect(of(name).problem).toMatch(new RegExp(`^${name} [^\\n]+\\.$`));

  const { code: inWords, stdout } = await runCli(['check-config'], env);
  expect(inWords).toBe(1);
  expect(stdout.match(/Problem: /g)).toHaveLength(wrong.length);
  expect(stdout).toContain('The server would not start: 10 problems.');
});

test.each<[name: string, env: Record<string, string>]>([
  ['PUBLIC_URL', { ...PRODUCTION, PUBLIC_URL: 'http://tandem.test' }],
  ['HOST', { HOST: '0.0.0.0' }],
  ['STRIPE_API_KEY', { ...PRODUCTION, STRIPE_API_KEY: 'sk_test_1' }],
  ['TRUST_PROXY', { ...PRODUCTION, TRUST_PROXY: '' }],
  ['SMTP_URL', { ...PRODUCTION, SMTP_URL: '' }],
  ['OPERATOR_EMAIL', { ...PRODUCTION, NODE_ENV: '', SMTP_URL: '', OPERATOR_EMAIL: 'ops@tandem.test' }],
  ['STRIPE_WEBHOOK_SECRET', { ...PRODUCTION, NODE_ENV: '', STRIPE_WEBHOOK_SECRET: '' }],
  ['STRIPE_PRICE_ANNUAL', { ...PRODUCTION, NODE_ENV: '', STRIPE_PRICE_ANNUAL: '' }],
  ['STRIPE_API_KEY', { ...PRODUCTION, NODE_ENV: '', STRIPE_API_KEY: '' }],
])(
  'check-config only warns of an incomplete configuration that can start, and exits with 0: %s',
  async (name, env) => {
    const { code, of } = await told({ DATABASE_URL, ...env });
    expect(code).toBe(0);
    expect(of(name).warning).toMatch(new RegExp(`^${name} is (not|a test key)`));
    expect(checkConfig(env).warnings).toHaveLength(1);
  },
);

test.each<[name: string, env: Record<string, string>]>([
  ['MAIL_FROM', { ...PRODUCTION, MAIL_FROM: '', OPERATOR_EMAIL: 'ops@tandem.test' }],
  ['TRUST_PROXY', { ...PRODUCTION, TRUST_PROXY: '1' }],
  ['STRIPE_API_KEY', { ...PRODUCTION, NODE_ENV: '', STRIPE_API_KEY: 'key' }],
])('nothing is said to be missing because %s is wrong', async (name, env) => {
  const { of } = await told({ DATABASE_URL, ...env });
  expect(of(name)).toMatchObject({
    warning: null,
    effect: 'The server does not start.',
    // MAIL_FROM is set here, to nothing; the others to something wrong. None of them has a default.
    value: null,
  });
  expect(of(name).problem).not.toBeNull();
  expect(checkConfig(env).warnings).toEqual([]);
});

test('check-config says that the sandbox is on', async () => {
  const { code, of } = await told({ DATABASE_URL });
  expect(code).toBe(0);
  expect(of('STRIPE_API_KEY').effect).toMatch(/^The sandbox is on/);
});

test('as a process, check-config tells .env and the environment apart, and creates nothing', async () => {
  const folder = await emptyFolder();
  await writeFile(join(folder, '.env'), 'HOST=127.0.0.2\nPORT=4000\n');
  const { code, stdout } = await runCliProcess(['check-config', '--json'], { PORT: '5000' }, folder);
  expect(code).toBe(0);
  const { variables } = JSON.parse(stdout) as { variables: Told[] };
  expect(variables.find(({ name }) => name === 'HOST')).toMatchObject({ from: '.env', value: '127.0.0.2' });
  expect(variables.find(({ name }) => name === 'PORT')).toMatchObject({ from: 'environment', value: '5000' });
  expect(await readdir(folder)).toEqual(['.env']);
});
