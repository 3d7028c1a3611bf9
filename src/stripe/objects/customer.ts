import * as z from 'zod';

import { text } from './common.ts';

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
