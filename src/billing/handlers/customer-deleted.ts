import { follow } from '../follow.ts';
import { customerOf, endCustomer } from '../facts/customers.ts';
import { readCustomer } from '../stripe-shapes/customer.ts';
import { causeOf, OK } from './outcome.ts';
import type { EventHandler } from './outcome.ts';

/**
 * `customer.deleted`: ends the customer's subscriptions for good, those heard of later included, and keeps the link.
 */
export const onCustomerDeleted: EventHandler = (event) => {
  const { id } = readCustomer(event.object);
  return {
    wants: { customers: [id] },
    apply: (tx) => {
      const customer = customerOf(tx, id);
      endCustomer(tx, customer, event.created);
      if (customer.userId) follow(tx, customer.userId, causeOf(event), false);
      return OK;
    },
  };
};
