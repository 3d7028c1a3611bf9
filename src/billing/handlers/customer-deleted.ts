import { applyFacts } from '../apply-facts.ts';
import { lockCustomer } from '../facts/customers.ts';
import { endSubscriptions } from '../facts/subscriptions.ts';
import { readCustomer } from '../stripe-shapes/customer.ts';
import { causeOf, OK } from './outcome.ts';
import type { EventHandler } from './outcome.ts';

/**
 * `customer.deleted`: ends the customer's subscriptions for good, those heard of later included, and keeps the link.
 */
export const onCustomerDeleted: EventHandler = async (tx, event, { clawbackDays }) => {
  const { id } = readCustomer(event.object);
  const customer = await lockCustomer(tx, id);
  await tx.customer.update({ where: { id }, data: { deletedAt: event.created } });
  await endSubscriptions(tx, id, event.created);
  if (customer.userId) {
    await applyFacts(tx, customer.userId, causeOf(event), { onProof: false, clawbackDays });
  }
  return OK;
};
