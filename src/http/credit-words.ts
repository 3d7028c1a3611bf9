import type { RecentLine } from '../credits/recent.ts';
import type { ToldEntry } from '../referrals/credit-news.ts';
import { inDays } from '../wording.ts';
import type { Notice } from './page.ts';

/** Turns credit ledger entries since the user's last visit into notices for the next page. */
export function noticesOf(entries: readonly ToldEntry[]): Notice[] {
  const reversedAtOnce = entries.filter((entry) => wasReversedAtOnce(entry, entries));
  const real = entries.filter((entry) => !reversedAtOnce.includes(entry));
  // The grant of such a conversion is not shown, so its first restoration is shown as the grant.
  for (const { referralId } of reversedAtOnce.filter(({ kind }) => kind === 'grant')) {
    const index = real.findIndex((entry) => entry.kind === 'restoration' && entry.referralId === referralId);
    const restoration = real[index];
    if (restoration) real[index] = { ...restoration, kind: 'grant' };
  }
  const told = real.filter((entry) => entry.kind === 'grant' || isLast(entry, real));
  const of = (kind: string, side: ToldEntry['side']): ToldEntry[] =>
    told.filter((entry) => entry.kind === kind && entry.side === side);
  const sum = (some: readonly ToldEntry[]): string =>
    inDays(some.reduce((total, { seconds }) => total + seconds, 0));
  const notices: Notice[] = [];
  const add = (kind: Notice['kind'], some: readonly ToldEntry[], text: (days: string) => string): void => {
    if (some.length > 0) notices.push({ kind, text: text(sum(some)) });
  };

  const friends = of('grant', 'referrer');
  const count = countReferrals(friends);
  const whose =
    count === 1
      ? 'A friend of yours made a first payment'
      : `${count} friends of yours made their first payments`;
  add('success', friends, (days) => `${whose}: you got ${days}.`);
  add(
    'success',
    of('grant', 'referred'),
    (days) => `We received your first payment. Because a friend invited you, you got ${days}.`,
  );
  add('success', of('grant', null), (days) => `You were given ${days} of paid access.`);
  for (const side of ['referrer', 'referred'] as const) {
    const reversals = of('reversal', side);
    // A reversal of 0 seconds means that all the credit had been used: nothing was taken and nothing can be
    // given back.
    const took = reversals.filter(({ seconds }) => seconds > 0);
    const tookNothing = reversals.filter((entry) => entry.seconds === 0 && !countsAgain(entry, told));
    const gaveBack = of('restoration', side).filter(({ seconds }) => seconds > 0);
    const inTurn: Parameters<typeof add>[] = [
      [
        'info',
        took,
        (days) =>
          `${noLongerCounts(took)}, so what was left of the free days you got ${forIt(took)} was removed: ${days}.`,
      ],
      [
        'info',
        tookNothing,
        () =>
          `${noLongerCounts(tookNothing)}. You had already used the free days you got ${forIt(tookNothing)}, so nothing was removed.`,
      ],
      ['success', gaveBack, (days) => `${countsNow(gaveBack)}: you got ${days}.`],
    ];
    // The latest change comes last.
    for (const notice of inTurn.sort(([, a], [, b]) => lastOf(a) - lastOf(b))) add(...notice);
  }
  return notices;
}

/**
 * Whether it is the last entry of its kind about its referral. The same days can be taken and given back several times
 * between two visits, and must not be added up.
 */
function isLast({ seq, kind, referralId }: ToldEntry, entries: readonly ToldEntry[]): boolean {
  return !entries.some((other) => other.kind === kind && other.referralId === referralId && other.seq > seq);
}

/** Whether the payment whose credit was reversed counts again. */
function countsAgain({ seq, referralId }: ToldEntry, entries: readonly ToldEntry[]): boolean {
  return entries.some((one) => one.kind === 'restoration' && one.referralId === referralId && one.seq > seq);
}

function lastOf(entries: readonly ToldEntry[]): number {
  return Math.max(0, ...entries.map(({ seq }) => seq));
}

/**
 * Whether the entry belongs to a conversion reversed in its own transaction because its refund was already
 * known. Its grant and reversal share the instant and the days.
 */
function wasReversedAtOnce(entry: ToldEntry, entries: readonly ToldEntry[]): boolean {
  const opposite = { grant: 'reversal', reversal: 'grant' }[entry.kind];
  return entries.some(
    ({ kind, referralId, seconds, at }) =>
      kind === opposite &&
      referralId !== null &&
      referralId === entry.referralId &&
      seconds === entry.seconds &&
      at.getTime() === entry.at.getTime(),
  );
}

/**
 * Says whose payments the entries of one side are about. Why they do not count (a refund, a dispute, a debit that
 * failed after all, a customer moved to another account) is in the email.
 */
function noLongerCounts(entries: readonly ToldEntry[]): string {
  if (entries[0]?.side === 'referred') return 'Your first payment no longer counts';
  const friends = countReferrals(entries);
  return friends === 1
    ? 'A friend’s first payment no longer counts'
    : `The first payments of ${friends} friends no longer count`;
}

function forIt(entries: readonly ToldEntry[]): string {
  return countReferrals(entries) === 1 ? 'for it' : 'for them';
}

function countReferrals(entries: readonly ToldEntry[]): number {
  return new Set(entries.map(({ referralId }) => referralId)).size;
}

function countsNow(entries: readonly ToldEntry[]): string {
  if (entries[0]?.side === 'referred') return 'Your payment now counts';
  const friends = countReferrals(entries);
  return friends === 1 ? 'A friend’s payment now counts' : `The payments of ${friends} friends now count`;
}

/** One line of the credit history in Settings. */
export interface HistoryLine {
  at: Date;
  text: string;
  /** Signed, in days, or "less than a day"; null when the line moves no credit. */
  days: string | null;
}

/** Puts one line of the credit history into words for Settings. */
export function inWords(line: RecentLine<ToldEntry>): HistoryLine {
  if (line.kind === 'spent') {
    return { at: line.from, text: 'Used as paid access', days: signed('−', line.seconds) };
  }
  const { at, kind, seconds, side } = line.entry;
  switch (kind) {
    case 'grant':
      return { at, text: GRANTED[side ?? 'operator'], days: signed('+', seconds) };
    case 'reversal': {
      const what = seconds > 0 ? 'the remaining days were removed' : 'no days were left';
      return { at, text: `${noLongerCounts([line.entry])}: ${what}`, days: signed('−', seconds) };
    }
    case 'restoration': {
      const what = seconds > 0 ? ': days given back' : '';
      return {
        at,
        text: `${countsNow([line.entry])}${what}`,
        days: signed('+', seconds),
      };
    }
    case 'hold':
      return { at, text: 'Paid plan: any free days are paused', days: null };
    default:
      return { at, text: 'No paid plan: any free days left count down', days: null };
  }
}

function signed(sign: '+' | '−', seconds: number): string | null {
  if (seconds === 0) return null;
  const days = inDays(seconds);
  return /^\d/.test(days) ? `${sign}${days}` : days;
}

const GRANTED = {
  referrer: 'A friend you invited made a first payment',
  referred: 'Your first payment after a friend’s invitation',
  operator: 'Added by us',
};
