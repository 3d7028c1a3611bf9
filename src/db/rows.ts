import type {
  AuditRow,
  CreditEntry,
  Customer,
  Dispute,
  Invoice,
  OutboxItem,
  Payment,
  Referral,
  Subscription,
  User,
} from './generated/client.ts';

/**
 * The columns of a user that billing reads and changes, and the hashes of former addresses that count (design: rule
 * 11).
 */
export type UserRow = Pick<
  User,
  | 'id'
  | 'emailHash'
  | 'tier'
  | 'creditUntil'
  | 'creditHeldAt'
  | 'creditEntryCount'
  | 'creditEntryAt'
  | 'deletedAt'
> & { formerHashes: readonly string[] };

/**
 * A referral, and whether its addresses rule out a conversion (design: rule 11). Both flags are false once it is no
 * longer open.
 */
export type ReferralRow = Referral & { ownAddress: boolean; addressConverted: boolean };

/**
 * The rows a transaction has loaded or added. Rows are never mutated: a change replaces the object, so comparing
 * references tells what has changed.
 */
export interface Rows {
  users: Map<string, UserRow>;
  customers: Map<string, Customer>;
  subscriptions: Map<string, Subscription>;
  invoices: Map<string, Invoice>;
  payments: Map<string, Payment>;
  disputes: Map<string, Dispute>;
  /** Keyed by the referred user. */
  referrals: Map<string, ReferralRow>;
  entries: CreditEntry[];
  audit: AuditRow[];
  /** Appended to the outbox. */
  outbox: OutboxItem[];
}

/** A copy that can be changed without affecting the original. */
export function fork(rows: Rows): Rows {
  return {
    users: new Map(rows.users),
    customers: new Map(rows.customers),
    subscriptions: new Map(rows.subscriptions),
    invoices: new Map(rows.invoices),
    payments: new Map(rows.payments),
    disputes: new Map(rows.disputes),
    referrals: new Map(rows.referrals),
    entries: [...rows.entries],
    audit: [...rows.audit],
    outbox: [...rows.outbox],
  };
}

export function noRows(): Rows {
  return {
    users: new Map(),
    customers: new Map(),
    subscriptions: new Map(),
    invoices: new Map(),
    payments: new Map(),
    disputes: new Map(),
    referrals: new Map(),
    entries: [],
    audit: [],
    outbox: [],
  };
}
