import { neededMigrations, withoutPassword } from '../db/open.ts';
import { engineOf } from '../db/transaction.ts';
import type { Db } from '../db/transaction.ts';
import { EVENT_STATUSES } from '../stripe/event-ledger.ts';
import { readVersion } from '../version.ts';
import { counted } from '../wording.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { fieldLines } from './show.ts';

/** `status`: shows on one screen the version, the database, counts, and what is queued or has failed. */
export async function status({ db, config, paint }: CommandContext): Promise<CommandResult> {
  const version = readVersion();
  const engine = engineOf(db);
  const migrations = await neededMigrations(config.databaseUrl);
  const newest = migrations.at(-1) ?? '';
  const [users, referrals, events, outbox] = await Promise.all([
    countUsers(db),
    countReferrals(db),
    readEvents(db),
    readOutbox(db),
  ]);
  const { last } = events;
  const { oldest } = outbox;
  const failed = (count: number): string => (count === 0 ? '0 failed' : paint('red', `${count} failed`));
  const text = fieldLines(paint, [
    ['version', `${version} (Node.js ${process.version})`],
    ['database', `${engine}, ${withoutPassword(config.databaseUrl)}`],
    ['migrations', `${migrations.length}, all applied; the newest is ${newest}`],
    [
      'accounts',
      `${users.all} (${users.paid} paid, ${users.trial} trial, ${users.free} free), ${users.deleted} deleted`,
    ],
    [
      'referrals',
      `${referrals.all}, ${referrals.converted} converted, of which ${referrals.reversed} reversed`,
    ],
    ['events', `${events.all}, ${failed(events.failed)}`],
    ['last event', last ? `${formatInstant(last.receivedAt)}  ${last.type}  ${last.id}` : 'none'],
    ['outbox', `${outbox.queued} queued, ${failed(outbox.failed)}`],
    [
      'oldest queued',
      oldest
        ? `${formatInstant(oldest.createdAt)}  ${oldest.kind}  ${oldest.id}, tried ${counted(oldest.attempts, 'time')}${oldest.error === null ? '' : `: ${oldest.error}`}`
        : 'none',
    ],
  ]);
  const json = {
    version,
    node: process.version,
    engine,
    migrations: { applied: migrations.length, newest },
    users,
    referrals,
    events,
    outbox,
  };
  return { text, json };
}

async function countUsers(db: Db) {
  const groups = await db.user.groupBy({ by: ['tier'], where: { deletedAt: null }, _count: true });
  const deleted = await db.user.count({ where: { deletedAt: { not: null } } });
  const of = (tier: string): number => groups.find((group) => group.tier === tier)?._count ?? 0;
  const [paid, trial, free] = [of('paid'), of('trial'), of('free')];
  return { all: paid + trial + free, paid, trial, free, deleted };
}

async function countReferrals(db: Db) {
  const { _count: count } = await db.referral.aggregate({
    _count: { _all: true, convertedAt: true, reversedAt: true },
  });
  return { all: count._all, converted: count.convertedAt, reversed: count.reversedAt };
}

async function readEvents(db: Db) {
  return {
    all: await db.event.count(),
    failed: await db.event.count({ where: { status: 'failed' } }),
    last: await lastEvent(db),
  };
}

/** Looks for each status by itself, because the index begins with it. */
async function lastEvent(db: Db) {
  const newest = await Promise.all(
    EVENT_STATUSES.map((outcome) =>
      db.event.findFirst({
        where: { status: outcome },
        orderBy: [{ receivedAt: 'desc' }, { id: 'desc' }],
        select: { id: true, type: true, receivedAt: true, status: true },
      }),
    ),
  );
  const [last] = newest
    .filter((event) => event !== null)
    .sort((a, b) => b.receivedAt.getTime() - a.receivedAt.getTime());
  return last ?? null;
}

async function readOutbox(db: Db) {
  const count = (state: string) => db.outboxItem.count({ where: { status: state } });
  return {
    queued: await count('queued'),
    failed: await count('failed'),
    oldest: await db.outboxItem.findFirst({
      where: { status: 'queued' },
      orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
      select: { id: true, kind: true, createdAt: true, dueAt: true, attempts: true, error: true },
    }),
  };
}
