import { setImmediate as nextTurn } from 'node:timers/promises';

import { firstPaymentOf } from '../access/first-payment.ts';
import { isLiveAndKnown, isOver } from '../access/live.ts';
import { holds } from '../access/money-back.ts';
import { provesPayment } from '../access/proof.ts';
import { deriveTier } from '../access/tier.ts';
import { checkLedger } from '../credits/fold.ts';
import type { CreditEntry } from '../db/generated/client.ts';
import type { Db, Reader } from '../db/transaction.ts';
import { inSnapshot } from '../db/transaction.ts';
import { DAY_SECONDS, isoText, secondsBetween } from '../instants.ts';
import {
  checkoutSessionShape,
  CLAIMED_BY_ANOTHER,
  readCheckoutSession,
} from '../stripe/objects/checkout-session.ts';
import { readEvent } from '../stripe/objects/event.ts';
import type { Paint } from '../terminal.ts';
import { counted, sentence } from '../wording.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { NOT_AGAIN } from './mail.ts';

/** `doctor`: checks every invariant of the database and lists the rows that break one. */
export async function doctor({ db, config, now, paint }: CommandContext): Promise<CommandResult> {
  const findings = await examine(db, { clawbackDays: config.clawbackDays, now });
  const failed = findings.length > 0;
  const text = failed ? formatFindings(findings, paint) : `All ${INVARIANTS.length} invariants hold.`;
  return { text, json: { invariants: INVARIANTS.length, findings }, failed };
}

function formatFindings(findings: readonly Finding[], paint: Paint): string {
  return INVARIANTS.map((invariant) => section(invariant, findings, paint))
    .filter((text) => text !== null)
    .join('\n');
}

function section({ name, says }: Invariant, findings: readonly Finding[], paint: Paint): string | null {
  const broken = findings.filter(({ check }) => check === name);
  if (broken.length === 0) return null;
  return [`${paint('red', name)}: ${says}`, ...broken.map(({ row, problem }) => `  ${row}: ${problem}`)].join(
    '\n',
  );
}

/** The findings as one line of the email to the operator, without ids; empty when there are none. */
export function summarise(findings: readonly Finding[]): string[] {
  // The email counts failed items separately, and leaves out old ones and those that any stranger can cause.
  const counts = INVARIANTS.filter(({ name }) => name !== FAILED_ITEMS)
    .map(({ name }) => ({ name, count: findings.filter(({ check }) => check === name).length }))
    .filter(({ count }) => count > 0);
  if (counts.length === 0) return [];
  const list = counts.map(({ name, count }) => `${name} (${count})`).join(', ');
  return [`"doctor" finds rows that break a rule: ${list}. Run it to see which.`];
}

/** Rows read at a time, to keep memory flat. */
const PAGE = 50;

/**
 * Longer than any of Stripe's retry schedules, days: the longest takes two months.
 * https://docs.stripe.com/billing/revenue-recovery/smart-retries
 */
const PAST_DUE_DAYS = 70;

/** The check for failed outbox items. */
const FAILED_ITEMS = 'outbox';

export interface Finding {
  /** The invariant's name. */
  check: string;
  /** The table and the id. */
  row: string;
  problem: string;
}

export interface Invariant {
  name: string;
  /** The invariant as a sentence. */
  says: string;
}

export interface ExamineOptions {
  /** REFERRAL_CLAWBACK_DAYS */
  clawbackDays: number;
  /** UTC */
  now: Date;
  /** Aborts the examination. */
  signal?: AbortSignal;
}

type Problem = Omit<Finding, 'check'>;

interface Check<Row> extends Invariant {
  problems: (row: Row, options: ExamineOptions) => Problem[];
}

const ACCOUNT_CHECKS: readonly Check<Account>[] = [
  {
    name: 'credit-ledger',
    says: "A user's credit ledger is in order and gives the two columns of the user's row.",
    problems: ledgerProblems,
  },
  {
    name: 'tier',
    says: "A user's tier is the best that their subscriptions give.",
    problems: tierProblems,
  },
  {
    name: 'one-subscription',
    says: 'A user has at most one live subscription to our products; with two they are charged twice.',
    problems: liveSubscriptionProblems,
  },
  {
    name: 'conversion-grants',
    says: 'A converted referral has one grant for each side that existed; any other referral has none.',
    problems: grantProblems,
  },
  {
    name: 'reversed-credit',
    says: 'The credit of a referral is taken back from both sides exactly while it is reversed.',
    problems: reversedCreditProblems,
  },
  {
    name: 'deleted-account',
    says: 'A deleted account has no session, reset link, backup, open checkout or pending address.',
    problems: tombstoneProblems,
  },
  {
    name: 'charged-after-deletion',
    says: 'No subscription of an account that was deleted more than a day ago is live.',
    problems: chargedAfterDeletion,
  },
  {
    name: 'referral-follows-payment',
    says: 'A referral is converted once a payment is proven, and reversed exactly while no payment stands (all were refunded, lost in a dispute, or never made).',
    problems: referralProblems,
  },
];

const CUSTOMER_CHECKS: readonly Check<CustomerFacts>[] = [
  {
    name: 'proof',
    says: 'A subscription is marked as proven exactly when its facts prove a payment.',
    problems: proofProblems,
  },
  {
    name: 'first-payment',
    says: "A subscription's first payment is that of its earliest positive invoice.",
    problems: firstPaymentProblems,
  },
  {
    name: 'paid-time',
    says: 'A subscription with a snapshot records when it last started or stopped giving a paid tier.',
    problems: paidTimeProblems,
  },
  {
    name: 'deleted-customer',
    says: 'All subscriptions of a customer deleted at Stripe have ended.',
    problems: deletedCustomerProblems,
  },
  {
    name: 'past-due',
    says: `No subscription to our products has been past due for more than ${PAST_DUE_DAYS} days.`,
    problems: pastDueProblems,
  },
  {
    name: 'reconciled',
    says: 'No subscription waits for `reconcile` to ask Stripe which of two snapshots is current.',
    problems: reconcileProblems,
  },
  {
    name: 'known-at-stripe',
    says: 'Stripe knows every customer, and every subscription that is not over.',
    problems: missingProblems,
  },
];

const CLAIM_CHECKS: readonly Check<Claim>[] = [
  {
    name: 'one-owner',
    says: 'No customer is claimed by two users.',
    problems: claimProblems,
  },
];

const OUTBOX_CHECKS: readonly Check<FailedItem>[] = [
  {
    name: FAILED_ITEMS,
    says: 'No email and no change at Stripe has failed for good.',
    problems: outboxProblems,
  },
];

/** All checks, in the order of their findings. */
export const INVARIANTS: readonly Invariant[] = [
  ...ACCOUNT_CHECKS,
  ...CUSTOMER_CHECKS,
  ...CLAIM_CHECKS,
  ...OUTBOX_CHECKS,
].map(({ name, says }) => ({ name, says }));

/**
 * Checks every invariant. Reads page by page, each page in a snapshot, so that servers are not held up and their
 * writes cause no false findings.
 */
export async function examine(db: Db, options: ExamineOptions): Promise<Finding[]> {
  return [
    ...(await examineAll(db, readAccounts, ACCOUNT_CHECKS, options)),
    ...(await examineAll(db, readCustomers, CUSTOMER_CHECKS, options)),
    ...(await examineAll(db, readClaims, CLAIM_CHECKS, options)),
    ...(await examineAll(db, readFailedItems, OUTBOX_CHECKS, options)),
  ];
}

/** Reads the next page: the rows after an id. */
type ReadPage<Row> = (snapshot: Reader, after: string) => Promise<Row[]>;

async function examineAll<Row extends { id: string }>(
  db: Db,
  read: ReadPage<Row>,
  checks: readonly Check<Row>[],
  options: ExamineOptions,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  let after = '';
  for (;;) {
    options.signal?.throwIfAborted();
    const rows = await inSnapshot(db, (snapshot) => read(snapshot, after));
    for (const row of rows) findings.push(...findingsOf(row, checks, options));
    const last = rows.at(-1);
    if (!last || rows.length < PAGE) return findings;
    after = last.id;
    // SQLite answers without yielding, and the server runs this too.
    await nextTurn();
  }
}

function findingsOf<Row>(row: Row, checks: readonly Check<Row>[], options: ExamineOptions): Finding[] {
  return checks.flatMap(({ name, problems }) =>
    problems(row, options).map((problem) => ({ check: name, ...problem })),
  );
}

type Account = Awaited<ReturnType<typeof readAccounts>>[number];

function readAccounts(snapshot: Reader, after: string) {
  return snapshot.user.findMany({
    where: { id: { gt: after } },
    orderBy: { id: 'asc' },
    take: PAGE,
    include: {
      creditEntries: { orderBy: { seq: 'asc' } },
      checkout: true,
      _count: { select: { sessions: true, resetLinks: true, backups: true } },
      referredBy: { include: { referrer: true, creditEntries: { orderBy: { seq: 'asc' } } } },
      customers: {
        include: {
          subscriptions: {
            include: {
              invoices: { where: { positive: true }, include: { payments: { include: { disputes: true } } } },
            },
          },
        },
      },
    },
  });
}

type CustomerFacts = Awaited<ReturnType<typeof readCustomers>>[number];

function readCustomers(snapshot: Reader, after: string) {
  return snapshot.customer.findMany({
    where: { id: { gt: after } },
    orderBy: { id: 'asc' },
    take: PAGE,
    include: { subscriptions: { include: { invoices: true } } },
  });
}

type Claim = Awaited<ReturnType<typeof readClaims>>[number];

async function readClaims(snapshot: Reader, after: string) {
  const events = await snapshot.event.findMany({
    where: { id: { gt: after }, status: 'ignored', reason: CLAIMED_BY_ANOTHER },
    orderBy: { id: 'asc' },
    take: PAGE,
    select: { id: true, customerId: true, payload: true, created: true },
  });
  const ids = events.map(({ customerId }) => customerId).filter((id) => id !== null);
  const customers = await snapshot.customer.findMany({ where: { id: { in: ids } } });
  const byId = new Map(customers.map((customer) => [customer.id, customer]));
  const claims = events.map(({ id, customerId, payload, created }) => ({
    id,
    customer: byId.get(customerId ?? '') ?? null,
    claimants: payload === null ? null : claimantsIn(payload, created),
  }));
  const named = claims.flatMap(({ claimants }) => claimants ?? []);
  const accounts = await snapshot.user.findMany({
    where: { id: { in: named }, deletedAt: null },
    select: { id: true },
  });
  const existing = new Set(accounts.map(({ id }) => id));
  return claims.map((claim) => ({ ...claim, claimants: claim.claimants?.filter((id) => existing.has(id)) }));
}

/** The users that a checkout's event names. */
function claimantsIn(payload: string, created: Date): string[] {
  const event = readEvent(JSON.parse(payload), created);
  const session = checkoutSessionShape.safeParse(event?.object);
  return session.success ? readCheckoutSession(session.data).userReferences : [];
}

type FailedItem = Awaited<ReturnType<typeof readFailedItems>>[number];

function readFailedItems(snapshot: Reader, after: string) {
  return snapshot.outboxItem.findMany({
    where: { id: { gt: after }, status: 'failed' },
    orderBy: { id: 'asc' },
    take: PAGE,
    select: { id: true, kind: true, error: true },
  });
}

function ledgerProblems({ id, creditEntries, ...user }: Account): Problem[] {
  const broken = (problem: string): Problem => ({ row: `User ${id}`, problem });
  try {
    return checkLedger(user, creditEntries).map(broken);
  } catch (error) {
    // The fold throws on an unknown kind of entry.
    return [broken(error instanceof Error ? error.message : String(error))];
  }
}

function tierProblems(account: Account): Problem[] {
  const derived = deriveTier(subscriptionsOf(account));
  if (account.tier === derived) return [];
  return [
    {
      row: `User ${account.id}`,
      problem: `the tier is ${account.tier}, but the subscriptions give ${derived}`,
    },
  ];
}

function liveSubscriptionProblems(account: Account): Problem[] {
  const live = subscriptionsOf(account).filter(isLiveAndKnown);
  if (live.length <= 1) return [];
  const ids = live.map(({ id }) => id).join(', ');
  return [{ row: `User ${account.id}`, problem: `${live.length} subscriptions are live: ${ids}` }];
}

function grantProblems({ id, referredBy }: Account): Problem[] {
  if (!referredBy) return [];
  const { referrerId, referrer, convertedAt, creditEntries } = referredBy;
  const grants = creditEntries.filter(({ kind }) => kind === 'grant');
  const count = (userId: string | null): number => grants.filter((grant) => grant.userId === userId).length;
  const [toReferred, toReferrer] = [count(id), count(referrerId)];
  const toOthers = grants.length - toReferred - toReferrer;

  const problems: string[] = [];
  const expect = (side: string, granted: number, wanted: readonly number[]): void => {
    if (!wanted.includes(granted))
      problems.push(
        `${side} has ${counted(granted, 'grant')} from it, but should have ${wanted.join(' or ')}`,
      );
  };
  expect('the referred user', toReferred, [convertedAt ? 1 : 0]);
  expect('the referrer', toReferrer, referrerGrants(convertedAt, referrer));
  expect('somebody else', toOthers, [0]);
  return problems.map((problem) => ({ row: `Referral ${referredBy.id}`, problem }));
}

/** How many grants a referrer may have: none if they were deleted at the conversion. */
function referrerGrants(convertedAt: Date | null, referrer: { deletedAt: Date | null } | null): number[] {
  if (!convertedAt || !referrer) return [0];
  if (!referrer.deletedAt || referrer.deletedAt > convertedAt) return [1];
  // Deleted in the second of the conversion: before or after it.
  return referrer.deletedAt < convertedAt ? [0] : [0, 1];
}

function reversedCreditProblems({ id, referredBy }: Account): Problem[] {
  if (!referredBy) return [];
  const { referrerId, referrer, reversedAt, creditEntries } = referredBy;
  // A deleted referrer's credit is never touched.
  const sides = [id, referrer?.deletedAt === null ? referrerId : null].filter((side) => side !== null);
  return sides
    .map((side) => creditEntries.filter((entry) => entry.userId === side))
    .filter((entries) => entries.length > 0 && isTaken(entries) !== (reversedAt !== null))
    .map((entries) => ({
      row: `Referral ${referredBy.id}`,
      problem: reversedAt
        ? `it is reversed, but user ${entries[0]?.userId ?? ''} still has the credit`
        : `it is not reversed, but the credit of user ${entries[0]?.userId ?? ''} was taken back`,
    }));
}

function isTaken(entries: readonly CreditEntry[]): boolean {
  return entries.at(-1)?.kind === 'reversal';
}

function tombstoneProblems({ id, deletedAt, pendingEmail, checkout, _count }: Account): Problem[] {
  if (!deletedAt) return [];
  const left = { sessions: _count.sessions, 'reset links': _count.resetLinks, backups: _count.backups };
  const pending = { 'open checkouts': checkout ? 1 : 0, 'pending addresses': pendingEmail === null ? 0 : 1 };
  const counts = Object.entries({ ...left, ...pending }).filter(([, count]) => count > 0);
  if (counts.length === 0) return [];
  const what = counts.map(([name, count]) => `${name}: ${count}`).join(', ');
  return [{ row: `User ${id}`, problem: `the account is deleted but still has rows (${what})` }];
}

/**
 * The owner of a deleted account cannot log in to cancel. Deletion cancels its subscriptions, but the events that say
 * so can take a while, so allow a day.
 */
function chargedAfterDeletion(account: Account, { now }: ExamineOptions): Problem[] {
  const { deletedAt } = account;
  if (!deletedAt || secondsBetween(deletedAt, now) <= DAY_SECONDS) return [];
  return subscriptionsOf(account)
    .filter(isLiveAndKnown)
    .map(({ id }) => ({
      row: `User ${account.id}`,
      problem: `the account was deleted on ${isoText(deletedAt)}, but the subscription ${id} is live: cancel it at Stripe`,
    }));
}

function referralProblems(account: Account, { clawbackDays }: ExamineOptions): Problem[] {
  const { referredBy, deletedAt } = account;
  if (!referredBy) return [];
  const { convertedAt, reversedAt, refusedFor } = referredBy;
  const proven = subscriptionsOf(account).some(({ provenAt }) => provenAt !== null);
  const broken = (problem: string): Problem[] => [{ row: `Referral ${referredBy.id}`, problem }];

  if (!convertedAt) {
    // The open referral of a deleted account never converts, and neither does a refused one.
    return proven && !deletedAt && !refusedFor
      ? broken('a payment is proven, but the referral is not converted')
      : [];
  }
  const holding = subscriptionsOf(account).some((subscription) => holds(subscription, clawbackDays));
  if (holding && reversedAt) return broken('a payment still stands, but the referral is reversed');
  if (!holding && !reversedAt) {
    return broken(
      `${proven ? 'the money went back' : 'no payment is proven'}, but the referral is not reversed`,
    );
  }
  return [];
}

function subscriptionsOf({ customers }: Account) {
  return customers.flatMap(({ subscriptions }) => subscriptions);
}

function proofProblems({ subscriptions }: CustomerFacts): Problem[] {
  return subscriptions
    .filter((subscription) => provesPayment(subscription) !== (subscription.provenAt !== null))
    .map(({ id, provenAt }) => ({
      row: `Subscription ${id}`,
      problem: provenAt
        ? 'it is marked as proven, but its facts do not prove a payment'
        : 'its facts prove a payment, but it is not marked as proven',
    }));
}

function firstPaymentProblems({ subscriptions }: CustomerFacts): Problem[] {
  return subscriptions.flatMap((subscription) => {
    const { id, firstPaidAt } = subscription;
    const earliest = firstPaymentOf([subscription])?.paidAt ?? null;
    if (firstPaidAt?.getTime() === earliest?.getTime()) return [];
    const text = (instant: Date | null): string => (instant ? isoText(instant) : 'none');
    const problem = `the stored first payment is ${text(firstPaidAt)}, but by its invoices it is ${text(earliest)}`;
    return [{ row: `Subscription ${id}`, problem }];
  });
}

function paidTimeProblems({ subscriptions }: CustomerFacts): Problem[] {
  return subscriptions
    .filter(({ status, givesSince }) => (status === null) !== (givesSince === null))
    .map(({ id, status, givesSince }) => ({
      row: `Subscription ${id}`,
      problem: givesSince
        ? 'it has no snapshot, but records when it last started or stopped giving a paid tier'
        : `it is ${status ?? ''}, but does not record when it last started or stopped giving a paid tier`,
    }));
}

function deletedCustomerProblems({ id: customerId, deletedAt, subscriptions }: CustomerFacts): Problem[] {
  if (!deletedAt) return [];
  return subscriptions
    .filter(({ status }) => status !== null && !isOver(status))
    .map(({ id, status }) => ({
      row: `Subscription ${id}`,
      problem: `it is ${status ?? ''}, but the customer ${customerId} is deleted`,
    }));
}

function pastDueProblems({ subscriptions }: CustomerFacts, { now }: ExamineOptions): Problem[] {
  return subscriptions.flatMap(({ id, status, statusAt, counts }) =>
    counts && status === 'past_due' && statusAt && secondsBetween(statusAt, now) > PAST_DUE_DAYS * DAY_SECONDS
      ? [{ row: `Subscription ${id}`, problem: `it has been past due since ${isoText(statusAt)}` }]
      : [],
  );
}

function reconcileProblems({ subscriptions }: CustomerFacts): Problem[] {
  return subscriptions
    .filter(({ needsReconcile }) => needsReconcile)
    .map(({ id }) => ({
      row: `Subscription ${id}`,
      problem: 'two snapshots of the same second differed, and Stripe could not be asked',
    }));
}

function missingProblems({ id, deletedAt, missingAt, subscriptions }: CustomerFacts): Problem[] {
  const problem = (askedAt: Date): string =>
    `Stripe did not know it when asked on ${isoText(askedAt)}: it was deleted there, or STRIPE_API_KEY belongs to another account. \`reconcile\` checks again`;
  const ofCustomer = missingAt && !deletedAt ? [{ row: `Customer ${id}`, problem: problem(missingAt) }] : [];
  const ofSubscriptions = subscriptions.flatMap((one) =>
    one.missingAt && one.status !== null && !isOver(one.status)
      ? [{ row: `Subscription ${one.id}`, problem: problem(one.missingAt) }]
      : [],
  );
  return [...ofCustomer, ...ofSubscriptions];
}

function claimProblems({ id, customer, claimants }: Claim): Problem[] {
  // An operator settles this with `relink`, or by deleting the customer at Stripe: then nobody pays for another user's
  // access. A claimant who deletes their account settles it, too. Without a payload we do not know who they are.
  if (!customer || customer.deletedAt) return [];
  if (claimants && (claimants.length === 0 || claimants.includes(customer.userId ?? ''))) return [];
  return [
    {
      row: `Customer ${customer.id}`,
      problem: `it belongs to user ${customer.userId ?? '-'}, but another user's checkout named it (event ${id}). \`relink\` moves it`,
    },
  ];
}

function outboxProblems({ id, kind, error }: FailedItem): Problem[] {
  const why = error === null ? '.' : `: ${sentence(error)}`;
  const never = NOT_AGAIN[kind];
  const next = never === undefined ? '`mail-resend` tries it again' : `It cannot be sent again: ${never}`;
  return [{ row: `OutboxItem ${id}`, problem: `${kind} failed for good${why} ${next}` }];
}
