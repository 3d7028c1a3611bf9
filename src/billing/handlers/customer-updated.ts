import { customerOf } from '../facts/customers.ts';
import { readCustomer } from '../stripe-shapes/customer.ts';
import { ignored } from './outcome.ts';
import type { EventHandler } from './outcome.ts';

/**
 * `customer.updated`: address, name and card are Stripe's affair, and we keep none of them. Only that there is such a
 * customer is a fact.
 */
export const onCustomerUpdated: EventHandler = (event) => {
  const { id } = readCustomer(event.object);
  return {
    wants: { customers: [id] },
    apply: (tx) => {
      customerOf(tx, id);
      return ignored('nothing that we keep of a customer can change');
    },
  };
};
