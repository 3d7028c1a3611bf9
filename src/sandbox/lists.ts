import type { Stripe } from 'stripe';

import { missing } from './errors.ts';
import { asParams, readText, readWhole } from './params.ts';
import type { Params } from './params.ts';

/**
 * One page of a list: https://docs.stripe.com/api/pagination
 *
 * @param newestFirst all that match
 * @param query `limit` (1 to 100, default 10) and `starting_after`, the last id of the previous page
 * @param url the list's path
 * @throws 400 for a bad limit or an unknown id
 */
export function page<T extends { id: string }>(
  newestFirst: T[],
  query: Params,
  url: string,
): Stripe.ApiList<T> {
  const limit = readWhole(query, 'limit', { min: 1, max: 100 }) ?? 10;
  const after = readText(query, 'starting_after');
  const start = after === undefined ? 0 : newestFirst.findIndex((one) => one.id === after) + 1;
  if (after !== undefined && start === 0) {
    throw missing('object', after, 'starting_after');
  }
  const data = newestFirst.slice(start, start + limit);
  return { object: 'list', data, has_more: start + limit < newestFirst.length, url };
}

/**
 * Sorts as Stripe lists: newest first; within a second, the last created first.
 *
 * @param things in order of creation
 */
export function newestFirst<T extends { created: number }>(things: Iterable<T>): T[] {
  return [...things].reverse().sort((a, b) => b.created - a.created);
}

/**
 * Filters by equal fields and by creation time.
 *
 * @param fields by parameter name, how to read the field
 * @throws 400 for an invalid filter
 */
export function filterBy<T extends { created: number }>(
  query: Params,
  fields: Record<string, (thing: T) => string | null>,
): (thing: T) => boolean {
  const inTime = createdFilter(query);
  const wanted = Object.entries(fields).flatMap(([name, read]) => {
    const value = readText(query, name);
    return value === undefined ? [] : [{ read, value }];
  });
  return (thing) => inTime(thing.created) && wanted.every(({ read, value }) => read(thing) === value);
}

/** Reads a filter by time: `created=…` or `created[gte]=…` and the like (epoch seconds). */
function createdFilter(query: Params): (created: number) => boolean {
  const given = query['created'];
  const bounds = typeof given === 'string' ? { gte: given, lte: given } : asParams(given);
  const read = (name: string) => readWhole(bounds, name, { min: 0, max: Number.MAX_SAFE_INTEGER });
  const [gt = -1, gte = 0, lt = Infinity, lte = Infinity] = ['gt', 'gte', 'lt', 'lte'].map(read);
  return (created) => created > gt && created >= gte && created < lt && created <= lte;
}
