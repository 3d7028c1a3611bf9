import * as z from 'zod';

import { customerOf, endCustomer } from '../../access/customers.ts';
import { follow } from '../../access/follow.ts';
import { text } from './common.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

export const customerShape = z.object({ id: text });

/**
 * Reads a customer. https://docs.stripe.com/api/customers/object
 *
 * @param object the JSON object
 * @returns the customer's id
 * @throws ZodError when it is no customer
 */
export function readCustomer(object: unknown): { id: string } {
  return customerShape.parse(object);
}

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

/** `customer.updated`: address, name and card are Stripe's affair, and we keep none of them. */
export const onCustomerUpdated: EventHandler = () => ignored('nothing that we keep of a customer can change');
