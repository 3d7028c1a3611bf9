import { describe, expect, onTestFinished, test } from 'vitest';

import { forgetMailboxes } from '../src/accounts/mail-limit.ts';
import { openDatabase } from '../src/db/open.ts';
import { inTransaction } from '../src/db/transaction.ts';
import { queueNow } from '../src/outbox/queue.ts';
import { pauseAfter } from '../src/outbox/retries.ts';
import { smtpSender } from '../src/outbox/smtp.ts';
import { startMailServer } from './support/mail-server.ts';
import type { MailServer, MailServerOptions } from './support/mail-server.ts';
import { until } from './support/process.ts';
import { mailEnv, startTestSender } from './support/sender.ts';
import {
  deleteAccount,
  deliver,
  deliverAll,
  newDatabase,
  signUp,
  START,
  startTestServer,
} from './support/server.ts';
import type { TestServer } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

/** A server that sends its email through a mail server, and somebody who was invited. */
async function invitation(options: MailServerOptions & { env?: NodeJS.ProcessEnv } = {}) {
  const mailServer = await startMailServer(options);
  const server = await startTestServer(
    { ...mailEnv(mailServer), CONTACT_EMAIL: 'help@tandem.test', ...options.env },
    { now: new Date('2027-01-10T09:00:00Z') },
  );
  const ann = await signUp(server, 'ann@example.com');
  const ben = await signUp(server, 'ben@example.com', ann.code);
  const stripe = buyer(ben.id);
  /** Ben's first payment, which tells both. */
  const pay = (): Promise<void> => deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
  const items = () => server.db.outboxItem.findMany({ orderBy: { id: 'asc' } });
  return { mailServer, server, ann, ben, stripe, pay, items };
}

function pass(server: TestServer, seconds: number): void {
  server.clock.now = new Date(server.clock.now.getTime() + seconds * 1000);
}

/** Longer than any first pause, or than a lease. */
const A_WHILE = 600;

const idOf = (mail: MailServer['mails'][number]): string => mail.headers.get('message-id') ?? '';

test('a first payment tells both sides, once', async () => {
  const { mailServer, server, pay, items } = await invitation();
  const sender = await startTestSender(server);
  await pay();
  await sender.wake();
  expect(mailServer.mails.map(({ to }) => to).sort()).toEqual(['ann@example.com', 'ben@example.com']);
  for (const { headers, text, html } of mailServer.mails) {
    expect(headers.get('from')).toBe('Tandem <hello@tandem.test>');
    expect(headers.get('reply-to')).toBe('help@tandem.test');
    expect(headers.get('auto-submitted')).toBe('auto-generated');
    for (const part of [text, html]) expect(part).toContain('45 free days');
  }
  const queued = await items();
  expect(queued.map(({ id }) => `<${id}@tandem.test>`)).toEqual(mailServer.mails.map(idOf).sort());
  for (const item of queued) {
    expect(item).toMatchObject({ status: 'done', attempts: 1, address: null, error: null });
  }

  pass(server, A_WHILE);
  await sender.wake();
  expect(mailServer.mails).toHaveLength(2);
});

test('mail leaves after the commit that queued it, without being asked for (design: rule 12)', async () => {
  const { mailServer, server, pay } = await invitation();
  await startTestSender(server);
  await pay();
  await until(() => Promise.resolve(mailServer.mails.length === 2 || undefined));
});

test('without SMTP_URL nothing is queued', async () => {
  const { pay, items } = await invitation({ env: { SMTP_URL: '', MAIL_FROM: '' } });
  await pay();
  expect(await items()).toEqual([]);
});

/** Sends one email to ann@example.com, by a sender of its own. */
async function sendOne(server: TestServer) {
  const { id } = await signUp(server, 'ann@example.com');
  const sender = await startTestSender(server);
  await inTransaction(server.db, server.clock.now, (tx) =>
    queueNow(tx, [{ kind: 'mail.password-changed', userId: id, data: null }]),
  );
  await sender.wake();
  return sender;
}

describe('a mail server (design: rule 12)', () => {
  test.each<[string, MailServerOptions]>([
    ['in plain text', {}],
    ['in plain text with a login', { login: { user: 'tandem', password: 'p@ss word/1' } }],
    ['over TLS', { secure: true }],
    ['over TLS with a login', { secure: true, login: { user: 'tandem', password: 'p@ss word/1' } }],
    ['over STARTTLS', { startTls: true }],
  ])('gets mail %s', async (_how, options) => {
    const { login } = options;
    const mailServer = await startMailServer(options);
    const url = new URL(mailServer.url);
    const credentials = login ? `${login.user}:${encodeURIComponent(login.password)}@` : '';
    // Its certificate is self-signed.
    const smtpUrl = `${url.protocol}//${credentials}${url.host}?tls.rejectUnauthorized=false`;
    const server = await startTestServer({ ...mailEnv(mailServer), SMTP_URL: smtpUrl });
    await sendOne(server);
    expect(mailServer.mails).toMatchObject([
      {
        to: 'ann@example.com',
        secure: options.secure === true || options.startTls === true,
        user: login?.user ?? null,
      },
    ]);
  });

  test('whose certificate is self-signed gets no mail', async () => {
    const { mailServer, server, pay, items } = await invitation({ secure: true });
    const sender = await startTestSender(server);
    await pay();
    await sender.wake();
    expect(mailServer.mails).toEqual([]);
    const failed = { status: 'queued', error: 'The connection to the mail server failed: ESOCKET.' };
    expect(await items()).toMatchObject([failed, failed]);
  });

  test('that refuses the login gets no mail, and the password is not stored or logged', async () => {
    const mailServer = await startMailServer({ login: { user: 'tandem', password: 'right' } });
    const smtpUrl = mailServer.url.replace('://', '://tandem:wrong@');
    const server = await startTestServer({ ...mailEnv(mailServer), SMTP_URL: smtpUrl });
    const sender = await sendOne(server);
    expect(await server.db.outboxItem.findMany()).toMatchObject([
      { status: 'queued', attempts: 1, error: 'The mail server refused AUTH PLAIN: 535.' },
    ]);
    expect(sender.log).toEqual([]);
  });

  test('that does not answer is tried again after a while, and gets the same Message-ID', async () => {
    const { mailServer, server, pay, items } = await invitation();
    const sender = await startTestSender(server);
    await mailServer.stop();
    await pay();
    await sender.wake();
    const failed = await items();
    for (const { status, attempts, error } of failed) {
      expect({ status, attempts, error }).toEqual({
        status: 'queued',
        attempts: 1,
        error: 'The connection to the mail server failed: ESOCKET.',
      });
    }

    const back = await startMailServer({ port: mailServer.port });
    await sender.wake();
    expect(back.mails).toEqual([]);
    pass(server, A_WHILE);
    await sender.wake();
    expect(back.mails.map(idOf).sort()).toEqual(failed.map(({ id }) => `<${id}@tandem.test>`));
  });

  test('that greylists gets the email on a later attempt', async () => {
    const { mailServer, server, pay, items } = await invitation();
    const seen = new Set<string>();
    mailServer.refuse = (address) => {
      if (seen.has(address)) return null;
      seen.add(address);
      return { code: 450, text: `4.2.0 <${address}>: greylisted, see http://example.com/` };
    };
    const sender = await startTestSender(server);
    await pay();
    await sender.wake();
    for (const { status, error } of await items()) {
      expect({ status, error }).toEqual({
        status: 'queued',
        error: 'The mail server refused the recipient: 450 4.2.0.',
      });
    }
    pass(server, A_WHILE);
    await sender.wake();
    expect(mailServer.mails).toHaveLength(2);
    expect(await items()).toMatchObject([
      { status: 'done', attempts: 2, error: null },
      { status: 'done', attempts: 2, error: null },
    ]);
  });

  test('that refuses one recipient for good fails that mail at once, and takes the other', async () => {
    const { mailServer, server, ann, pay, items } = await invitation();
    mailServer.refuse = (address) =>
      address === ann.email ? { code: 550, text: `5.1.1 <${address}>: no such user ann` } : null;
    const sender = await startTestSender(server);
    await pay();
    await sender.wake();
    expect(mailServer.mails.map(({ to }) => to)).toEqual(['ben@example.com']);
    const failed = (await items()).filter(({ status }) => status === 'failed');
    expect(failed).toMatchObject([
      {
        userId: ann.id,
        attempts: 1,
        address: null,
        error: 'The mail server refused the recipient: 550 5.1.1.',
      },
    ]);
    // Nothing that is kept or logged names anybody.
    expect(JSON.stringify([await items(), sender.log])).not.toContain('example.com');
  });

  test('that refuses everybody is not asked again', async () => {
    const { mailServer, server, pay, items } = await invitation();
    mailServer.refuse = () => ({ code: 554, text: 'go away' });
    const sender = await startTestSender(server);
    await pay();
    await sender.wake();
    pass(server, 7 * 86_400);
    await sender.wake();
    expect(mailServer.connections()).toBe(2);
    expect(await items()).toMatchObject([{ status: 'failed' }, { status: 'failed' }]);
  });

  test('that breaks off in the middle is tried again; an email that it may have had comes with the same Message-ID', async () => {
    const { mailServer, server, pay, items } = await invitation();
    const had = new Set<string>();
    let isUp = false;
    mailServer.accept = (mail) => {
      had.add(idOf(mail));
      return Promise.resolve(isUp);
    };
    const sender = await startTestSender(server);
    await pay();
    await sender.wake();
    expect(had.size).toBeGreaterThan(0);
    expect(mailServer.mails).toEqual([]);
    isUp = true;
    pass(server, A_WHILE);
    await sender.wake();
    expect(mailServer.mails.map(idOf).sort()).toEqual((await items()).map(({ id }) => `<${id}@tandem.test>`));
    expect(had.size).toBe(2);
  });

  test('that hangs holds up neither the webhook nor the end of the server', async () => {
    const { mailServer, server, stripe, pay, items } = await invitation();
    mailServer.greet = () => new Promise(() => undefined);
    const sender = await startTestSender(server);
    await pay();
    await until(() => Promise.resolve(mailServer.connections() === 2 || undefined));
    expect((await deliver(server, stripe.invoicePaid())).json()).toEqual({ status: 'ok' });
    await sender.close();
    // Nobody knows what became of them: they are due again when their lease is over.
    for (const item of await items()) expect(item).toMatchObject({ status: 'queued', attempts: 0 });

    mailServer.greet = () => Promise.resolve();
    const next = await startTestSender(server);
    await next.wake();
    expect(mailServer.mails).toEqual([]);
    pass(server, A_WHILE);
    await next.wake();
    expect(mailServer.mails).toHaveLength(2);
  });

  test('that hangs is abandoned after a while', async () => {
    const { mailServer, server, pay, items } = await invitation();
    mailServer.greet = () => new Promise(() => undefined);
    const sender = await startTestSender(server, 50);
    await pay();
    await sender.wake();
    const failed = { status: 'queued', error: 'The connection to the mail server failed: ETIMEDOUT.' };
    expect(await items()).toMatchObject([failed, failed]);
  });
});

test('an email that no server accepts is tried for three days, in growing pauses, and then kept as failed', async () => {
  const { mailServer, server, pay, items } = await invitation();
  mailServer.refuse = () => ({ code: 451, text: '4.3.0 try again' });
  const sender = await startTestSender(server);
  await pay();
  const pauses: number[] = [];
  const waiting = async () => (await items()).filter(({ status }) => status === 'queued');
  for (let [item] = await waiting(); item; [item] = await waiting()) {
    const since = server.clock.now;
    await sender.wake();
    const due = (await items()).map(({ dueAt }) => dueAt.getTime());
    server.clock.now = new Date(Math.max(...due));
    pauses.push((server.clock.now.getTime() - since.getTime()) / 1000);
  }
  const days = pauses.reduce((sum, pause) => sum + pause, 0) / 86_400;
  expect(days).toBeGreaterThan(2.9);
  expect(days).toBeLessThan(4);
  expect(await items()).toMatchObject([{ status: 'failed' }, { status: 'failed' }]);
  for (const { attempts } of await items()) expect(attempts).toBe(14);
});

test('pauses grow, and what failed together is not tried again together', () => {
  const [first, second, third] = [1, 2, 3].map((failures) => pauseAfter(failures, 0));
  expect([first, second, third]).toEqual([60, 300, 900]);
  expect(pauseAfter(1, 1)).toBe(72);
  expect(pauseAfter(14, 0)).toBeNull();
});

test('many emails leave a few at a time', async () => {
  const { mailServer, server } = await invitation();
  let open = 0;
  let most = 0;
  mailServer.accept = async () => {
    open += 1;
    most = Math.max(most, open);
    await new Promise(setImmediate);
    open -= 1;
    return true;
  };
  const sender = await startTestSender(server);
  const { id } = await signUp(server, 'carl@example.com');
  await server.db.user.update({ where: { id }, data: { emailProvenAt: server.clock.now } });
  await inTransaction(server.db, server.clock.now, (tx) =>
    queueNow(
      tx,
      Array.from({ length: 40 }, () => ({ kind: 'mail.password-changed', userId: id, data: null }) as const),
    ),
  );
  await sender.wake();
  expect(new Set(mailServer.mails.map(idOf)).size).toBe(40);
  expect(most).toBeLessThanOrEqual(5);
});

/** Somebody with an unproven address, to whom emails that nobody asked for can be queued. Three a day are sent. */
async function unproven() {
  const databaseUrl = await newDatabase();
  const { mailServer, server, ann } = await invitation({ env: { DATABASE_URL: databaseUrl } });
  const sender = await startTestSender(server);
  await sender.wake();
  const work = { kind: 'mail.password-changed', userId: ann.id, data: null } as const;
  const queue = (count: number) =>
    inTransaction(server.db, server.clock.now, (tx) =>
      queueNow(
        tx,
        Array.from({ length: count }, () => work),
      ),
    );
  const sent = () => mailServer.mails.filter(({ to }) => to === 'ann@example.com').length;
  /** Lets half an hour pass, so that all emails that wait or are tried again come to an end. */
  const end = async (): Promise<void> => {
    for (let minutes = 0; minutes < 30; minutes += 1) {
      await sender.wake();
      pass(server, 60);
    }
  };
  return { mailServer, server, ann, databaseUrl, sender, queue, sent, end };
}

test('of two emails that could be the last of the day, the older one goes out and the younger one is dropped', async () => {
  const { mailServer, server, sender, queue, sent, end } = await unproven();
  await queue(2);
  await sender.wake();
  mailServer.refuse = () => ({ code: 451, text: '4.3.0 later' });
  pass(server, 10);
  await queue(1);
  await sender.wake();
  mailServer.refuse = () => null;
  pass(server, 10);
  await queue(1);
  await end();
  const ended = await server.db.outboxItem.findMany({
    where: { kind: 'mail.password-changed' },
    orderBy: { createdAt: 'asc' },
  });
  expect(ended.map(({ status }) => status)).toEqual(['done', 'done', 'done', 'dropped']);
  expect(sent()).toBe(3);
});

test('an email that waits for another one is sent when that one fails for good', async () => {
  const { mailServer, server, sender, queue, sent, end } = await unproven();
  await queue(2);
  await sender.wake();
  mailServer.refuse = () => ({ code: 451, text: '4.3.0 later' });
  await queue(1);
  await sender.wake();
  await queue(1);
  await sender.wake();
  expect(sent()).toBe(2);
  mailServer.refuse = () => ({ code: 550, text: '5.1.1 unknown' });
  pass(server, 70);
  await sender.wake();
  mailServer.refuse = () => null;
  await end();
  expect(sent()).toBe(3);
});

test('emails to an unproven address keep to its daily limit, even if two servers send several at the same time', async () => {
  const { mailServer, server, databaseUrl, sender, queue, sent, end } = await unproven();
  const { db } = await openDatabase(databaseUrl);
  onTestFinished(() => db.$disconnect());
  const another = await startTestSender({ ...server, db });
  // The mail server accepts none until three have arrived, so the servers decide while others are still in flight.
  let arrived = 0;
  mailServer.accept = async () => {
    arrived += 1;
    await until(() => Promise.resolve(arrived >= 3 || undefined));
    return true;
  };
  await queue(8);
  await Promise.all([sender.wake(), another.wake()]);
  await end();
  expect(sent()).toBe(3);
  expect(await server.db.outboxItem.count({ where: { kind: 'mail.password-changed', status: 'done' } })).toBe(
    3,
  );
});

test('the emails of a day count even if the account is deleted and another one gets the address', async () => {
  const { server, ann, sender, queue, sent } = await unproven();
  await queue(2);
  await sender.wake();
  expect((await deleteAccount(server, ann)).statusCode).toBe(303);
  await sender.wake();
  expect(sent()).toBe(3);
  const { id: userId } = await signUp(server, 'ann@example.com');
  const another = () =>
    inTransaction(server.db, server.clock.now, (tx) =>
      queueNow(tx, [{ kind: 'mail.password-changed', userId, data: null }]),
    );
  await another();
  await sender.wake();
  expect(sent()).toBe(3);
  pass(server, 86_401);
  await another();
  await sender.wake();
  expect(sent()).toBe(4);
});

test('the mailbox of an email is forgotten a day after it was sent', async () => {
  const { server, sender, queue } = await unproven();
  await queue(2);
  await sender.wake();
  const mailboxes = () => server.db.outboxItem.count({ where: { mailbox: { not: null } } });
  expect(await mailboxes()).toBe(2);
  await forgetMailboxes(server.db, new Date(server.clock.now.getTime() + 86_000_000));
  expect(await mailboxes()).toBe(2);
  await forgetMailboxes(server.db, new Date(server.clock.now.getTime() + 86_402_000));
  expect(await mailboxes()).toBe(0);
});

test('two servers send each email once', async () => {
  const mailServer = await startMailServer();
  const databaseUrl = await newDatabase();
  const server = await startTestServer({ ...mailEnv(mailServer), DATABASE_URL: databaseUrl });
  const { db } = await openDatabase(databaseUrl);
  onTestFinished(() => db.$disconnect());
  const senders = [await startTestSender(server), await startTestSender({ ...server, db })];
  const { id } = await signUp(server, 'ann@example.com');
  await server.db.user.update({ where: { id }, data: { emailProvenAt: server.clock.now } });
  await inTransaction(server.db, server.clock.now, (tx) =>
    queueNow(
      tx,
      Array.from({ length: 40 }, () => ({ kind: 'mail.password-changed', userId: id, data: null }) as const),
    ),
  );
  await Promise.all(senders.map((sender) => sender.wake()));
  expect(mailServer.mails).toHaveLength(40);
  expect(new Set(mailServer.mails.map(idOf)).size).toBe(40);
});

test.each([
  ['other accounts of the same mailbox', (n: number) => ({ email: `ann+${n}@example.com` })],
  ['deleted accounts', () => ({ email: null, emailHash: '', passwordHash: null, deletedAt: START })],
])(
  'an email to an unproven account and the last email to a deleted one are sent, however many %s there are',
  async (_what, of) => {
    const mailServer = await startMailServer();
    const server = await startTestServer(mailEnv(mailServer));
    const sender = await startTestSender(server);
    const [ann, gone] = [await signUp(server, 'ann@example.com'), await signUp(server, 'gone@example.com')];
    const { emailHash } = await server.db.user.findUniqueOrThrow({ where: { id: ann.id } });
    const createdAt = server.clock.now;
    const more = Array.from({ length: 1_100 }, (_, n) => ({
      ...{ id: `more-${n}`, code: `CODE${n}`, tier: 'free', creditEntryCount: 0, emailHash },
      ...{ passwordHash: '', createdAt, emailSetAt: createdAt },
      ...of(n),
    }));
    await server.db.user.createMany({ data: more });
    expect((await deleteAccount(server, gone)).statusCode).toBe(303);
    await inTransaction(server.db, createdAt, (tx) =>
      queueNow(tx, [{ kind: 'mail.password-changed', userId: ann.id, data: null }]),
    );
    await sender.wake();
    const states = await server.db.outboxItem.findMany({ select: { kind: true, status: true } });
    expect(states.map(({ kind, status }) => `${kind} ${status}`).sort()).toEqual([
      'mail.account-deleted done',
      'mail.password-changed done',
    ]);
  },
);

test('a line break in a subject adds no header', async () => {
  const mailServer = await startMailServer();
  const send = await smtpSender(mailServer.url, 'https://tandem.test');
  const mail = {
    messageId: '<1@tandem.test>',
    from: 'hello@tandem.test',
    to: 'ann@example.com',
    replyTo: null,
    subject: 'A line\r\nBcc: everybody@example.com',
    text: 'text',
    html: '<p>html</p>',
    unsubscribe: null,
  };
  expect(await send(mail, new AbortController().signal)).toEqual({ status: 'done' });
  expect(mailServer.mails[0]?.headers.has('bcc')).toBe(false);
  expect(mailServer.mails[0]?.headers.has('list-unsubscribe')).toBe(false);
});
