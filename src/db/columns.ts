import type { Engine } from './transaction.ts';

/** How a column's value is written in JSON. */
export type ColumnType = 'text' | 'int' | 'bool' | 'instant';

export type Columns = Readonly<Record<string, ColumnType>>;

/** The columns that billing loads and writes, by table. */
export const COLUMNS = {
  User: {
    id: 'text',
    emailHash: 'text',
    tier: 'text',
    creditUntil: 'instant',
    creditHeldAt: 'instant',
    creditEntryCount: 'int',
    creditEntryAt: 'instant',
    deletedAt: 'instant',
  },
  Customer: {
    id: 'text',
    userId: 'text',
    linkedAt: 'instant',
    deletedAt: 'instant',
    missingAt: 'instant',
    ours: 'bool',
    retiredAt: 'instant',
    balanceTo: 'text',
    balanceMovedAt: 'instant',
    balanceTries: 'int',
  },
  Subscription: {
    id: 'text',
    customerId: 'text',
    status: 'text',
    createdAt: 'instant',
    priceId: 'text',
    currentPeriodEnd: 'instant',
    otherItems: 'text',
    trialEnd: 'instant',
    cancelAt: 'instant',
    cancelAtPeriodEnd: 'bool',
    collectionPaused: 'bool',
    collectionResumesAt: 'instant',
    endedAt: 'instant',
    endReason: 'text',
    nextAttemptAt: 'instant',
    snapshotAt: 'instant',
    snapshotEventId: 'text',
    statusAt: 'instant',
    givesSince: 'instant',
    gaveOtherwiseAt: 'instant',
    needsReconcile: 'bool',
    missingAt: 'instant',
    counts: 'bool',
    counted: 'bool',
    activeAt: 'instant',
    doubtAt: 'instant',
    checkoutUnpaid: 'bool',
    provenAt: 'instant',
    firstPaidAt: 'instant',
    moneyBack: 'bool',
    trialHash: 'text',
    trialRefused: 'bool',
    trialReleased: 'bool',
  },
  Invoice: {
    id: 'text',
    subscriptionId: 'text',
    first: 'bool',
    positive: 'bool',
    paidAt: 'instant',
    failedAt: 'instant',
  },
  Payment: {
    id: 'text',
    invoiceId: 'text',
    firstRefundedAt: 'instant',
    refundedAt: 'instant',
    refundFailedAt: 'instant',
  },
  Dispute: { id: 'text', paymentId: 'text', createdAt: 'instant', status: 'text', snapshotAt: 'instant' },
  Referral: {
    id: 'text',
    referrerId: 'text',
    referredId: 'text',
    referredHash: 'text',
    createdAt: 'instant',
    convertedAt: 'instant',
    creditedAt: 'instant',
    reversedAt: 'instant',
    refusedFor: 'text',
  },
  CreditEntry: {
    userId: 'text',
    seq: 'int',
    at: 'instant',
    kind: 'text',
    seconds: 'int',
    referralId: 'text',
    causeId: 'text',
  },
  OutboxItem: {
    id: 'text',
    kind: 'text',
    userId: 'text',
    address: 'text',
    data: 'text',
    createdAt: 'instant',
    dueAt: 'instant',
    attempts: 'int',
    status: 'text',
    endedAt: 'instant',
    error: 'text',
    mailbox: 'text',
  },
  AuditRow: {
    id: 'text',
    userId: 'text',
    at: 'instant',
    actor: 'text',
    kind: 'text',
    fromTier: 'text',
    toTier: 'text',
    seconds: 'int',
    customerId: 'text',
    otherUserId: 'text',
    causeId: 'text',
    note: 'text',
  },
} as const satisfies Record<string, Columns>;

export type TableName = keyof typeof COLUMNS;

const POSTGRESQL_TYPES: Readonly<Record<ColumnType, string>> = {
  text: 'text',
  int: 'integer',
  bool: 'boolean',
  instant: 'timestamp',
};

/** SQL for the statement's one parameter: a JSON array of rows `v`, each an array of column values. */
export const JSON_ROWS: Readonly<Record<Engine, string>> = {
  sqlite: 'json_each(?) AS v',
  postgresql: 'jsonb_array_elements($1::jsonb) AS v(value)',
};

/** SQL for column `index` of a row of `JSON_ROWS`. */
export function jsonValue(engine: Engine, index: number, type: ColumnType): string {
  return engine === 'sqlite' ? `v.value ->> ${index}` : `(v.value ->> ${index})::${POSTGRESQL_TYPES[type]}`;
}

/** Instants are written as the column stores them: SQLite's adapter writes the UTC offset, PostgreSQL has none. */
const SUFFIX: Readonly<Record<Engine, string>> = { sqlite: '+00:00', postgresql: '' };

/** @param values a row as a JSON array, in the order of `columns` */
export function fromJson(values: readonly unknown[], columns: Columns): Record<string, unknown> {
  const row: Record<string, unknown> = {};
  let index = 0;
  for (const column in columns) {
    const value = values[index++];
    const type = columns[column];
    row[column] =
      value === null || type === 'text' || type === 'int'
        ? value
        : type === 'bool'
          ? Boolean(value)
          : instantOf(value as string);
  }
  return row;
}

function instantOf(text: string): Date {
  return new Date(/[Z+]/.test(text) ? text : `${text}Z`);
}

/** The row as a JSON array, in the order of `columns`. */
export function toJson(row: object, columns: readonly string[], engine: Engine): unknown[] {
  return columns.map((column) => {
    const value = (row as Record<string, unknown>)[column];
    return value instanceof Date ? instantText(value, engine) : value;
  });
}

/** The instant as the database stores it. */
export function instantText(instant: Date, engine: Engine): string {
  return instant.toISOString().replace('Z', SUFFIX[engine]);
}
