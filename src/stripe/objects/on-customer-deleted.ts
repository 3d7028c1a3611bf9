import { follow } from '../../access/follow.ts';
import { customerOf, endCustomer } from '../../access/customers.ts';
import { readCustomer } from './customer.ts';
import { causeOf, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

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
