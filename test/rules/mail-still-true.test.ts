import { describe, expect, test } from 'vitest';

import type { User } from '../../src/db/generated/client.ts';
import { DAYS_ARE_NO_NEWS, LOSS_IS_NO_NEWS, thinksToHaveDays } from '../../src/outbox/days-mail.ts';
import type { MailFacts } from '../../src/outbox/facts.ts';
import type { MailWork } from '../../src/outbox/kinds.ts';
import { whyDrop } from '../../src/outbox/still-true.ts';

const NOW = new Date('2027-01-10T09:00:00Z');
const days = (count: number): Date => new Date(NOW.getTime() + count * 86_400_000);

const ANN: User = {
  id: 'ann',
  email: 'ann@example.com',
  emailHash: '',
  emailSetAt: null,
  shutOutUntil: null,
  emailProvenAt: NOW,
  pendingEmail: null,
  pendingEmailAt: null,
  passwordHash: '',
  code: 'ABCDEFGH',
  tier: 'free',
  creditUntil: days(7),
  creditHeldAt: null,
  creditEntryCount: 1,
  creditEntryAt: NOW,
  creditEntriesSeen: 0,
  createdAt: NOW,
  deletedAt: null,
  mailOff: false,
};

const CONVERTED = { convertedAt: NOW, reversedAt: null };
const REVERSED = { convertedAt: NOW, reversedAt: NOW };
const until = days(7).toISOString();
const referral = { referralId: 'r', side: 'referrer', seconds: 86_400 } as const;

/**
 * Why an email is dropped. Unless a test says otherwise, Ann is free, has seven days left, and her friend's payment
 * holds.
 */
function why(
  work: MailWork,
  changes: Partial<User> = {},
  facts: Partial<MailFacts> = {},
  address: string | null = null,
): string | null {
  const user = { ...ANN, ...changes };
  const all = {
    user,
    referral: CONVERTED,
    olderDueAt: null,
    thinksToHaveDays: null,
    invoicePaid: false,
    plan: 'live' as const,
    ...facts,
  };
  return whyDrop(work, { address }, all, NOW);
}

const granted: MailWork = { kind: 'mail.days-granted', data: referral };
const reversed: MailWork = { kind: 'mail.days-reversed', data: { ...referral, because: 'refund' } };
const restored: MailWork = { kind: 'mail.days-restored', data: referral };
const running: MailWork = { kind: 'mail.days-running', data: null };
const ending: MailWork = { kind: 'mail.days-ending', data: { until } };
const ended: MailWork = { kind: 'mail.days-ended', data: { until } };
const declined: MailWork = { kind: 'mail.payment-failed', data: { invoiceId: 'in', nextAttempt: null } };
const password: MailWork = { kind: 'mail.password-changed', data: null };
const deleted: MailWork = { kind: 'mail.account-deleted', data: null };

test('the email about a change of address is dropped once the change is no longer pending', () => {
  const changing: MailWork = { kind: 'mail.address-changing', data: null };
  const pending = { pendingEmail: 'new@example.com', pendingEmailAt: NOW };
  expect(why(changing, pending, {}, 'ann@example.com')).toBeNull();
  expect(why(changing, {}, {}, 'ann@example.com')).toBe('The change is no longer pending.');
  // It took effect.
  expect(why(changing, { email: 'new@example.com' }, {}, 'ann@example.com')).toBeNull();
});

test('what is still true is sent', () => {
  for (const work of [granted, restored, running, ending, ended, declined, password])
    expect(why(work), work.kind).toBeNull();
  expect(why(reversed, {}, { referral: REVERSED })).toBeNull();
});

test('the email about granted days is dropped once they are reversed', () => {
  expect(why(granted, {}, { referral: REVERSED })).toBe('The days were taken back.');
  expect(why(granted, {}, { referral: null })).toBe('The days were taken back.');
  expect(why(restored, {}, { referral: REVERSED })).toBe('The days were taken back.');
});

test('the email about reversed days is dropped once they are given back', () => {
  expect(why(reversed)).toBe('The days were given back.');
});

test('the email about reversed days is dropped when the reader does not think that they have them', () => {
  const facts = { referral: REVERSED };
  expect(why(reversed, {}, { ...facts, thinksToHaveDays: false })).toBe(
    'The email about the grant or return of these days was not sent either.',
  );
  expect(why(reversed, {}, { ...facts, thinksToHaveDays: true })).toBeNull();
});

test('the email about days is dropped when the reader already thinks that they have them', () => {
  for (const work of [granted, restored]) {
    expect(why(work, {}, { thinksToHaveDays: true })).toBe(
      'The user already knows that they have these days.',
    );
    expect(why(work, {}, { thinksToHaveDays: false })).toBeNull();
  }
});

describe('what the reader thinks', () => {
  const got = 'mail.days-granted';
  const lost = 'mail.days-reversed';
  const back = 'mail.days-restored';
  const sent = (kind: string) => ({ kind, status: 'done', error: null });
  const dropped = (kind: string, error: string) => ({ kind, status: 'dropped', error });
  const failed = (kind: string) => ({
    kind,
    status: 'failed',
    error: 'The mail server refused the email: 451.',
  });
  const notGranted = dropped(got, 'The days were taken back.');
  const notLost = dropped(lost, 'The days were given back.');
  const notBack = dropped(back, 'The days were taken back.');

  test.each<[string, Parameters<typeof thinksToHaveDays>[1], boolean | null]>([
    ['a grant that was told', [sent(got)], true],
    ['a grant that was taken back before it was told', [notGranted], false],
    ['a grant whose mail failed', [failed(got)], null],
    [
      'a grant while mail was off',
      [dropped(got, 'The owner of the account has turned such mail off.')],
      null,
    ],
    ['a loss that was told', [sent(got), sent(lost)], false],
    ['a loss whose mail failed', [sent(got), failed(lost)], null],
    ['a loss that was undone before it was told', [sent(got), notLost], true],
    ['a return that was told', [notGranted, dropped(lost, LOSS_IS_NO_NEWS), sent(back)], true],
    ['a return that was no news', [sent(got), notLost, dropped(back, DAYS_ARE_NO_NEWS)], true],
    ['a return that was undone, after a loss that was told', [sent(got), sent(lost), notBack], false],
    ['a return that was undone, after a loss that was not told', [sent(got), notLost, notBack], true],
    ['the same, long after the grant, whose row was pruned', [notLost], true],
    ['a return that was undone, long after the loss', [notBack], false],
    ['a loss that was no news, whose grant was pruned', [dropped(lost, LOSS_IS_NO_NEWS)], false],
    ['a return that was no news, whose grant was pruned', [dropped(back, DAYS_ARE_NO_NEWS)], true],
  ])('after %s', (_what, older, thinks) => {
    for (const kind of [lost, back]) expect(thinksToHaveDays(kind, older)).toBe(thinks);
  });

  test('before the first mail, or when all older ones were pruned, makes that mail news', () => {
    expect(thinksToHaveDays(got, [])).toBe(false);
    expect(thinksToHaveDays(back, [])).toBe(false);
    expect(thinksToHaveDays(lost, [])).toBe(true);
  });
});

test('the email about days that run now is dropped when the user has a plan or no days left', () => {
  expect(why(running, { tier: 'paid', creditHeldAt: NOW })).toBe('The user has a plan.');
  expect(why(running, { tier: 'trial' })).toBe('The user has a plan.');
  expect(why(running, { creditUntil: NOW })).toBe('No days are left.');
});

test.each(['paid', 'trial'])('the emails about the end of days are dropped when the user is %s', (tier) => {
  for (const work of [ending, ended]) expect(why(work, { tier })).toBe('The user has a plan.');
});

test('the email about a failed payment is dropped once another plan gives access', () => {
  expect(why(declined, {}, { plan: 'another' })).toBe('The user has another plan.');
});

test('the emails about the end of days are dropped when the end has moved', () => {
  for (const work of [ending, ended]) {
    expect(why(work, { creditUntil: days(52) })).toBe('The days end at another time.');
    expect(why(work, { creditUntil: null })).toBe('The days end at another time.');
  }
});

test('the email about days that will end is dropped once they have ended', () => {
  const over: MailWork = { kind: 'mail.days-ending', data: { until: NOW.toISOString() } };
  expect(why(over, { creditUntil: NOW })).toBe('The days have ended.');
});

test('the email about a failed payment is dropped once the invoice is paid', () => {
  expect(why(declined, {}, { invoicePaid: true })).toBe('The invoice was paid.');
});

test('somebody who has turned mail off gets only mail about the account', () => {
  const off = { mailOff: true };
  for (const work of [granted, restored, running, ending, ended, declined])
    expect(why(work, off), work.kind).toBe('The owner of the account has turned such mail off.');
  expect(why(password, off)).toBeNull();
});

test('a deleted account’s address gets the news of its deletion or change, and a reset link', () => {
  const gone = { deletedAt: NOW, email: null };
  expect(why(granted, gone)).toBe('There is no address to send it to.');
  const toFormer = (work: MailWork): string | null =>
    whyDrop(
      work,
      { address: 'ann@example.com' },
      {
        user: { ...ANN, ...gone },
        referral: null,
        olderDueAt: null,
        thinksToHaveDays: null,
        invoicePaid: false,
        plan: 'live',
      },
      NOW,
    );
  expect(toFormer({ kind: 'mail.address-changing', data: null })).toBe('The account was deleted.');
  expect(toFormer({ kind: 'mail.address-changed', data: null })).toBeNull();
  expect(toFormer(deleted)).toBeNull();
  // For the next account with the address.
  expect(toFormer({ kind: 'mail.reset-password', data: null })).toBeNull();
});
