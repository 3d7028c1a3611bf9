import { z } from 'zod';

export const customerShape = z.object({ id: z.string().min(1) });

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
