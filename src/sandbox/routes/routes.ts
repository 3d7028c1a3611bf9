import { missing } from '../api-error.ts';
import type { Cause } from '../events.ts';
import type { Params } from '../params.ts';
import type { Customer, DeletedCustomer } from '../types.ts';

/** The id in the path, the parsed parameters, and the request's cause. */
export interface Call {
  id: string;
  params: Params;
  cause: Cause;
}

/** Registers routes below `/v1`. Answers are expanded, and a POST runs once per idempotency key. */
export interface Routes {
  get: (path: string, answer: (call: Call) => object) => void;
  del: (path: string, answer: (call: Call) => object) => void;
  post: (path: string, act: (call: Call) => object) => void;
}

/**
 * @param noun what is looked for, for the error
 * @param param the parameter that held the id; undefined when it was in the path
 * @throws 404, or 400 when a parameter held the id
 */
export function find<T>(things: ReadonlyMap<string, T>, id: string, noun: string, param?: string): T {
  const thing = things.get(id);
  if (thing === undefined) {
    throw missing(noun, id, param);
  }
  return thing;
}

/** Like `find`, and throws for a deleted customer too. */
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
