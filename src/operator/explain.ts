import type { Spending } from '../credits/explain.ts';
import { inSnapshot } from '../db/transaction.ts';
import type { Db } from '../db/transaction.ts';
import { DAY_SECONDS } from '../instants.ts';
import { explainAccount, nameOf } from './explain-logic.ts';
import type { AccountStory, ToldEntry, ToldReferral } from './explain-logic.ts';
import { accountOf, inText } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';

/**
 * `explain`: shows where every day of an account's credit came from and where it went, and for each of its referrals
 * why it has or has not converted and what comes next.
 *
 * @param context what every command gets
 * @param email whose account
 * @returns what to print
 * @throws PlainError when there is no such account
 */
export async function explain({ db, config, now }: CommandContext, email: string): Promise<CommandResult> {
  // Of one moment: whatever is written meanwhile, the sum adds up. What only reads takes a snapshot for the database.
  const story = await inSnapshot(db, async (snapshot) => {
    const moment = snapshot as Db;
    return explainAccount(moment, await accountOf(moment, email), config, now);
  });
  return { text: tell(story), json: story };
}

function tell(story: AccountStory): string {
  const { email, at, credit, invited, invitedBy } = story;
  return [
    `${email} at ${inText(at)}`,
    section('Now', nowLines(story)),
    section('Credit', creditLines(credit)),
    section('Friends they invited', invited.length === 0 ? ['none'] : invited.flatMap(referralLines)),
    section('Who invited them', invitedBy ? referralLines(invitedBy) : ['nobody']),
  ].join('\n\n');
}

function section(title: string, lines: readonly string[]): string {
  return [title, ...lines.map((line) => `  ${line}`)].join('\n');
}

function nowLines({ now: { tier, access, credit } }: AccountStory): string[] {
  const runs = credit.held
    ? `stands still while they pay; were it to run from now on, until ${inText(credit.until)}`
    : `runs until ${inText(credit.until)}`;
  return [
    `tier    ${tier}`,
    `access  ${access.reason ? `${access.reason}, until ${inText(access.until)}` : 'none'}`,
    `credit  ${credit.left > 0 ? `${inDays(credit.left)} left: it ${runs}` : 'none left'}`,
  ];
}

function creditLines({ history, sum }: AccountStory['credit']): string[] {
  if (history.length === 0) return ['There never was any.'];
  const { granted, spent, takenBack, left } = sum;
  return [
    ...history.map((line) => ('of' in line ? spendingLine(line) : entryLine(line))),
    `${inDays(granted)} granted = ${inDays(spent)} spent + ${inDays(takenBack)} taken back + ${inDays(left)} left`,
  ];
}

function entryLine(entry: ToldEntry): string {
  return `${inText(entry.at)}  ${`#${entry.seq}`.padEnd(3)}  ${whatHappened(entry)}`;
}

function whatHappened({ kind, seconds, by, because }: ToldEntry): string {
  const why = because === null ? '' : ` because ${because}`;
  switch (kind) {
    case 'hold':
      return `stands still${why}`;
    case 'resume':
      return `runs again${why}`;
    case 'grant':
      if (by === 'stripe') return `granted ${inDays(seconds)}${why}`;
      return `granted ${inDays(seconds)} by an operator${because === null ? '' : ` "${because}"`}`;
    case 'reversal':
      return `${inDays(seconds)} taken back${why}`;
    default:
      return `${inDays(seconds)} given back${why}`;
  }
}

function spendingLine({ from, until, seconds, of }: Spending): string {
  const grants = of.map((part) =>
    of.length > 1 ? `${inDays(part.seconds)} of #${part.seq}` : `#${part.seq}`,
  );
  const spent = `${inDays(seconds)} spent until ${inText(until)}`;
  return `${inText(from)}  ...  ${spent}${of.length > 1 ? ': ' : ' of '}${grants.join(', ')}`;
}

function referralLines({ email, signedUpAt, says, next }: ToldReferral): string[] {
  return [`${nameOf(email)}, signed up on ${inText(signedUpAt)}: ${says}.`, `  ${next}`];
}

/** To the second, so that sums add up: "45 days", "24 days 03:12:05". */
function inDays(seconds: number): string {
  const days = Math.floor(seconds / DAY_SECONDS);
  const rest = seconds % DAY_SECONDS;
  const name = `${days} ${days === 1 ? 'day' : 'days'}`;
  if (rest === 0) return name;
  return `${name} ${new Date(rest * 1000).toISOString().slice(11, 19)}`;
}
