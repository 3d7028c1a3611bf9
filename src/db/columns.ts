import type { Engine } from './transaction.ts';

/** How a column is read from JSON and written to it. */
export type ColumnType = 'text' | 'int' | 'bool' | 'instant';

export type Columns = Readonly<Record<string, ColumnType>>;

const SUBSCRIPTION = {
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
} as const;

/** The columns that billing loads and writes, table by table. */
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
  },
  Subscription: SUBSCRIPTION,
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
    causeId: 'text',
    note: 'text',
  },
} as const satisfies Record<string, Columns>;

export type TableName = keyof typeof COLUMNS;

/** PostgreSQL's names of the types. */
const POSTGRESQL_TYPES: Readonly<Record<ColumnType, string>> = {
  text: 'text',
  int: 'integer',
  bool: 'boolean',
  instant: 'timestamp',
};

/** In SQL: the rows `v` of a JSON array that is the statement's one parameter, each an array of its columns. */
export const JSON_ROWS: Readonly<Record<Engine, string>> = {
  sqlite: 'json_each(?) AS v',
  postgresql: 'jsonb_array_elements($1::jsonb) AS v(value)',
};

/**
 * @param engine the database's engine
 * @param index which column of a row of `JSON_ROWS`
 * @param type of the column
 * @returns its value, in SQL
 */
export function jsonValue(engine: Engine, index: number, type: ColumnType): string {
  return engine === 'sqlite' ? `v.value ->> ${index}` : `(v.value ->> ${index})::${POSTGRESQL_TYPES[type]}`;
}

/** Instants in a JSON document are what the column holds: SQLite's adapter writes the offset out, PostgreSQL has none. */
const SUFFIX: Readonly<Record<Engine, string>> = { sqlite: '+00:00', postgresql: '' };

/**
 * @param values a row as a JSON array, in the order of the columns
 * @param columns the columns
 * @returns the row
 */
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

/**
 * @param row a row
 * @param columns the columns to write
 * @param engine whose instants to write
 * @returns the row as an array for JSON, in the order of the columns
 */
export function toJson(row: object, columns: readonly string[], engine: Engine): unknown[] {
  return columns.map((column) => {
    const value = (row as Record<string, unknown>)[column];
    return value instanceof Date ? instantText(value, engine) : value;
  });
}

/**
 * @param instant an instant
 * @param engine the database's engine
 * @returns the text by which the database knows it
 */
export function instantText(instant: Date, engine: Engine): string {
  return instant.toISOString().replace('Z', SUFFIX[engine]);
}
