import { expect, test } from 'vitest';

import { readConfig } from '../src/config.ts';
import { openDatabase } from '../src/db/open.ts';
import { startMailServer } from './support/mail-server.ts';
import type { MailServer } from './support/mail-server.ts';
import { otherConnection } from './support/other-connection.ts';
import { fetchPatiently, runServer, until } from './support/process.ts';
import type { RunningServer } from './support/process.ts';
import { mailEnv } from './support/sender.ts';
import { newDatabase, signedPost, signUp, WEBHOOK_SECRET } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

/** A server process that sends mail, and a purchase that tells two people. */
async function selling(mailServer: MailServer) {
  const databaseUrl = await newDatabase();
  const env = {
    DATABASE_URL: databaseUrl,
    STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET,
    LOG_LEVEL: 'info',
    ...mailEnv(mailServer),
  };
  const { db } = await openDatabase(databaseUrl);
  const parts = { db, clock: { now: new Date() }, config: readConfig(env) };
  const ann = await signUp(parts, 'ann@example.com');
  const ben = await signUp(parts, 'ben@example.com', ann.code);
  await db.$disconnect();
  const other = await otherConnection({ databaseUrl });
  const stripe = buyer(ben.id);
  async function pay({ url }: RunningServer): Promise<void> {
    for (const event of [stripe.checkoutCompleted(), stripe.created()]) {
      const answer = await fetchPatiently(`${url}/api/stripe/webhook`, signedPost(event));
      expect(await answer.json()).toEqual({ status: 'ok' });
    }
  }
  const items = () => other.rows('SELECT * FROM "OutboxItem" ORDER BY "id"');
  return {
    pay,
    start: () => runServer(env),
    items,
    allDone: () => until(async () => (await items()).every(({ status }) => status === 'done') || undefined),
    /** As if the time of the lease had passed. */
    endLeases: () => other.run(`UPDATE "OutboxItem" SET "dueAt" = "createdAt" WHERE "status" = 'queued'`),
  };
}

const idsOf = ({ mails }: MailServer) => mails.map(({ headers }) => headers.get('message-id') ?? '').sort();

const wanted = (items: Record<string, unknown>[]) => items.map(({ id }) => `<${String(id)}@localhost>`);

test('killed between the commit and the email: it is sent after the next start', async () => {
  const mailServer = await startMailServer();
  mailServer.greet = () => new Promise(() => undefined);
  const { start, pay, items, allDone, endLeases } = await selling(mailServer);
  const server = await start();
  // The mail server hangs, and the webhook is answered.
  await pay(server);
  await until(() => Promise.resolve(mailServer.connections() === 2 || undefined));
  await server.stop('SIGKILL');
  expect(await items()).toMatchObject([{ status: 'queued' }, { status: 'queued' }]);

  mailServer.greet = () => Promise.resolve();
  await endLeases();
  const next = await start();
  await allDone();
  expect(idsOf(mailServer)).toEqual(wanted(await items()));
  expect(await next.stop()).toBe(0);
});

test('killed before a delivered mail is marked as sent: it is sent again, with the same Message-ID', async () => {
  const mailServer = await startMailServer();
  const { start, pay, items, allDone, endLeases } = await selling(mailServer);
  const server = await start();
  const had: string[] = [];
  mailServer.accept = (mail) => {
    had.push(mail.headers.get('message-id') ?? '');
    // It has the email; its answer never comes.
    return new Promise(() => undefined);
  };
  await pay(server);
  await until(() => Promise.resolve(had.length === 2 || undefined));
  await server.stop('SIGKILL');

  mailServer.accept = () => Promise.resolve(true);
  await endLeases();
  const next = await start();
  await allDone();
  expect(idsOf(mailServer)).toEqual(wanted(await items()));
  expect(had.sort()).toEqual(idsOf(mailServer));
  expect(await next.stop()).toBe(0);
  // No log names anybody.
  for (const { output } of [server, next]) expect(output.stdout + output.stderr).not.toContain('example.com');
});

test('stopped while the mail server hangs: the server exits in time, and nothing is lost', async () => {
  const mailServer = await startMailServer();
  mailServer.greet = () => new Promise(() => undefined);
  const { start, pay, items, allDone, endLeases } = await selling(mailServer);
  const server = await start();
  await pay(server);
  await until(() => Promise.resolve(mailServer.connections() === 2 || undefined));
  expect(await server.stop()).toBe(0);
  expect(server.output.stderr).toBe('');
  expect(await items()).toMatchObject([{ status: 'queued' }, { status: 'queued' }]);

  mailServer.greet = () => Promise.resolve();
  await endLeases();
  await start();
  await allDone();
  expect(idsOf(mailServer)).toEqual(wanted(await items()));
});

test('killed repeatedly while sending: every email arrives, and one that comes twice has one Message-ID', async () => {
  const mailServer = await startMailServer();
  const { start, pay, items, allDone, endLeases } = await selling(mailServer);
  let server = await start();
  await pay(server);
  for (let kills = 0; kills < 4; kills += 1) {
    const before = mailServer.connections();
    await until(async () => {
      const open = (await items()).some(({ status }) => status === 'queued');
      return mailServer.connections() > before || !open || undefined;
    });
    await server.stop('SIGKILL');
    await endLeases();
    server = await start();
  }
  await allDone();
  expect([...new Set(idsOf(mailServer))]).toEqual(wanted(await items()));
});
