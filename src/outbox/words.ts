import { creditLeft } from '../credits/balance.ts';
import type { User } from '../db/generated/client.ts';
import { REFERRAL_CREDIT_DAYS } from '../referrals/convert.ts';
import { inDays, inDaysLeft, longDate } from '../wording.ts';
import type { MailFacts } from './facts.ts';
import type { MailKind, MailWork, ReversalReason } from './kinds.ts';

/** The content of an email. Both the HTML and the plain text are made from it. */
export interface Words {
  subject: string;
  /** Plain text, one entry per paragraph. */
  paragraphs: string[];
  /** Shown after the paragraphs. */
  list?: string[];
  button?: { label: string; url: string };
  /** Paragraphs after the button. */
  after?: string[];
}

/** What the texts need besides the email's own data. */
export interface WordsContext {
  brand: string;
  /** CONTACT_EMAIL; null when it is not set. */
  contact: string | null;
  publicUrl: string;
  /** The recipient's address. */
  to: string;
  facts: MailFacts;
  /** The link with a token; null for emails that have none. */
  link: string | null;
  /** True when the address to be proven is the new one of a pending change. */
  isChange: boolean;
  /** True when another account has that address, and would lose it. */
  replaces: boolean;
  now: Date;
}

type WordsOf<Kind extends MailKind> = (
  data: Extract<MailWork, { kind: Kind }>['data'],
  context: WordsContext,
) => Words;

/** Says in the present tense how many free days the user has. */
function whatIsLeft(user: User | null, now: Date): string {
  const left = user ? creditLeft(user, now) : 0;
  if (!user?.creditUntil || left <= 0) return 'You have no free days left.';
  if (user.creditHeldAt) {
    return `You have ${free(inDaysLeft(left))}, paused while you pay. The countdown starts when your plan ends.`;
  }
  return `Your free days are counting down now. They last until ${longDate(user.creditUntil)}.`;
}

function freeDays(seconds: number): string {
  return free(inDays(seconds));
}

/** "2 days" becomes "2 free days". */
function free(days: string): string {
  return days.replace(/ (days?)$/, ' free $1').replace('than a', 'than one');
}

const OFFER = `${REFERRAL_CREDIT_DAYS} free days`;

/** Names the payment that an email to one side is about. It must say nothing else about the friend. */
const WHOSE = {
  referrer: 'the first payment of a friend you invited',
  referred: 'your first payment',
};

const BECAUSE: Readonly<Record<ReversalReason, string>> = {
  refund: 'That payment was refunded.',
  dispute: 'That payment was disputed with the bank, and the money was returned.',
  unpaid: 'That payment did not go through after all.',
  moved: 'That payment turned out to belong to another account.',
};

/** What stays without paid access. */
function whatStays(your: 'Your' | 'After that, your'): string {
  return `${your} portfolio stays in your browser, and you can still restore and export your cloud backups. Only new ones need paid access.`;
}

/** Whether the account has a plan that gives no access now. The pricing page sells no second one. */
function hasPlan({ plan }: MailFacts): boolean {
  return plan !== 'ended' && plan !== 'not-started';
}

function whereToPay(facts: MailFacts, publicUrl: string): { label: string; url: string } {
  return hasPlan(facts)
    ? { label: 'See your plan', url: `${publicUrl}/settings` }
    : { label: 'See the plans', url: `${publicUrl}/pricing` };
}

function contactUs({ contact }: WordsContext): string {
  return contact === null ? 'contact us' : `write to ${contact}`;
}

/** Says what a failed payment means for the plan, as the pages do, and what to do about it. */
function paymentFailed(next: Date | null, context: WordsContext): Words {
  const { brand, publicUrl, facts, now } = context;
  const subject = `Your payment for ${brand} did not go through`;
  const plans = { label: 'See the plans', url: `${publicUrl}/pricing` };
  const settings = { label: 'See what you can do', url: `${publicUrl}/settings` };
  switch (facts.plan) {
    case 'not-started': {
      const what = `We could not collect your first payment for ${brand}, so your plan has not started.`;
      return { subject, paragraphs: [`${what} Nothing was charged.`], button: plans };
    }
    case 'ended': {
      const what = `We could not collect the payment for your ${brand} plan, and the plan has ended.`;
      return {
        subject,
        paragraphs: [`${what} You will not be charged again.`, whatStays('Your')],
        button: plans,
      };
    }
    case 'unpaid': {
      const what = `We could not collect the payment for your ${brand} plan, and we have stopped trying.`;
      const then = 'You will have paid access once the open invoice is paid.';
      return { subject, paragraphs: [what, then], button: settings };
    }
    case 'paused': {
      const what = `We could not collect the payment for your ${brand} plan, and the plan is paused.`;
      const then = `Check that a valid card is on file, then ${contactUs(context)}.`;
      return { subject, paragraphs: [what, then], button: settings };
    }
    case 'first-payment-due':
    case 'another':
    case 'live': {
      const isFirst = facts.plan === 'first-payment-due';
      const what = `We could not collect ${isFirst ? 'your first payment' : 'the payment'} for your ${brand} plan.`;
      if (next !== null && next > now) {
        const then = isFirst
          ? 'Your plan starts once the payment goes through.'
          : 'You keep your plan if the payment goes through.';
        return {
          subject,
          paragraphs: [what, `We will try again on ${longDate(next)}. Check your card before then. ${then}`],
          button: { ...settings, label: 'Check your card' },
          after: ['On that page, press “Check your card”.'],
        };
      }
      const then = isFirst
        ? 'Your plan starts once the payment goes through.'
        : 'Your plan will end unless the payment goes through.';
      const due = next && `Another attempt was due on ${longDate(next)}. Settings shows the current state.`;
      return { subject, paragraphs: [what, due ?? then], button: settings };
    }
  }
}

function addressChanged(context: WordsContext): Words {
  const { brand } = context;
  return {
    subject: `Your ${brand} address was changed`,
    paragraphs: [
      `The email address of your ${brand} account was changed, and the new address was confirmed. From now on, log in with the new address.`,
      'If that was you, there is nothing to do.',
      `If it was not you, ${contactUs(context)} at once.`,
    ],
  };
}

const WORDS: { [Kind in MailKind]: WordsOf<Kind> } = {
  'mail.prove-address': (_data, { brand, isChange, replaces, link }) => ({
    subject: replaces
      ? `Another ${brand} account wants to use your address`
      : isChange
        ? `Confirm your new address for ${brand}`
        : `Confirm your email address for ${brand}`,
    paragraphs: [
      replaces
        ? `Somebody asked to move their ${brand} account to this address, which another ${brand} account has now. If it was you, confirm: your account moves to this address, and the account that has it now is deleted.`
        : isChange
          ? `You asked to change the address of your ${brand} account to this one. Confirm that the address is yours, and the change takes effect.`
          : `This is the address of a ${brand} account. Confirm that it is yours, so that nobody else can take the account over.`,
    ],
    button: { label: 'Confirm this address', url: link ?? '' },
    after: [
      'The link works for three days.',
      replaces
        ? 'If it was not you, ignore this email. Nothing changes.'
        : isChange
          ? 'If you did not ask for this, ignore this email. Confirming gives this address to the account that asked for it, and deletes any account that somebody opened with this address but never confirmed or paid for.'
          : 'If this is not your account, do not confirm: somebody else used your address. Ignore this email. If you want an account with this address, use “Forgotten your password?” on the login page. If nobody has paid for the account, that also deletes its backups and cancels its plan.',
    ],
  }),
  'mail.reset-password': (_data, { brand, link }) => ({
    subject: `Reset your ${brand} password`,
    paragraphs: [`Somebody, probably you, asked for a new password for your ${brand} account.`],
    button: { label: 'Choose a new password', url: link ?? '' },
    after: [
      'The link works once, within an hour.',
      'If you did not ask for it, ignore this email. Your password stays the same.',
    ],
  }),
  'mail.password-changed': (_data, context) => ({
    subject: `Your ${context.brand} password was changed`,
    paragraphs: [
      `The password of your ${context.brand} account was changed, and all other devices were logged out.`,
      'If that was you, there is nothing to do.',
      `If it was not you, choose a new password now, then ${contactUs(context)}.`,
    ],
    button: { label: 'Choose a new password', url: `${context.publicUrl}/forgot` },
  }),
  'mail.address-changing': (_data, context) => {
    // A retry can come after the change.
    if (context.facts.user?.email !== context.to) return addressChanged(context);
    return {
      subject: `Your ${context.brand} address is about to change`,
      paragraphs: [
        `Somebody who is logged in to your ${context.brand} account asked to change its email address. The change takes effect once the new address is confirmed. Until then, this address stays in use.`,
        'If that was you, there is nothing to do here: open the email that we sent to the new address.',
        `If it was not you, reset your password now. That cancels the change and logs everybody else out.`,
      ],
      button: { label: 'Reset your password', url: `${context.publicUrl}/forgot` },
    };
  },
  'mail.address-changed': (_data, context) => addressChanged(context),
  'mail.account-deleted': (_data, context) => ({
    subject: `Your ${context.brand} account was deleted`,
    paragraphs: [
      `Your ${context.brand} account was deleted, together with its cloud backups and its free days. If you had a plan, it was cancelled and you will not be charged again.`,
      `Thanks for trying ${context.brand}.`,
      `If you did not delete your account, ${contactUs(context)}.`,
    ],
  }),
  'mail.days-granted': ({ side, seconds }, { brand, publicUrl, facts, now }) => ({
    subject:
      side === 'referrer'
        ? `A friend you invited has paid: you both got ${freeDays(seconds)}`
        : `We received your payment: you got ${freeDays(seconds)}`,
    paragraphs: [
      side === 'referrer'
        ? `A friend you invited to ${brand} has made their first payment. You both got ${freeDays(seconds)} for it.`
        : `We received your first payment for ${brand}. Because a friend invited you, you got ${freeDays(seconds)}.`,
      whatIsLeft(facts.user, now),
    ],
    button: { label: 'See your free days', url: `${publicUrl}/settings` },
    after: [
      `Invite ${side === 'referrer' ? 'another' : 'a'} friend: when they pay, you and they each get ${OFFER}. Your referral link is in Settings.`,
    ],
  }),
  'mail.days-reversed': ({ side, seconds, because }, { brand, publicUrl, facts, now }) => ({
    subject: `We took back ${freeDays(seconds)}`,
    paragraphs: [
      `You got free days on ${brand} because of ${WHOSE[side]}. ${BECAUSE[because]}`,
      `So we took back the unused part: ${inDays(seconds)}. The days you have already used are not affected.`,
      whatIsLeft(facts.user, now),
    ],
    button: { label: 'See your free days', url: `${publicUrl}/settings` },
  }),
  'mail.days-restored': ({ side, seconds }, { brand, publicUrl, facts, now }) => ({
    subject: `You got ${freeDays(seconds)}`,
    paragraphs: [
      // The days may have been taken back before anybody was told of them.
      `You get free days on ${brand} for ${WHOSE[side]}. For a while, that payment did not count. Now it does, or a later one does, so you got ${inDays(seconds)}.`,
      whatIsLeft(facts.user, now),
    ],
    button: { label: 'See your free days', url: `${publicUrl}/settings` },
  }),
  'mail.days-running': (_data, { brand, publicUrl, facts, now }) => {
    const { user } = facts;
    // Dropped when no days are left, so there is an end.
    const until = longDate(user?.creditUntil ?? now);
    return {
      subject: `Your free days are counting down and last until ${until}`,
      paragraphs: [
        // The plan may have ended or moved to another account, or its payment may have failed.
        `You no longer have a paid plan on ${brand}, so the free days that were paused are counting down now.`,
        `You have paid access until ${until}: ${inDaysLeft(user ? creditLeft(user, now) : 0)} left. These days cost nothing.`,
      ],
      button: whereToPay(facts, publicUrl),
    };
  },
  'mail.days-ending': ({ until }, { brand, publicUrl, facts, now }) => ({
    subject: `Your free days end on ${longDate(new Date(until))}`,
    paragraphs: [
      `You have paid access to ${brand} until ${longDate(new Date(until))}: ${inDaysLeft(facts.user ? creditLeft(facts.user, now) : 0)} left.`,
      whatStays('After that, your'),
      hasPlan(facts)
        ? `Your plan is not active at the moment: Settings says why. You can also invite a friend: when they pay, you both get ${OFFER}.`
        : `To keep paid access, choose a plan or invite a friend: when they pay, you both get ${OFFER}.`,
    ],
    button: whereToPay(facts, publicUrl),
  }),
  'mail.days-ended': (_data, { brand, publicUrl, facts }) => ({
    subject: 'Your free days have ended',
    paragraphs: [
      `Your free days on ${brand} have ended, and so has your paid access. Nothing was charged.`,
      whatStays('Your'),
      ...(hasPlan(facts) ? ['Your plan is not active at the moment: Settings says why.'] : []),
    ],
    button: whereToPay(facts, publicUrl),
  }),
  'mail.payment-failed': ({ nextAttempt }, context) =>
    paymentFailed(nextAttempt === null ? null : new Date(nextAttempt), context),
  'mail.operator': ({ problems }, { brand, publicUrl }) => ({
    subject: `${brand} needs your attention`,
    paragraphs: [`Something is wrong with the server at ${publicUrl}:`],
    list: problems,
    after: ['You get this email once a day while something is wrong.'],
  }),
};

/** Returns the content of an email. */
export function wordsOf(work: MailWork, context: WordsContext): Words {
  // Each function takes the data of its own kind, but the compiler cannot follow that through the look-up.
  const words = WORDS[work.kind] as (data: MailWork['data'], context: WordsContext) => Words;
  return words(work.data, context);
}
