import { compose } from '../../src/outbox/compose.ts';
import type { Letterhead, Mail, Particulars } from '../../src/outbox/compose.ts';
import type { MailFacts } from '../../src/outbox/facts.ts';
import { canBeTurnedOff } from '../../src/outbox/kinds.ts';
import type { MailWork } from '../../src/outbox/kinds.ts';
import { daysAfter, START } from './server.ts';

export const LETTERHEAD = {
  brand: 'Tandem & Co',
  contact: 'help@tandem.test',
  publicUrl: 'https://tandem.test',
  from: 'hello@tandem.test',
};

/** A user with the tier free, whose credit lasts ten more days. */
const USER = {
  tier: 'free',
  creditUntil: daysAfter(10),
  creditHeldAt: null,
  email: 'ann@example.com',
};

function mailOf(
  letterhead: Letterhead | undefined,
  work: MailWork,
  user: Partial<typeof USER | { creditHeldAt: Date }> = {},
  more: Partial<Particulars> = {},
  facts: Partial<MailFacts> = {},
): Mail {
  return compose(work, letterhead ?? LETTERHEAD, {
    id: 'id',
    to: 'ann@example.com',
    unsubscribe: canBeTurnedOff(work.kind) ? 'https://tandem.test/unsubscribe/t' : null,
    facts: {
      user: { ...USER, ...user } as never,
      referral: null,
      olderDueAt: null,
      thinksToHaveDays: null,
      invoicePaid: false,
      plan: 'live',
      ...facts,
    },
    link: 'https://tandem.test/token-link',
    isChange: false,
    replaces: false,
    now: START,
    ...more,
  });
}

const SETTINGS = 'https://tandem.test/settings';
const PRICING = 'https://tandem.test/pricing';
const FORGOT = 'https://tandem.test/forgot';
const LINK = 'https://tandem.test/token-link';

const ENDING: MailWork = { kind: 'mail.days-ending', data: { until: daysAfter(10).toISOString() } };
const ENDED: MailWork = { kind: 'mail.days-ended', data: { until: START.toISOString() } };

export const referral = (side: 'referrer' | 'referred', days = 45) => ({
  referralId: 'r',
  side,
  seconds: days * 86_400,
});

/** Each kind: its subject, sentences that it must say, and where its button leads. */
export const MAILS: [
  what: string,
  mail: (letterhead?: Letterhead) => Mail,
  subject: string,
  says: string[],
  button: string | null,
][] = [
  [
    'mail.prove-address',
    (letterhead) => mailOf(letterhead, { kind: 'mail.prove-address', data: null }),
    'Confirm your email address for Tandem & Co',
    ['This is the address of a Tandem & Co account.', 'The link works for three days.'],
    LINK,
  ],
  [
    'mail.prove-address, of a change',
    (letterhead) => mailOf(letterhead, { kind: 'mail.prove-address', data: null }, {}, { isChange: true }),
    'Confirm your new address for Tandem & Co',
    ['You asked to change the address of your Tandem & Co account to this one.'],
    LINK,
  ],
  [
    'mail.prove-address, of a change that would take the address from another account',
    (letterhead) =>
      mailOf(letterhead, { kind: 'mail.prove-address', data: null }, {}, { isChange: true, replaces: true }),
    'Another Tandem & Co account wants to use your address',
    ['the account that has it now is deleted.', 'If it was not you, ignore this email. Nothing changes.'],
    LINK,
  ],
  [
    'mail.reset-password',
    (letterhead) => mailOf(letterhead, { kind: 'mail.reset-password', data: null }),
    'Reset your Tandem & Co password',
    ['The link works once, within an hour.', 'Your password stays the same.'],
    LINK,
  ],
  [
    'mail.password-changed',
    (letterhead) => mailOf(letterhead, { kind: 'mail.password-changed', data: null }),
    'Your Tandem & Co password was changed',
    ['If it was not you, choose a new password now, then write to help@tandem.test.'],
    FORGOT,
  ],
  [
    'mail.address-changing',
    (letterhead) => mailOf(letterhead, { kind: 'mail.address-changing', data: null }),
    'Your Tandem & Co address is about to change',
    ['Until then, this address stays in use.', 'If it was not you, reset your password now.'],
    FORGOT,
  ],
  [
    'mail.address-changing, sent after the change',
    (letterhead) =>
      mailOf(letterhead, { kind: 'mail.address-changing', data: null }, { email: 'new@example.com' }),
    'Your Tandem & Co address was changed',
    ['From now on, log in with the new address.', 'If it was not you, write to help@tandem.test at once.'],
    null,
  ],
  [
    'mail.address-changed',
    (letterhead) => mailOf(letterhead, { kind: 'mail.address-changed', data: null }),
    'Your Tandem & Co address was changed',
    ['If it was not you, write to help@tandem.test at once.'],
    null,
  ],
  [
    'mail.account-deleted',
    (letterhead) => mailOf(letterhead, { kind: 'mail.account-deleted', data: null }),
    'Your Tandem & Co account was deleted',
    ['you will not be charged again', 'Thanks for trying Tandem & Co.'],
    null,
  ],
  [
    'mail.days-granted, to the friend who invited',
    (letterhead) => mailOf(letterhead, { kind: 'mail.days-granted', data: referral('referrer') }),
    'A friend you invited has paid: you both got 45 free days',
    ['You both got 45 free days for it.', 'They last until 20 January 2027.'],
    SETTINGS,
  ],
  [
    'mail.days-granted, to the one who paid',
    (letterhead) =>
      mailOf(letterhead, { kind: 'mail.days-granted', data: referral('referred') }, { creditHeldAt: START }),
    'We received your payment: you got 45 free days',
    ['Because a friend invited you, you got 45 free days.', 'You have 10 free days, paused while you pay.'],
    SETTINGS,
  ],
  [
    'mail.days-reversed, to the friend who invited',
    (letterhead) =>
      mailOf(letterhead, {
        kind: 'mail.days-reversed',
        data: { ...referral('referrer', 30), because: 'refund' },
      }),
    'We took back 30 free days',
    ['because of the first payment of a friend you invited', 'That payment was refunded.', '30 days'],
    SETTINGS,
  ],
  [
    'mail.days-reversed, to the one who paid',
    (letterhead) =>
      mailOf(
        letterhead,
        { kind: 'mail.days-reversed', data: { ...referral('referred', 1), because: 'dispute' } },
        { creditUntil: START },
      ),
    'We took back 1 free day',
    [
      'because of your first payment',
      'That payment was disputed with the bank, and the money was returned.',
      'You have no free days left.',
    ],
    SETTINGS,
  ],
  [
    'mail.days-reversed, after a payment was moved to another account',
    (letterhead) =>
      mailOf(letterhead, {
        kind: 'mail.days-reversed',
        data: { ...referral('referrer', 45), because: 'moved' },
      }),
    'We took back 45 free days',
    ['That payment turned out to belong to another account.', '45 days'],
    SETTINGS,
  ],
  [
    'mail.days-restored',
    (letterhead) => mailOf(letterhead, { kind: 'mail.days-restored', data: referral('referrer', 30) }),
    'You got 30 free days',
    ['Now it does, or a later one does', 'you got 30 days.'],
    SETTINGS,
  ],
  [
    'mail.days-running',
    (letterhead) => mailOf(letterhead, { kind: 'mail.days-running', data: null }, {}, {}, { plan: 'ended' }),
    'Your free days are counting down and last until 20 January 2027',
    ['You have paid access until 20 January 2027: 10 days left.'],
    PRICING,
  ],
  [
    'mail.days-ending',
    (letterhead) => mailOf(letterhead, ENDING, {}, {}, { plan: 'ended' }),
    'Your free days end on 20 January 2027',
    ['until 20 January 2027: 10 days left.', 'you can still restore and export your cloud backups'],
    PRICING,
  ],
  [
    'mail.days-ending, with a plan that is unpaid',
    (letterhead) => mailOf(letterhead, ENDING, {}, {}, { plan: 'unpaid' }),
    'Your free days end on 20 January 2027',
    ['Your plan is not active at the moment: Settings says why.'],
    SETTINGS,
  ],
  [
    'mail.days-ended',
    (letterhead) => mailOf(letterhead, ENDED, {}, {}, { plan: 'ended' }),
    'Your free days have ended',
    ['so has your paid access', 'Nothing was charged.'],
    PRICING,
  ],
  [
    'mail.days-ended, with a plan that is unpaid',
    (letterhead) => mailOf(letterhead, ENDED, {}, {}, { plan: 'unpaid' }),
    'Your free days have ended',
    ['Your plan is not active at the moment: Settings says why.'],
    SETTINGS,
  ],
  [
    'mail.payment-failed, when Stripe says that it tries again',
    (letterhead) =>
      mailOf(letterhead, {
        kind: 'mail.payment-failed',
        data: { invoiceId: 'in', nextAttempt: daysAfter(3).toISOString() },
      }),
    'Your payment for Tandem & Co did not go through',
    ['We will try again on 13 January 2027.', 'press “Check your card”'],
    SETTINGS,
  ],
  [
    'mail.payment-failed, when it does not',
    (letterhead) =>
      mailOf(letterhead, { kind: 'mail.payment-failed', data: { invoiceId: 'in', nextAttempt: null } }),
    'Your payment for Tandem & Co did not go through',
    ['Your plan will end unless the payment goes through.', 'See what you can do'],
    SETTINGS,
  ],
  [
    'mail.payment-failed, when it is the first one after a trial',
    (letterhead) =>
      mailOf(
        letterhead,
        { kind: 'mail.payment-failed', data: { invoiceId: 'in', nextAttempt: daysAfter(3).toISOString() } },
        {},
        {},
        { plan: 'first-payment-due' },
      ),
    'Your payment for Tandem & Co did not go through',
    ['your first payment for your Tandem & Co plan', 'Your plan starts once the payment goes through.'],
    SETTINGS,
  ],
  [
    'mail.payment-failed, when Stripe has stopped trying',
    (letterhead) =>
      mailOf(
        letterhead,
        { kind: 'mail.payment-failed', data: { invoiceId: 'in', nextAttempt: null } },
        {},
        {},
        { plan: 'unpaid' },
      ),
    'Your payment for Tandem & Co did not go through',
    ['we have stopped trying', 'You will have paid access once the open invoice is paid.'],
    SETTINGS,
  ],
  [
    'mail.payment-failed, when the plan is paused by then',
    (letterhead) =>
      mailOf(
        letterhead,
        { kind: 'mail.payment-failed', data: { invoiceId: 'in', nextAttempt: null } },
        {},
        {},
        { plan: 'paused' },
      ),
    'Your payment for Tandem & Co did not go through',
    ['the plan is paused', 'Check that a valid card is on file, then write to help@tandem.test.'],
    SETTINGS,
  ],
  [
    'mail.payment-failed, when the plan has ended by then',
    (letterhead) =>
      mailOf(
        letterhead,
        { kind: 'mail.payment-failed', data: { invoiceId: 'in', nextAttempt: null } },
        {},
        {},
        { plan: 'ended' },
      ),
    'Your payment for Tandem & Co did not go through',
    ['and the plan has ended', 'you can still restore and export your cloud backups'],
    PRICING,
  ],
  [
    'mail.payment-failed, when the plan has not started',
    (letterhead) =>
      mailOf(
        letterhead,
        { kind: 'mail.payment-failed', data: { invoiceId: 'in', nextAttempt: null } },
        {},
        {},
        { plan: 'not-started' },
      ),
    'Your payment for Tandem & Co did not go through',
    ['your plan has not started', 'Nothing was charged.'],
    PRICING,
  ],
  [
    'mail.operator',
    (letterhead) =>
      mailOf(letterhead, {
        kind: 'mail.operator',
        data: { problems: ['2 events failed.', 'A <mail> waits.'] },
      }),
    'Tandem & Co needs your attention',
    ['2 events failed.', 'A <mail> waits.', 'once a day while something is wrong'],
    null,
  ],
];
