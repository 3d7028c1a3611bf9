import { expect } from 'vitest';

import type { OutboxItem } from '../../src/db/generated/client.ts';
import type { OutboxKind } from '../../src/outbox/kinds.ts';
import { proveLink, resetToken, resetUrl } from '../../src/outbox/links.ts';
import { PASSWORD, postForm, SESSION_SECRET } from './server.ts';
import type { Person, TestServer } from './server.ts';

/** Mail is on. Nothing is sent: a server under test has no sender. */
export const MAIL = { SMTP_URL: 'smtp://127.0.0.1:9', MAIL_FROM: 'Tandem <tandem@example.com>' };

/** What is in the outbox, the oldest first. */
export function outbox({ db }: TestServer, kind?: OutboxKind): Promise<OutboxItem[]> {
  return db.outboxItem.findMany({
    ...(kind !== undefined && { where: { kind } }),
    orderBy: [{ createdAt: 'asc' }, { kind: 'asc' }],
  });
}

/** The kinds of what is in the outbox for an account. */
export async function kindsFor(server: TestServer, { id }: Pick<Person, 'id'>): Promise<string[]> {
  return (await outbox(server)).filter(({ userId }) => userId === id).map(({ kind }) => kind);
}

/** The path of the link in the newest mail that proves an address of an account. */
export async function provePath(server: TestServer, { id }: Pick<Person, 'id'>): Promise<string> {
  const item = (await outbox(server, 'mail.prove-address')).filter(({ userId }) => userId === id).at(-1);
  const user = await server.db.user.findUniqueOrThrow({ where: { id } });
  const maker = { publicUrl: server.config.publicUrl, secret: SESSION_SECRET };
  const link = item ? proveLink(maker, user, item, server.clock.now) : null;
  expect(link, 'a mail with a link that proves an address').not.toBeNull();
  return new URL(link?.url ?? '').pathname;
}

/** The path of the link in an email that resets a password. */
export function resetPathOf({ config }: TestServer, item: OutboxItem): string {
  return new URL(resetUrl(config.publicUrl, resetToken(SESSION_SECRET, item.id))).pathname;
}

/** Proves the address of an account, in a browser that is logged out. */
export async function prove(server: TestServer, person: Pick<Person, 'id'>): Promise<void> {
  const answer = await postForm(server.app, await provePath(server, person), {});
  expect(answer.statusCode).toBe(200);
}

/** Asks for another address in Settings. */
export function askFor(
  { app }: TestServer,
  { cookie }: Pick<Person, 'cookie'>,
  email: string,
  currentPassword = PASSWORD,
) {
  return postForm(app, '/settings/address', { email, currentPassword }, cookie);
}
