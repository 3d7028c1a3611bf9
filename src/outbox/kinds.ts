/** What each kind of outbox item needs to know, besides the account. Never a token: links are derived when a mail is sent. */
export interface OutboxKinds {
  /** Prove the address: the account's, or the one that a change is pending to. */
  'mail.prove-address': null;
  'mail.reset-password': null;
  'mail.password-changed': null;
  /** To the old address, when a change to another one was asked for. */
  'mail.address-changing': null;
  /** To the old address, when the new one was proven. */
  'mail.address-changed': null;
  'mail.account-deleted': null;
  /** Of a conversion, to both sides. */
  'mail.days-granted': { referralId: string; side: 'referrer' | 'referred'; seconds: number };
  'mail.days-reversed': { referralId: string; side: 'referrer' | 'referred'; seconds: number };
  'mail.days-restored': { referralId: string; side: 'referrer' | 'referred'; seconds: number };
  /** A paid plan ended while days were left: they count down from now on. */
  'mail.days-running': null;
  /** `until`: when credit runs out, ISO 8601; the mail is dropped when that has changed. */
  'mail.days-ending': { until: string };
  'mail.days-ended': { until: string };
  /** `nextAttempt`: when Stripe tries again, ISO 8601; null when it does not say. */
  'mail.payment-failed': { invoiceId: string; nextAttempt: string | null };
  /** To the operator. */
  'mail.operator': { problems: string[] };
  /** Tell Stripe the account's address of the moment. */
  'stripe.customer-address': { customerId: string };
}

export type OutboxKind = keyof OutboxKinds;

/** A mail's kind. */
export type MailKind = Extract<OutboxKind, `mail.${string}`>;

/** Mail about the account is always sent. The rest can be turned off (design: rule 12). */
const ABOUT_THE_ACCOUNT: ReadonlySet<MailKind> = new Set([
  'mail.prove-address',
  'mail.reset-password',
  'mail.password-changed',
  'mail.address-changing',
  'mail.address-changed',
  'mail.account-deleted',
  'mail.operator',
]);

/** @returns whether an account's owner can turn mail of this kind off */
export function canBeTurnedOff(kind: MailKind): boolean {
  return !ABOUT_THE_ACCOUNT.has(kind);
}

/** An item of any kind, with its data parsed. */
export type OutboxWork = { [Kind in OutboxKind]: { kind: Kind; data: OutboxKinds[Kind] } }[OutboxKind];

/** An item that is a mail. */
export type MailWork = Extract<OutboxWork, { kind: MailKind }>;

/** @returns whether the work is a mail, and no change at Stripe */
export function isMailWork(work: OutboxWork): work is MailWork {
  return work.kind.startsWith('mail.');
}

/**
 * @param item a row of the outbox
 * @returns what is to be done. Only this code writes rows, so the data is what the kind says
 */
export function workOf({ kind, data }: { kind: string; data: string }): OutboxWork {
  return { kind, data: JSON.parse(data) as unknown } as OutboxWork;
}
