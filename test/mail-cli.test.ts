import { expect, test, vi } from 'vitest';

import { inTransaction } from '../src/db/transaction.ts';
import { doctor } from '../src/operator/doctor.ts';
import { mailResend } from '../src/operator/mail.ts';
import { prune } from '../src/operator/prune.ts';
import { readOutboxState, takeDue } from '../src/outbox/items.ts';
import { queueNow } from '../src/outbox/queue.ts';
import type { NewItem } from '../src/outbox/queue.ts';
import { commandContext } from './support/command-context.ts';
import { startMailServer } from './support/mail-server.ts';
import { runCli } from './support/process.ts';
import { mailEnv, startTestSender } from './support/sender.ts';
import { daysAfter, signUp, startTestServer } from './support/server.ts';

/** A server that sends mail, and somebody to write to. */
async function mailing() {
  const mailServer = await startMailServer();
  const server = await startTestServer(mailEnv(mailServer));
  const ann = await signUp(server, 'ann@example.com');
  const sender = await startTestSender(server);
  /** Queues one email, and has it tried; its id. */
  async function mail(
    item: NewItem = { kind: 'mail.password-changed', userId: ann.id, data: null },
  ): Promise<string> {
    const id = `item-${(await server.db.outboxItem.count()) + 1}`;
    await inTransaction(server.db, server.clock.now, (tx) => queueNow(tx, [{ ...item, id }]));
    await sender.wake();
    return id;
  }
  const cli = (...args: string[]) => runCli(args, { DATABASE_URL: server.databaseUrl });
  const row = (id: string) => server.db.outboxItem.findUniqueOrThrow({ where: { id } });
  return { mailServer, server, ann, sender, mail, cli, row };
}

const REFUSED = { code: 550, text: '5.1.1 <ann@example.com>: no such user' };

test('mail lists what was queued, the newest first, and no address', async () => {
  const { mailServer, server, ann, mail, cli } = await mailing();
  expect(await cli('mail')).toEqual({ code: 0, stdout: 'Nothing has been queued yet.\n', stderr: '' });
  await mail();
  server.clock.now = daysAfter(1);
  mailServer.refuse = () => REFUSED;
  await mail();
  server.clock.now = daysAfter(2);
  mailServer.refuse = () => ({ code: 451, text: '4.3.0 later, ann@example.com' });
  await mail();

  const { code, stdout } = await cli('mail');
  expect(code).toBe(0);
  const lines = stdout.trimEnd().split('\n');
  expect(lines[0]).toMatch(
    new RegExp(
      `^2027-01-12T09:00:00Z {2}queued {3}mail.password-changed {2}item-3 {2}${ann.id} {2}` +
        'tried 1 time, next 2027-01-12T09:01:\\d\\dZ {2}The mail server refused the recipient: 451 4.3.0.$',
    ),
  );
  expect(lines.slice(1)).toEqual([
    `2027-01-11T09:00:00Z  failed   mail.password-changed  item-2  ${ann.id}  The mail server refused the recipient: 550 5.1.1.`,
    `2027-01-10T09:00:00Z  done     mail.password-changed  item-1  ${ann.id}`,
  ]);
  const failed = await cli('mail', '--failed', '--json');
  expect(JSON.parse(failed.stdout)).toMatchObject([{ id: 'item-2', status: 'failed' }]);
  expect(stdout + failed.stdout).not.toContain('example.com');
});

test('doctor names an email that failed, until it was sent', async () => {
  const { mailServer, server, sender, mail, cli } = await mailing();
  mailServer.refuse = () => REFUSED;
  const id = await mail();
  expect(await doctor(commandContext(server))).toMatchObject({
    failed: true,
    json: {
      findings: [
        {
          check: 'outbox',
          row: `OutboxItem ${id}`,
          problem:
            'mail.password-changed failed for good: The mail server refused the recipient: 550 5.1.1. `mail-resend` tries it again',
        },
      ],
    },
  });

  mailServer.refuse = () => null;
  await server.db.outboxItem.update({ where: { id }, data: { createdAt: daysAfter(-9) } });
  const resent = await cli('mail-resend', id);
  expect(resent).toEqual({
    code: 0,
    stdout: `mail.password-changed ${id} is due now. A running server will pick it up.\n`,
    stderr: '',
  });
  // The command's clock is the machine's.
  server.clock.now = new Date(Date.now() + 1_000);
  expect((await readOutboxState(server.db, server.clock.now)).oldestSeconds).toBeLessThan(60);
  await sender.wake();
  expect(mailServer.mails.map(({ headers }) => headers.get('message-id'))).toEqual([`<${id}@tandem.test>`]);
  expect(await doctor(commandContext(server))).toMatchObject({ failed: false });
});

test('an email that a server may be sending is not queued again', async () => {
  const { server, sender, ann } = await mailing();
  await sender.close();
  const [id, kind, { now }] = ['leased', 'mail.password-changed' as const, server.clock];
  await inTransaction(server.db, now, (tx) => queueNow(tx, [{ id, kind, userId: ann.id, data: null }]));
  const [leased] = await takeDue(server.db, now, 1);
  expect(leased?.id).toBe(id);
  await expect(mailResend(commandContext(server), id)).rejects.toThrow(
    `mail.password-changed ${id} is being sent, or is due within 3 minutes.`,
  );
  expect(await server.db.outboxItem.findUnique({ where: { id } })).toEqual(leased);
});

test('an email that a server has finished since it was read is not queued again', async () => {
  const { server, ann, mail } = await mailing();
  const id = await mail({
    kind: 'mail.address-changed',
    userId: ann.id,
    data: null,
    address: 'old@example.com',
  });
  const { outboxItem } = server.db;
  const sentAfterwards = vi.spyOn(outboxItem, 'findUnique');
  sentAfterwards.mockImplementationOnce((() =>
    outboxItem.findFirst({ where: { id } }).then(async (item) => {
      const dueAt = server.clock.now;
      await outboxItem.update({ where: { id }, data: { status: 'done', address: null, dueAt } });
      return item && { ...item, status: 'queued', dueAt };
    })) as never);
  await expect(mailResend(commandContext(server), id)).rejects.toThrow('A server took');
  expect(await outboxItem.findUnique({ where: { id } })).toMatchObject({ status: 'done' });
});

test('an email whose address is not kept, or whose link is made anew, is not sent again', async () => {
  const { mailServer, server, ann, mail, cli } = await mailing();
  mailServer.refuse = () => REFUSED;
  const changed = await mail({
    kind: 'mail.address-changed',
    userId: ann.id,
    data: null,
    address: 'old@example.com',
  });
  expect(await cli('mail-resend', changed)).toEqual({
    code: 1,
    stdout: '',
    stderr: 'mail.address-changed cannot be sent again: the address that it was for is not kept.\n',
  });
  const link = await mail({ kind: 'mail.reset-password', userId: ann.id, data: null });
  expect(await cli('mail-resend', link)).toEqual({
    code: 1,
    stdout: '',
    stderr:
      'mail.reset-password cannot be sent again: its link works only for an hour, and the user can ask for another one.\n',
  });
  const { text } = await doctor(commandContext(server));
  expect(text).toContain('It cannot be sent again: the address that it was for is not kept');
  expect(text).not.toContain('mail-resend');
  expect(await cli('mail-resend', 'none')).toEqual({
    code: 1,
    stdout: '',
    stderr: 'Nothing in the outbox has the id none. `mail` lists what is there.\n',
  });
});

test("the operator's mail is sent again to the current OPERATOR_EMAIL", async () => {
  const { mailServer, server, mail, row } = await mailing();
  mailServer.refuse = () => REFUSED;
  const id = await mail({
    kind: 'mail.operator',
    userId: null,
    data: { problems: ['One.'] },
    address: 'ops@example.com',
  });
  const resend = (env: Record<string, string>) =>
    runCli(['mail-resend', id], { DATABASE_URL: server.databaseUrl, ...env });
  expect(await resend({})).toMatchObject({
    code: 1,
    stderr: 'OPERATOR_EMAIL is not set, so there is nobody to send it to.\n',
  });
  expect(await resend({ OPERATOR_EMAIL: 'new@example.com' })).toMatchObject({ code: 0 });
  expect(await row(id)).toMatchObject({ status: 'queued', address: 'new@example.com', attempts: 0 });
});

test('prune deletes what ended long ago, and nothing that waits', async () => {
  const { mailServer, server, mail } = await mailing();
  await mail();
  mailServer.refuse = () => REFUSED;
  await mail();
  mailServer.refuse = () => ({ code: 451, text: 'later' });
  const waiting = await mail();
  const pruned = async (days: number, retention: string): Promise<unknown> => {
    server.clock.now = daysAfter(days);
    return (await prune(commandContext(server, { EVENT_RETENTION_DAYS: retention }))).json;
  };
  // The row of a reminder must outlive the days that it is about.
  expect(await pruned(30, '1')).toMatchObject({ outboxItems: 0 });
  expect(await pruned(90, '90')).toMatchObject({ outboxItems: 0 });
  expect(await pruned(31, '1')).toMatchObject({ outboxItems: 2 });
  expect(await server.db.outboxItem.findMany()).toMatchObject([{ id: waiting, status: 'queued' }]);
});

test('wrong usage exits with 2', async () => {
  const { cli } = await mailing();
  expect((await cli('mail-resend')).code).toBe(2);
  expect((await cli('mail', '--sent')).code).toBe(2);
});
