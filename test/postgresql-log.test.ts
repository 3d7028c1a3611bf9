import { afterAll, beforeAll, expect, test } from 'vitest';

import { askFor, MAIL, provePath } from './support/mail.ts';
import { asAdministrator, databaseOn } from './support/postgresql-databases.ts';
import { startPostgresql } from './support/postgresql-server.ts';
import type { PostgresqlServer } from './support/postgresql-server.ts';
import { until } from './support/process.ts';
import { race } from './support/race-point.ts';
import { PASSWORD, postForm, signUp, startTestServer } from './support/server.ts';

const WANTED = 'wanted@example.com';

let postgresql: PostgresqlServer;
beforeAll(async () => {
  postgresql = await startPostgresql({ flags: ['-c', 'fsync=off'] });
});
afterAll(() => postgresql.stop());

test.each(['signs up with it', 'changes their address to it', 'proves it'])(
  'somebody signs up with an address while another %s: PostgreSQL logs no address',
  async (what) => {
    const name = `tandem_${what.replaceAll(' ', '_')}`;
    await asAdministrator(postgresql.url, `CREATE DATABASE ${name}`);
    const env = { DATABASE_URL: databaseOn(postgresql.url, name) };
    const server = await startTestServer(env);
    const withMail = await startTestServer({ ...env, ...MAIL }, server.clock);
    const ann = await signUp(server, 'ann@example.com');

    const signingUp = () => postForm(server.app, '/signup', { email: WANTED, password: 'a new password' });
    const change = { email: WANTED, currentPassword: PASSWORD };
    const ways: Record<string, () => ReturnType<typeof postForm>> = {
      'signs up with it': signingUp,
      'changes their address to it': () => postForm(server.app, '/settings/address', change, ann.cookie),
      'proves it': async () => {
        await askFor(withMail, ann, WANTED);
        return postForm(withMail.app, await provePath(withMail, ann), {}, ann.cookie);
      },
    };
    await race(server, signingUp, ['INSERT', 'Session'], ways[what] ?? signingUp);

    await asAdministrator(postgresql.url, `DO $$ BEGIN RAISE LOG 'after ${name}'; END $$`);
    await until(() => Promise.resolve(postgresql.log().includes(`after ${name}`) || undefined));
    expect(postgresql.log()).not.toContain('@example.com');
  },
);
