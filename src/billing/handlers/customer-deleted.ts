import { applyFacts } from '../apply-facts.ts';
import { endCustomer, lockCustomer } from '../facts/customers.ts';
import { readCustomer } from '../stripe-shapes/customer.ts';
import { causeOf, OK } from './outcome.ts';
import type { EventHandler } from './outcome.ts';

/**
 * `customer.deleted`: ends the customer's subscriptions for good, those heard of later included, and keeps the link.
 */
export const onCustomerDeleted: EventHandler = async (tx, event, { clawbackDays }) => {
  const { id } = readCustomer(event.object);
  const customer = await lockCustomer(tx, id);
  await endCustomer(tx, customer, event.created);
  if (customer.userId) {
    await applyFacts(tx, customer.userId, causeOf(event), { onProof: false, clawbackDays });
  }
  return OK;
};
