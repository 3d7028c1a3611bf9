import * as z from 'zod';

import { ensureCustomerRow, endCustomer } from '../../access/customers.ts';
import { follow } from '../../access/follow.ts';
import { text } from './common.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

export const customerShape = z.object({ id: text });

/**
 * Reads a customer. https://docs.stripe.com/api/customers/object
 *
 * @throws ZodError when the object is not a customer
 */
function readCustomer(object: unknown): { id: string } {
  return customerShape.parse(object);
}

/**
 * `customer.deleted`: ends the customer's subscriptions for good, including those that we hear of later, and keeps
 * the link.
 */
export const onCustomerDeleted: EventHandler = (event) => {
  const { id } = readCustomer(event.object);
  return {
    wants: { customers: [id] },
    apply: (tx) => {
      const customer = ensureCustomerRow(tx, id);
      endCustomer(tx, customer, event.created);
      if (customer.userId) follow(tx, customer.userId, causeOf(event), false);
      return OK;
    },
  };
};

/** `customer.updated`: we store no address, name or card of a customer. */
export const onCustomerUpdated: EventHandler = () =>
  ignored('Tandem stores nothing that a customer update can change');
