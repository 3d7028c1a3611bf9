import { missing } from '../errors.ts';
import type { Cause } from '../events.ts';
import type { Params } from '../params.ts';
import type { Customer, DeletedCustomer } from '../types.ts';

/** What a route is given: the id of the path, decoded parameters, and who asks when. */
export interface Call {
  id: string;
  params: Params;
  cause: Cause;
}

/** Registers routes below `/v1`; what they answer is expanded, and a POST is answered once for each key. */
export interface Routes {
  get: (path: string, answer: (call: Call) => object) => void;
  del: (path: string, answer: (call: Call) => object) => void;
  post: (path: string, act: (call: Call) => object) => void;
}

/**
 * @param things where to look
 * @param id what for
 * @param noun what it would be, for the error
 * @param param the parameter that held the id, if the path did not
 * @returns the object
 * @throws 404, or 400 when a parameter held the id
 */
export function find<T>(things: ReadonlyMap<string, T>, id: string, noun: string, param?: string): T {
  const thing = things.get(id);
  if (thing === undefined) {
    throw missing(noun, id, param);
  }
  return thing;
}

/**
 * @param customers where to look
 * @param id a customer's id
 * @param param the parameter that held the id, if the path did not
 * @returns the customer
 * @throws 404, or 400 when a parameter held the id; for a deleted customer, too
 */
export function living(
  customers: ReadonlyMap<string, Customer | DeletedCustomer>,
  id: string,
  param?: string,
): Customer {
  const customer = find(customers, id, 'customer', param);
  if ('deleted' in customer) {
    throw missing('customer', id, param);
  }
  return customer;
}
