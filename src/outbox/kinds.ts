/**
 * The data of each kind of item, besides the account. It never holds a token: links are derived when an email
 * is sent.
 */
export interface OutboxKinds {
  /** To the account's own address, or to the new one of a change. Null in rows of earlier versions. */
  'mail.prove-address': { isChange: boolean } | null;
  'mail.reset-password': null;
  'mail.password-changed': null;
  /** To the old address, when a change is requested. */
  'mail.address-changing': null;
  /** To the old address, when the new one has been proven. */
  'mail.address-changed': null;
  'mail.account-deleted': null;
  /** Sent to both sides of a conversion. */
  'mail.days-granted': { referralId: string; side: 'referrer' | 'referred'; seconds: number };
  'mail.days-reversed': {
    referralId: string;
    side: 'referrer' | 'referred';
    seconds: number;
    because: ReversalReason;
  };
  'mail.days-restored': { referralId: string; side: 'referrer' | 'referred'; seconds: number };
  /** The user has no paid plan any more, and the free days that they have left are counting down now. */
  'mail.days-running': null;
  /** `until`: when the credit runs out, ISO 8601. The email is dropped if that has changed. */
  'mail.days-ending': { until: string };
  'mail.days-ended': { until: string };
  /**
   * `subscriptionId` is absent in items queued by older versions. `nextAttempt`: when Stripe tries again, ISO 8601;
   * null when Stripe does not say.
   */
  'mail.payment-failed': { invoiceId: string; subscriptionId?: string | null; nextAttempt: string | null };
  'mail.operator': { problems: string[] };
  /**
   * Sends the account's current address to Stripe; for a retired customer without a live plan the item's own address, if it
   * has one.
   */
  'stripe.customer-address': { customerId: string };
  /** Expires a checkout session, so that it can no longer be completed. */
  'stripe.expire-checkout': { sessionId: string };
}

/** What became of the payment: refunded, lost in a dispute, never collected, or found to be another account's. */
export type ReversalReason = 'refund' | 'dispute' | 'unpaid' | 'moved';

export type OutboxKind = keyof OutboxKinds;

export type MailKind = Extract<OutboxKind, `mail.${string}`>;

/** Mail about the account, and mail to the operator. All other mail can be turned off (design: rule 12). */
const ALWAYS_SENT: ReadonlySet<MailKind> = new Set([
  'mail.prove-address',
  'mail.reset-password',
  'mail.password-changed',
  'mail.address-changing',
  'mail.address-changed',
  'mail.account-deleted',
  'mail.operator',
]);

/** Whether the account's owner can turn off mail of this kind. */
export function canBeTurnedOff(kind: MailKind): boolean {
  return !ALWAYS_SENT.has(kind);
}

/** Whether mail of this kind protects an account: a link that lets its owner in, or a notice of a change. */
export function protectsAccount(kind: MailKind): boolean {
  return !canBeTurnedOff(kind) && kind !== 'mail.prove-address';
}

/** What an item is about: its kind, and the data of that kind. */
export type OutboxWork = { [Kind in OutboxKind]: { kind: Kind; data: OutboxKinds[Kind] } }[OutboxKind];

export type MailWork = Extract<OutboxWork, { kind: MailKind }>;

export function isMail(kind: string): boolean {
  return kind.startsWith('mail.');
}

export function isMailWork(work: OutboxWork): work is MailWork {
  return isMail(work.kind);
}

/** Parses a row of the outbox. The cast is safe because only `queue` and `queueNow` write these rows. */
export function workOf({ kind, data }: { kind: string; data: string }): OutboxWork {
  return { kind, data: JSON.parse(data) as unknown } as OutboxWork;
}
