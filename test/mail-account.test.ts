import { expect, test } from 'vitest';

import { startMailServer } from './support/mail-server.ts';
import { until } from './support/process.ts';
import { mailEnv, startTestSender } from './support/sender.ts';
import { cookiesOf, PASSWORD, postForm, startTestServer } from './support/server.ts';

/** A server that sends mail, and Ann, who has signed up there. */
async function signedUp() {
  const mailServer = await startMailServer();
  const server = await startTestServer(mailEnv(mailServer));
  const sender = await startTestSender(server);
  const form = { email: 'ann@example.com', password: PASSWORD };
  const cookie = cookiesOf(await postForm(server.app, '/signup', form));
  let seen = 0;
  /** The emails that have left since the last look. */
  async function newMails() {
    await sender.wake();
    const mails = mailServer.mails.slice(seen);
    seen += mails.length;
    return mails;
  }
  const path = (text: string, route: string): string =>
    new RegExp(`http://tandem\\.test(/${route}/\\S+)`).exec(text)?.[1] ?? '';
  return { mailServer, server, sender, cookie, newMails, path };
}

test('the link in the email after a sign-up proves the address', async () => {
  const { mailServer, server, sender, cookie, path } = await signedUp();
  await sender.wake();
  expect(mailServer.mails.map(({ to }) => to)).toEqual(['ann@example.com']);
  const link = path(mailServer.mails[0]?.text ?? '', 'verify');
  expect(mailServer.mails[0]?.html).toContain(`href="http://tandem.test${link}"`);
  expect((await postForm(server.app, link, {})).statusCode).toBe(200);
  const me = await server.app.inject({ url: '/api/me', headers: { cookie } });
  expect(me.json()).toMatchObject({ emailProven: true });
});

test('the link in a reset mail sets a new password; a link that was replaced is not mailed', async () => {
  const { mailServer, server, sender, path } = await signedUp();
  await sender.wake();
  await sender.close();
  // For an unproven address, a waiting email would not be replaced.
  await server.db.user.updateMany({ data: { emailProvenAt: server.clock.now } });
  for (let asked = 0; asked < 2; asked += 1) {
    await postForm(server.app, '/forgot', { email: 'ann@example.com' });
    // The answer does not wait for it.
    await until(async () => (await server.db.outboxItem.count()) === asked + 2 || undefined);
  }
  mailServer.mails.splice(0);
  await (await startTestSender(server)).wake();
  expect(mailServer.mails.map(({ headers }) => headers.get('subject'))).toEqual([
    'Reset your Tandem password',
  ]);
  expect(
    await server.db.outboxItem.findMany({ where: { status: 'dropped' }, select: { error: true } }),
  ).toEqual([{ error: 'Its link no longer works.' }]);

  const link = path(mailServer.mails[0]?.text ?? '', 'reset');
  const answer = await postForm(server.app, link, { password: 'a new password' });
  expect(answer.statusCode).toBe(303);
});

test('a change of address takes effect when the new one is proven, and the old one is told', async () => {
  const { mailServer, server, cookie, newMails, path } = await signedUp();
  await postForm(server.app, path((await newMails())[0]?.text ?? '', 'verify'), {});
  await postForm(
    server.app,
    '/settings/address',
    { email: 'new@example.com', currentPassword: PASSWORD },
    cookie,
  );
  const asked = await newMails();
  expect(asked.map(({ to, headers }) => `${to}: ${headers.get('subject') ?? ''}`).sort()).toEqual([
    'ann@example.com: Your Tandem address is about to change',
    'new@example.com: Confirm your new address for Tandem',
  ]);
  // Neither tells the other address.
  for (const { to, text, html } of asked) {
    expect(text + html).not.toContain(to === 'ann@example.com' ? 'new@example.com' : 'ann@example.com');
  }

  const link = path(asked.find(({ to }) => to === 'new@example.com')?.text ?? '', 'verify');
  expect((await postForm(server.app, link, {}, cookie)).statusCode).toBe(303);
  const changed = await newMails();
  expect(changed.map(({ to, headers }) => `${to}: ${headers.get('subject') ?? ''}`)).toEqual([
    'ann@example.com: Your Tandem address was changed',
  ]);
  expect(mailServer.mails.every(({ headers }) => !headers.has('list-unsubscribe'))).toBe(true);
});

test('one click on the link of an email about days turns such mail off', async () => {
  const { server, newMails } = await signedUp();
  await newMails();
  const ann = await server.db.user.findUniqueOrThrow({ where: { email: 'ann@example.com' } });
  const row = { kind: 'mail.days-running', userId: ann.id, data: 'null', status: 'queued' };
  const due = { ...row, createdAt: server.clock.now, dueAt: server.clock.now };
  await server.db.user.update({
    where: { id: ann.id },
    data: { creditUntil: new Date(server.clock.now.getTime() + 86_400_000) },
  });
  await server.db.outboxItem.create({ data: { ...due, id: 'first' } });
  const [mail] = await newMails();
  expect(mail?.headers.get('list-unsubscribe-post')).toBe('List-Unsubscribe=One-Click');
  const url = /^<http:\/\/tandem\.test(.+)>$/.exec(mail?.headers.get('list-unsubscribe') ?? '')?.[1] ?? '';
  expect(mail?.text).toContain(url);

  // As the reader's mail provider does it: https://www.rfc-editor.org/rfc/rfc8058#section-3.2
  const answer = await server.app.inject({
    method: 'POST',
    url,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    payload: 'List-Unsubscribe=One-Click',
  });
  expect(answer.statusCode).toBe(200);
  await server.db.outboxItem.create({ data: { ...due, id: 'second' } });
  expect(await newMails()).toEqual([]);
  expect(await server.db.outboxItem.findUnique({ where: { id: 'second' } })).toMatchObject({
    status: 'dropped',
    error: 'The owner of the account has turned such mail off.',
  });
});

test.each([
  ['moved to another address', true],
  ['was deleted', false],
])(
  'a reset link not yet mailed when its account %s still goes to the address it was asked for, and works for whoever signs up with it next',
  async (_what, moves) => {
    const { mailServer, server, sender, cookie, newMails, path } = await signedUp();
    const { app } = server;
    await newMails();
    const fields = { email: 'own@example.com', currentPassword: PASSWORD };
    if (moves) await postForm(app, '/settings/address', fields, cookie);
    const proof = path((await newMails()).find(({ to }) => to === 'own@example.com')?.text ?? '', 'verify');
    await sender.close();
    await postForm(app, '/forgot', { email: 'ann@example.com' });
    const reset = { where: { kind: 'mail.reset-password' } };
    await until(async () => (await server.db.outboxItem.count(reset)) === 1 || undefined);
    if (moves) await postForm(app, proof, {}, cookie);
    else await postForm(app, '/settings/delete', fields, cookie);
    // The owner of the address signs up with it.
    await postForm(app, '/signup', { email: 'ann@example.com', password: 'the owner’s password' });

    mailServer.mails.splice(0);
    await (await startTestSender(server)).wake();
    const [mail, ...others] = mailServer.mails.filter(({ text }) => path(text, 'reset') !== '');
    expect([mail?.to, others]).toEqual(['ann@example.com', []]);
    expect(
      (await postForm(app, path(mail?.text ?? '', 'reset'), { password: 'a new password' })).statusCode,
    ).toBe(303);
    const login = await postForm(app, '/login', { email: 'ann@example.com', password: 'a new password' });
    expect(login.statusCode).toBe(303);
  },
);

test('a reset link that waits to be mailed goes nowhere when no account has its address', async () => {
  const { mailServer, server, sender, cookie, newMails } = await signedUp();
  await newMails();
  await sender.close();
  await postForm(server.app, '/forgot', { email: 'ann@example.com' });
  const reset = { where: { kind: 'mail.reset-password' } };
  await until(async () => (await server.db.outboxItem.count(reset)) === 1 || undefined);
  await postForm(server.app, '/settings/delete', { currentPassword: PASSWORD }, cookie);
  mailServer.mails.splice(0);
  await (await startTestSender(server)).wake();
  expect(mailServer.mails.filter(({ headers }) => headers.get('subject')?.startsWith('Reset'))).toEqual([]);
  expect(await server.db.outboxItem.findFirst(reset)).toMatchObject({
    status: 'dropped',
    error: 'Its link no longer works.',
    address: null,
  });
});
