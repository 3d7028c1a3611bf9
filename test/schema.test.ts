import { randomUUID } from 'node:crypto';

import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';

import { newDatabase, signUp, START, startTestServer } from './support/server.ts';

describe('the database holds its rules by itself', () => {
  test('every connection keeps foreign keys, WAL, and commits that survive power loss', async () => {
    const { db } = await startTestServer();
    expect(await db.$queryRaw`PRAGMA foreign_keys`).toEqual([{ foreign_keys: 1n }]);
    expect(await db.$queryRaw`PRAGMA journal_mode`).toEqual([{ journal_mode: 'wal' }]);
    expect(await db.$queryRaw`PRAGMA synchronous`).toEqual([{ synchronous: 2n }]);
  });

  test('the CHECK constraints, which the schema cannot name, are still in the tables', async () => {
    const path = (await newDatabase()).replace('file:', '');
    const tables = new Database(path, { readonly: true })
      .prepare("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
      .all() as { name: string; sql: string }[];
    const checks = tables.flatMap(({ sql }) =>
      [...sql.matchAll(/CONSTRAINT "(\w+_check)"/g)].map((match) => match[1]),
    );
    expect(checks.sort()).toEqual([
      'AuditRow_actor_check',
      'AuditRow_kind_check',
      'Checkout_plan_check',
      'CreditEntry_kind_check',
      'CreditEntry_referral_check',
      'CreditEntry_seconds_check',
      'CreditEntry_seq_check',
      'Event_error_check',
      'Event_reason_check',
      'Event_status_check',
      'Invoice_positive_is_paid_check',
      'Payment_refundedAt_check',
      'Referral_converted_is_credited_check',
      'Referral_not_oneself_check',
      'Referral_reversed_was_converted_check',
      'User_account_or_tombstone_check',
      'User_creditEntryAt_check',
      'User_creditEntryCount_check',
      'User_held_while_paid_check',
      'User_tier_check',
      'User_tombstone_holds_nothing_check',
    ]);
  });

  test('a fact may point at a row that follows in the same transaction', async () => {
    const path = (await newDatabase()).replace('file:', '');
    const tables = new Database(path, { readonly: true })
      .prepare(
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND sql LIKE '%DEFERRABLE INITIALLY DEFERRED%'",
      )
      .pluck()
      .all() as string[];
    const keys = tables.flatMap((sql) =>
      [...sql.matchAll(/CONSTRAINT "(\w+)".*DEFERRED/g)].map(([, name]) => name),
    );
    expect(keys.sort()).toEqual(['Invoice_subscriptionId_fkey', 'Payment_invoiceId_fkey']);
  });

  test('one instant is one text, whoever writes it', async () => {
    const server = await startTestServer();
    const a = await signUp(server, 'a@example.com');
    await signUp(server, 'b@example.com', a.code);
    const [row] = new Database(server.databaseUrl.replace('file:', ''), { readonly: true })
      .prepare('SELECT u."createdAt" AS model, r."createdAt" AS raw FROM "User" u, "Referral" r')
      .all() as { model: string; raw: string }[];
    expect(row?.raw).toBe(row?.model);
  });

  test('a second referral of one user, or of one person, is refused', async () => {
    const server = await startTestServer();
    const [a, b, c] = [
      await signUp(server, 'a@example.com'),
      await signUp(server, 'b@example.com'),
      await signUp(server, 'c@example.com'),
    ];
    const referral = (referrerId: string, referredId: string, referredHash: string) =>
      server.db.referral.create({
        data: { id: randomUUID(), referrerId, referredId, referredHash, createdAt: START },
      });
    await referral(a.id, b.id, 'hash of b');
    await expect(referral(c.id, b.id, 'another hash')).rejects.toMatchObject({ code: 'P2002' });
    await expect(referral(a.id, c.id, 'hash of b')).rejects.toMatchObject({ code: 'P2002' });
    await expect(referral(a.id, a.id, 'hash of a')).rejects.toThrow('Referral_not_oneself_check');
  });

  test('one cause cannot grant a user twice, even from broken code', async () => {
    const server = await startTestServer();
    const person = await signUp(server, 'a@example.com');
    const entry = (seq: number) =>
      server.db.creditEntry.create({
        data: { userId: person.id, seq, at: START, kind: 'grant', seconds: 1, causeId: 'the same' },
      });
    await entry(1);
    await expect(entry(2)).rejects.toMatchObject({ code: 'P2002' });
    await expect(entry(1)).rejects.toMatchObject({ code: 'P2002' });
  });

  test('credit cannot be held while the user is not paid', async () => {
    const server = await startTestServer();
    const person = await signUp(server, 'a@example.com');
    const write = (data: object) => server.db.user.update({ where: { id: person.id }, data });
    await expect(write({ creditHeldAt: START })).rejects.toThrow('User_held_while_paid_check');
    await expect(write({ tier: 'paid' })).rejects.toThrow('User_held_while_paid_check');
    await expect(write({ tier: 'premium' })).rejects.toThrow('User_tier_check');
  });
});
