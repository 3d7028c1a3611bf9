import { describeUser, overviewConfigOf } from '../access/overview.ts';
import type { Overview } from '../access/overview.ts';
import { subscriptionsOf } from '../access/subscriptions.ts';
import type { Config } from '../config.ts';
import { creditLeft } from '../credits/balance.ts';
import type { Spending } from '../credits/fold.ts';
import type { User } from '../db/generated/client.ts';
import { WOULD_BE_REFUSED } from '../db/load.ts';
import type { Reader } from '../db/transaction.ts';
import { inSnapshot } from '../db/transaction.ts';
import { DAY_SECONDS, wholeSeconds } from '../instants.ts';
import type { ReversalReason } from '../outbox/kinds.ts';
import type { Paint } from '../terminal.ts';
import { counted } from '../wording.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { explainCredit } from './explain-credit.ts';
import type { CreditLine, CreditSum } from './explain-credit.ts';
import { explainReferral, REFERRAL_FACTS, reversalReason } from './explain-referral.ts';
import type { ReferralFacts, ReferralStory } from './explain-referral.ts';
import { accountOf, nameOf } from './who.ts';

/**
 * `explain`: shows where an account's credit came from and where it went, and for each of its referrals why it
 * has or has not converted and what can happen next.
 */
export async function explain(context: CommandContext, who: string): Promise<CommandResult> {
  const { db, config, now, paint } = context;
  // Before the transaction, because Stripe may have to be asked.
  const { id } = await accountOf(context, who);
  // In one snapshot, so that the sums add up whatever is written meanwhile.
  const story = await inSnapshot(db, async (snapshot) => {
    const account = await snapshot.user.findUniqueOrThrow({ where: { id } });
    return explainAccount(snapshot, account, config, now);
  });
  return { text: format(story, paint), json: story };
}

function format(story: AccountStory, paint: Paint): string {
  const { id, email, at, credit, invited, invitedBy } = story;
  const section = (title: string, lines: readonly string[]): string =>
    [paint('bold', title), ...lines.map((line) => `  ${line}`)].join('\n');
  return [
    `${nameOf({ id, email: email === '' ? null : email })} at ${formatInstant(at)}`,
    section('Now', nowLines(story)),
    section('Credit', creditLines(credit)),
    section('Friends they invited', invited.length === 0 ? ['none'] : invited.flatMap(friendLines)),
    section('Who invited them', invitedBy ? referrerLines(invitedBy) : ['nobody']),
  ].join('\n\n');
}

function nowLines({ now: { tier, access, credit } }: AccountStory): string[] {
  const runs = credit.held
    ? `held while they pay; it would last until ${formatInstant(credit.until)} if it ran from now on`
    : `running until ${formatInstant(credit.until)}`;
  return [
    `tier    ${tier}`,
    `access  ${access.reason ? `${access.reason}, until ${formatInstant(access.until)}` : 'none'}`,
    `credit  ${credit.left > 0 ? `${daysAndTime(credit.left)} left, ${runs}` : 'none left'}`,
  ];
}

function creditLines({ history, sum }: AccountStory['credit']): string[] {
  if (history.length === 0) return ['none so far'];
  const { granted, spent, takenBack, left } = sum;
  return [
    ...history.map((line) => ('of' in line ? spendingLine(line) : entryLine(line))),
    `${daysAndTime(granted)} granted = ${daysAndTime(spent)} spent + ${daysAndTime(takenBack)} taken back + ${daysAndTime(left)} left`,
  ];
}

function entryLine(entry: ExplainedEntry): string {
  return `${formatInstant(entry.at)}  ${`#${entry.seq}`.padEnd(3)}  ${whatHappened(entry)}`;
}

function whatHappened({ kind, seconds, by, because }: ExplainedEntry): string {
  const why = because === null ? '' : ` because ${because}`;
  switch (kind) {
    case 'hold':
      return `held${why}`;
    case 'resume':
      return `runs again${why}`;
    case 'grant':
      if (by === 'stripe') return `granted ${daysAndTime(seconds)}${why}`;
      return `granted ${daysAndTime(seconds)} by an operator${because === null ? '' : ` "${because}"`}`;
    case 'reversal':
      return `${daysAndTime(seconds)} taken back${why}`;
    default:
      return `${daysAndTime(seconds)} returned${why}`;
  }
}

function spendingLine({ from, until, seconds, of }: Spending): string {
  const grants = of.map((part) =>
    of.length > 1 ? `${daysAndTime(part.seconds)} of #${part.seq}` : `#${part.seq}`,
  );
  const spent = `spent until ${formatInstant(until)}`;
  const what =
    of.length > 1
      ? `${daysAndTime(seconds)} ${spent}: ${grants.join(', ')}`
      : `${daysAndTime(seconds)} of ${grants.join('')} ${spent}`;
  return `${formatInstant(from)}  ...  ${what}`;
}

function friendLines({ email, signedUpAt, says, next }: ExplainedReferral): string[] {
  return [`${otherSide(email)}, signed up on ${formatInstant(signedUpAt)}: ${says}.`, `  ${next}`];
}

function referrerLines({ email, signedUpAt, says, next }: ExplainedReferral): string[] {
  return [
    `${otherSide(email)}; this account signed up on ${formatInstant(signedUpAt)}: ${says}.`,
    `  ${next}`,
  ];
}

/** To the second, so that sums add up: "45 days", "24 days 03:12:05". */
function daysAndTime(seconds: number): string {
  const days = Math.floor(seconds / DAY_SECONDS);
  const rest = seconds % DAY_SECONDS;
  const name = counted(days, 'day');
  if (rest === 0) return name;
  return `${name} ${new Date(rest * 1000).toISOString().slice(11, 19)}`;
}

/** An account, explained to an operator. Credit is in seconds. */
export interface AccountStory {
  id: string;
  email: string;
  at: Date;
  now: Pick<Overview, 'tier' | 'access'> & {
    credit: { left: number; held: boolean; until: Date | null };
  };
  credit: { history: (ExplainedEntry | Spending)[]; sum: CreditSum };
  /** The friends they invited, in order of sign-up. */
  invited: ExplainedReferral[];
  invitedBy: ExplainedReferral | null;
}

/** An entry of the credit ledger, with the reason for it. */
export interface ExplainedEntry {
  kind: string;
  seq: number;
  at: Date;
  seconds: number;
  by: 'stripe' | 'operator';
  /** Null when an operator gave no note. */
  because: string | null;
  causeId: string;
}

/** A referral, with the address of the other side. */
export interface ExplainedReferral extends ReferralStory {
  /** Null when that account was deleted. */
  email: string | null;
  signedUpAt: Date;
  convertedAt: Date | null;
  reversedAt: Date | null;
}

/** Explains an account up to an instant. */
export async function explainAccount(
  db: Reader,
  user: User,
  config: Config,
  now: Date,
): Promise<AccountStory> {
  const at = wholeSeconds(now);
  const { clawbackDays } = config;
  const subscriptions = await subscriptionsOf(db, user.id);
  const overview = await describeUser(db, user, subscriptions, overviewConfigOf(config), at);
  const { tier, access, creditUntil, creditHeld } = overview;
  const entries = await readEntries(db, user.id);
  const history = explainCredit(entries, at);
  const [invited, invitedBy] = await readReferrals(db, user.id);
  const refused = await refusedNext(db, user.id);
  const explainOne = (row: ReferralFacts, email: string | null): ExplainedReferral => {
    const { createdAt, convertedAt, reversedAt } = row;
    const told = explainReferral(row, refused.has(row.id), clawbackDays, at);
    return { email, signedUpAt: createdAt, convertedAt, reversedAt, ...told };
  };
  const current = currentReasons(entries, invitedBy ? [...invited, invitedBy] : invited, clawbackDays);
  const reasons = await readReasons(db, user.id, entries, current);
  return {
    id: user.id,
    email: user.email ?? '',
    at,
    now: { tier, access, credit: { left: creditLeft(user, at), held: creditHeld, until: creditUntil } },
    credit: { history: history.lines.map((line) => explainLine(line, reasons)), sum: history.sum },
    invited: invited.map((row) => explainOne(row, row.referred.email)),
    invitedBy: invitedBy && explainOne(invitedBy, invitedBy.referrer?.email ?? null),
  };
}

type Entry = Awaited<ReturnType<typeof readEntries>>[number];

function readEntries(db: Reader, userId: string) {
  return db.creditEntry.findMany({
    where: { userId },
    orderBy: { seq: 'asc' },
    include: {
      referral: {
        include: { referrer: true, referred: { include: { auditRows: { where: { kind: 'unlink' } } } } },
      },
    },
  });
}

/** The known causes of entries. */
interface Reasons {
  /** Operators' notes, by cause. */
  notes: ReadonlyMap<string, string>;
  /** Causes that are an operator's commands. */
  byOperator: ReadonlySet<string>;
  /** Types of Stripe events, by event id. */
  eventTypes: ReadonlyMap<string, string>;
  /** Why a referral is reversed now, by the entry that reversed it. */
  current: ReadonlyMap<Entry, ReversalReason>;
}

async function readReasons(
  db: Reader,
  userId: string,
  entries: readonly Entry[],
  current: Reasons['current'],
): Promise<Reasons> {
  const causes = entries
    .filter(({ kind }) => kind === 'reversal' || kind === 'restoration')
    .map(({ causeId }) => causeId);
  const [rows, events] = await Promise.all([
    db.auditRow.findMany({ where: { userId, actor: 'operator' } }),
    db.event.findMany({ where: { id: { in: causes } }, select: { id: true, type: true } }),
  ]);
  return {
    notes: new Map(rows.flatMap(({ causeId, note }) => (note === null ? [] : [[causeId, note]]))),
    byOperator: new Set(rows.map(({ causeId }) => causeId)),
    eventTypes: new Map(events.map(({ id, type }) => [id, type])),
    current,
  };
}

function currentReasons(
  entries: readonly Entry[],
  referrals: readonly ReferralFacts[],
  clawbackDays: number,
): Map<Entry, ReversalReason> {
  const reasons = new Map<Entry, ReversalReason>();
  for (const row of referrals.filter(({ reversedAt }) => reversedAt !== null)) {
    const last = entries.findLast(({ referralId }) => referralId === row.id);
    const reversal = reversalReason(row, clawbackDays);
    if (last && reversal) reasons.set(last, reversal);
  }
  return reasons;
}

function explainLine(line: CreditLine<Entry>, reasons: Reasons): ExplainedEntry | Spending {
  if (line.kind === 'spent') return line;
  const { kind, seq, at, seconds, causeId } = line.entry;
  const by = reasons.byOperator.has(causeId) ? 'operator' : 'stripe';
  return { kind, seq, at, seconds, by, because: becauseOf(line.entry, reasons), causeId };
}

function becauseOf(entry: Entry, reasons: Reasons): string | null {
  const { kind, referral, causeId } = entry;
  // Of an operator's commands, only `relink` holds credit, lets it run again or takes it back.
  const byRelink = reasons.byOperator.has(causeId);
  if (kind === 'hold') return byRelink ? 'a paying customer was moved to this account' : 'they pay';
  if (kind === 'resume')
    return byRelink ? 'their customer was moved to another account' : 'they stopped paying';
  if (!referral) return reasons.notes.get(causeId) ?? null;

  const own = referral.referredId === entry.userId;
  if (kind === 'grant') {
    return own
      ? `they paid for the first time, invited by ${otherSide(referral.referrer?.email)}`
      : `${otherSide(referral.referred.email)} paid`;
  }
  const payment = own ? 'their payment' : `the payment of ${otherSide(referral.referred.email)}`;
  const type = reasons.eventTypes.get(causeId) ?? '';
  if (kind === 'restoration') return whyGivenBack(type, payment);
  // The account that gets a customer by `relink` can lose its days, too: the customer's payment had gone back.
  const hasLostCustomer = referral.referred.auditRows.some((row) => row.causeId === causeId);
  const reason = hasLostCustomer ? 'moved' : reasonOf(type);
  return whyTaken(reason ?? reasons.current.get(entry) ?? null, payment);
}

/** The reason for a reversal as the event tells it; null when the event only linked older facts. */
function reasonOf(eventType: string): ReversalReason | null {
  if (eventType === 'charge.refunded') return 'refund';
  return eventType.startsWith('charge.dispute.') ? 'dispute' : null;
}

function whyTaken(reason: ReversalReason | null, payment: string): string {
  switch (reason) {
    case 'refund':
      return `${payment} was refunded`;
    case 'dispute':
      return `the dispute about ${payment} was lost`;
    case 'unpaid':
      return `${payment} was never collected`;
    case 'moved':
      return `${payment} belongs to another account`;
    case null:
      return `${payment} no longer counts`;
  }
}

function whyGivenBack(eventType: string, payment: string): string {
  if (eventType === 'refund.failed') return `the refund of ${payment} failed`;
  if (eventType.endsWith('refund.updated')) return `the refund of ${payment} did not go through`;
  if (eventType.startsWith('charge.dispute.')) return `the dispute about ${payment} was won`;
  return 'there is a valid payment again';
}

function otherSide(email: string | null | undefined): string {
  return email ?? '(deleted account)';
}

async function readReferrals(db: Reader, userId: string): Promise<[ReferralFacts[], ReferralFacts | null]> {
  return Promise.all([
    db.referral.findMany({
      where: { referrerId: userId },
      orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
      include: REFERRAL_FACTS,
    }),
    db.referral.findUnique({ where: { referredId: userId }, include: REFERRAL_FACTS }),
  ]);
}

/** The open referrals of a user, on either side, that the next payment would not convert. */
async function refusedNext(db: Reader, userId: string): Promise<Set<string>> {
  const rows = await db.$queryRaw<{ id: string }[]>`
    SELECT t."id" FROM "Referral" AS t
    WHERE (t."referrerId" = ${userId} OR t."referredId" = ${userId}) AND ${WOULD_BE_REFUSED}`;
  return new Set(rows.map(({ id }) => id));
}
