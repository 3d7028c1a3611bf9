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

/** Of a user, what billing reads and changes. */
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
>;

/** A referral, and whether it may convert as far as addresses decide that (design: rule 11); asked while it is open. */
export type ReferralRow = Referral & { ownAddress: boolean; addressConverted: boolean };

/**
 * The rows that a transaction has loaded, one object a row, and those that it adds. A row is never changed: a change puts
 * another object in its place, so what has changed is what is another object than was loaded.
 */
export interface Rows {
  users: Map<string, UserRow>;
  customers: Map<string, Customer>;
  subscriptions: Map<string, Subscription>;
  invoices: Map<string, Invoice>;
  payments: Map<string, Payment>;
  disputes: Map<string, Dispute>;
  /** By the referred user. */
  referrals: Map<string, ReferralRow>;
  /** Appended to the credit ledger. */
  entries: CreditEntry[];
  /** Appended to the audit. */
  audit: AuditRow[];
  /** Appended to the outbox. */
  outbox: OutboxItem[];
}

/** @returns the same rows, to be changed without changing the others */
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

/** @returns no rows at all */
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

/**
 * @param before rows as they were loaded
 * @param after the same rows later
 * @returns those that were added or changed
 */
export function changed<Row>(before: ReadonlyMap<string, Row>, after: ReadonlyMap<string, Row>): Row[] {
  return [...after].filter(([key, row]) => before.get(key) !== row).map(([, row]) => row);
}
