import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

import type {
  BalanceTransaction,
  Charge,
  CheckoutSession,
  Customer,
  DeletedCustomer,
  Discount,
  Dispute,
  Invoice,
  InvoicePayment,
  Mail,
  Order,
  PaymentIntent,
  PortalSession,
  Refund,
  StripeEvent,
  Subscription,
} from './types.ts';

/** The answer to a POST with an `Idempotency-Key`, stored under that key. */
export interface StoredAnswer {
  id: string;
  /** Digest of path and parameters. */
  request: string;
  /** Epoch seconds. */
  at: number;
  answer: unknown;
}

/** Whether a customer's card accepts later charges. */
export type CardBehaviour = 'works' | 'declined';

/** A customer's card, stored under the customer's id. */
export interface Card {
  id: string;
  behaviour: CardBehaviour;
  /** The name shown on pages; absent for the first test card. */
  name?: string;
}

/** How programs on this machine reach the API of the running sandbox. */
export interface Access {
  apiBase: string;
  apiKey: string;
}

/** All of the sandbox's state. Maps keep the order of creation. */
export interface State {
  customers: Map<string, Customer | DeletedCustomer>;
  checkouts: Map<string, CheckoutSession>;
  orders: Map<string, Order & { id: string }>;
  subscriptions: Map<string, Subscription>;
  invoices: Map<string, Invoice>;
  invoicePayments: Map<string, InvoicePayment>;
  paymentIntents: Map<string, PaymentIntent>;
  charges: Map<string, Charge>;
  refunds: Map<string, Refund>;
  disputes: Map<string, Dispute>;
  discounts: Map<string, Discount>;
  /** Only those made through the API. Credit applied to an invoice creates none. */
  balanceTransactions: Map<string, BalanceTransaction>;
  /** Only the cards that were changed. All others work. */
  cards: Map<string, Card>;
  portals: Map<string, PortalSession>;
  events: Map<string, StripeEvent>;
  answers: Map<string, StoredAnswer>;
  mails: Map<string, Mail>;
  /** Ids of the events still to be delivered: neither acknowledged, nor given up, nor lost. */
  undelivered: Set<string>;
  /** How far the clock is ahead of the real one, ms. */
  aheadMs: number;
  /** Whether the webhooks of what happens next will be lost. */
  losesNext: boolean;
  /** Null while the sandbox is off, except after a crash. */
  access: Access | null;
}

/** The parts of the state that are not collections of objects. */
export type NotCollections = 'undelivered' | 'aheadMs' | 'losesNext' | 'access';

/** Increase this when old files can no longer be read. */
const VERSION = 2;

/** The file contains plain arrays, because each object has its own id. */
type StateFile = { version: typeof VERSION; undelivered: string[] } & {
  [K in keyof Omit<State, NotCollections>]: State[K] extends Map<string, infer T> ? T[] : never;
} & Partial<Pick<State, 'aheadMs' | 'losesNext' | 'access'>>;

/**
 * Loads the state from its file.
 *
 * @param file the state is empty when this is undefined or the file is missing
 * @throws Error with a readable message when the file is not a state file of this version
 */
export function loadState(file: string | undefined): State {
  const saved = file === undefined ? undefined : readStateFile(file);
  return {
    customers: byId(saved?.customers),
    checkouts: byId(saved?.checkouts),
    orders: byId(saved?.orders),
    subscriptions: byId(saved?.subscriptions),
    invoices: byId(saved?.invoices),
    invoicePayments: byId(saved?.invoicePayments),
    paymentIntents: byId(saved?.paymentIntents),
    charges: byId(saved?.charges),
    refunds: byId(saved?.refunds),
    disputes: byId(saved?.disputes),
    discounts: byId(saved?.discounts),
    balanceTransactions: byId(saved?.balanceTransactions),
    cards: byId(saved?.cards),
    portals: byId(saved?.portals),
    events: byId(saved?.events),
    answers: byId(saved?.answers),
    mails: byId(saved?.mails),
    undelivered: new Set(saved?.undelivered),
    // The first files of this version lack these.
    aheadMs: saved?.aheadMs ?? 0,
    losesNext: saved?.losesNext ?? false,
    access: saved?.access ?? null,
  };
}

/**
 * Writes the state to a new file and renames it over the old one, so that a crash leaves one of the two
 * intact. Only the owner can read the file.
 */
export function saveState(state: State, file: string): void {
  const saved: StateFile = {
    version: VERSION,
    customers: [...state.customers.values()],
    checkouts: [...state.checkouts.values()],
    orders: [...state.orders.values()],
    subscriptions: [...state.subscriptions.values()],
    invoices: [...state.invoices.values()],
    invoicePayments: [...state.invoicePayments.values()],
    paymentIntents: [...state.paymentIntents.values()],
    charges: [...state.charges.values()],
    refunds: [...state.refunds.values()],
    disputes: [...state.disputes.values()],
    discounts: [...state.discounts.values()],
    balanceTransactions: [...state.balanceTransactions.values()],
    cards: [...state.cards.values()],
    portals: [...state.portals.values()],
    events: [...state.events.values()],
    answers: [...state.answers.values()],
    mails: [...state.mails.values()],
    undelivered: [...state.undelivered],
    aheadMs: state.aheadMs,
    losesNext: state.losesNext,
    access: state.access,
  };
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const fresh = `${file}.${process.pid}.tmp`;
  // A file left behind by a crash would keep its own mode.
  rmSync(fresh, { force: true });
  writeFileSync(fresh, JSON.stringify(saved), { mode: 0o600 });
  renameSync(fresh, file);
}

function readStateFile(file: string): StateFile | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      return undefined;
    }
    throw new Error(
      `${file} cannot be read: ${error instanceof Error ? error.message : String(error)}. Give the user that runs the server permission to read it`,
      { cause: error },
    );
  }
  const saved = parse(text);
  if (saved === undefined) {
    throw new Error(`${file} is not a state file of this sandbox. Delete it; the sandbox then starts empty`);
  }
  return saved;
}

/** Only this module writes the file, so checking the version number is enough. */
function parse(text: string): StateFile | undefined {
  try {
    const saved = JSON.parse(text) as StateFile | null;
    return saved?.version === VERSION ? saved : undefined;
  } catch {
    return undefined;
  }
}

function byId<T extends { id: string }>(things: T[] | undefined): Map<string, T> {
  return new Map((things ?? []).map((thing) => [thing.id, thing]));
}
