import type { Stripe } from 'stripe';

import type { Event, User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { PlainError } from '../plain-error.ts';
import { findReferrer } from '../referrals/codes.ts';
import type { CommandContext } from './command.ts';

/** What `accountOf` searches. */
export type Finder = Pick<CommandContext, 'config' | 'db' | 'stripe'>;

const STRIPE_ID = /^(cus|sub|in|pi|ch|py|cs|evt)_\w+$/;

const WAYS =
  'Give an address, a user id, a referral code or a Stripe id (cus_, sub_, in_, pi_, ch_, py_, cs_ or evt_).';

const USER_ID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/;

/**
 * The account that an operator means. Only an id can lead to a deleted one.
 *
 * @param who an address in any case, a user id, a referral code as typed or pasted, or a Stripe id that leads to a user
 * @throws PlainError when nothing or nobody is found, or Stripe has to be asked and does not answer
 */
export async function accountOf(finder: Finder, who: string): Promise<User> {
  const { db } = finder;
  const text = who.trim();
  if (text === '') throw notFound(`No account was given. ${WAYS}`);
  if (STRIPE_ID.test(text)) return ownerOf(finder, text);
  if (text.includes('@')) {
    const user = await db.user.findUnique({ where: { email: text.toLowerCase() } });
    if (user) return user;
    throw notFound(`No account has the address ${who}.`);
  }
  const isId = USER_ID.test(text.toLowerCase());
  const id = isId ? text.toLowerCase() : (await findReferrer(db, text))?.id;
  const user = id === undefined ? null : await db.user.findUnique({ where: { id } });
  if (user) return user;
  throw notFound(isId ? `No account has the id ${who}.` : `No account has the referral code ${who}. ${WAYS}`);
}

/** How output names an account: by its address, or by its id if it is deleted. */
export function nameOf({ id, email }: Pick<User, 'id' | 'email'>): string {
  return email ?? `the deleted account ${id}`;
}

async function ownerOf({ config, db, stripe }: Finder, id: string): Promise<User> {
  const checkout = id.startsWith('cs_')
    ? await db.checkout.findFirst({ where: { sessionId: id }, include: { user: true } })
    : null;
  if (checkout) return checkout.user;
  const customerId =
    (await customerInDatabase(db, id)) ?? (stripe && (await customerFromStripe(db, stripe, id)));
  if (customerId === null) {
    throw notFound(
      stripe
        ? `${id} leads to no customer, here or at Stripe. Check the id.`
        : `${id} leads to no customer here. Check the id, or ${config.sandbox ? 'start the server, so that its sandbox' : 'set STRIPE_API_KEY, so that Stripe'} can be asked.`,
    );
  }
  const customer = await db.customer.findUnique({ where: { id: customerId }, include: { user: true } });
  if (customer?.user) return customer.user;
  const whose =
    id === customerId ? `The customer ${id}` : `${id} belongs to the customer ${customerId}, which`;
  throw notFound(
    customer
      ? `${whose} is linked to no account. \`relink ${customerId} WHO\` links it.`
      : `${whose} is not known here. \`reconcile\` fetches what never arrived from Stripe.`,
  );
}

/**
 * The customer that a Stripe id leads to according to our rows; null when they do not say. A customer's id is returned
 * unchecked.
 */
async function customerInDatabase(db: Db, id: string): Promise<string | null> {
  if (!id.startsWith('evt_')) return (await customerInRows(db, id)) ?? customerInEvents(db, id);
  const event = await db.event.findUnique({ where: { id }, select: EVENT_COLUMNS });
  return event && customerOfEvent(db, event);
}

async function customerInRows(db: Db, id: string): Promise<string | null> {
  const which = { where: { id } };
  const subscription = { select: { customerId: true } };
  const invoice = { select: { subscription } };
  switch (STRIPE_ID.exec(id)?.[1]) {
    case 'cus':
      return id;
    case 'sub':
      return (await db.subscription.findUnique({ ...which, ...subscription }))?.customerId ?? null;
    case 'in':
      return (await db.invoice.findUnique({ ...which, ...invoice }))?.subscription?.customerId ?? null;
    default: {
      const payment = await db.payment.findUnique({ ...which, select: { invoice } });
      return payment?.invoice?.subscription?.customerId ?? null;
    }
  }
}

/** The columns of an event that its customer is read from. */
const EVENT_COLUMNS = { customerId: true, aboutId: true } as const;

/** Prefixes of the event types that are searched. */
const SEARCHED_TYPES = ['charge.', 'refund.', 'checkout.session.'];

/** The search scans every event of these types, so it stops after this many that name the id. */
const MAX_EVENTS_SEARCHED = 20;

/**
 * Payments are stored under their payment intent, and of a user's checkout sessions only the newest has a row. Events
 * name every charge and session.
 */
async function customerInEvents(db: Db, id: string): Promise<string | null> {
  if (!/^(pi|ch|py|cs)_/.test(id)) return null;
  const events = await db.event.findMany({
    where: {
      OR: SEARCHED_TYPES.map((startsWith) => ({ type: { startsWith } })),
      payload: { contains: `"${id}"` },
    },
    take: MAX_EVENTS_SEARCHED,
    select: EVENT_COLUMNS,
  });
  for (const event of events) {
    const found = await customerOfEvent(db, event);
    if (found !== null) return found;
  }
  return null;
}

/** The ids that an event names. */
export type Named = Pick<Event, keyof typeof EVENT_COLUMNS>;

/** The customer that an event names, or the one behind the invoice or payment that it is about. */
export async function customerOfEvent(db: Db, { customerId, aboutId }: Named): Promise<string | null> {
  if (customerId !== null || aboutId === null) return customerId;
  return customerInRows(db, aboutId);
}

async function customerFromStripe(db: Db, stripe: Stripe, id: string): Promise<string | null> {
  // Imported on demand: it is needed only with a key, and Stripe's package is slow to load.
  const { askForCustomer } = await import('./customer-at-stripe.ts');
  const named = await askForCustomer(stripe, id);
  const customer = named && (await customerOfEvent(db, named));
  if (customer !== null || !named?.aboutId) return customer;
  // A dispute or a refund whose payment we have not heard of.
  return (await askForCustomer(stripe, named.aboutId))?.customerId ?? null;
}

function notFound(message: string): PlainError {
  return new PlainError(message, 'not_found');
}
