import type { Stripe } from 'stripe';

import { missing } from './api-error.ts';
import { asParams, readText, readWhole } from './params.ts';
import type { Params } from './params.ts';

/**
 * Returns one page of a list, newest first: https://docs.stripe.com/api/pagination
 *
 * @param things in order of creation
 * @param query `limit` (1 to 100, default 10), `starting_after` (the last id of the previous page), and
 *   filters
 * @param url the list's path
 * @param filters for each filter parameter, the field that it is compared with; `created` is always supported
 * @throws 400 for a bad limit or filter, or an unknown id
 */
export function page<T extends { id: string; created: number }>(
  things: Iterable<T>,
  query: Params,
  url: string,
  filters: Record<string, (thing: T) => string | null> = {},
): Stripe.ApiList<T> {
  const limit = readWhole(query, 'limit', { min: 1, max: 100 }) ?? 10;
  const after = readText(query, 'starting_after');
  const wasCreatedThen = createdFilter(query);
  const wanted = Object.entries(filters).flatMap(([name, read]) => {
    const value = readText(query, name);
    return value === undefined ? [] : [{ read, value }];
  });
  const listed = newestFirst(things).filter(
    (thing) => wasCreatedThen(thing.created) && wanted.every(({ read, value }) => read(thing) === value),
  );
  const start = after === undefined ? 0 : listed.findIndex((one) => one.id === after) + 1;
  if (after !== undefined && start === 0) {
    throw missing('object', after, 'starting_after');
  }
  const data = listed.slice(start, start + limit);
  return { object: 'list', data, has_more: start + limit < listed.length, url };
}

/**
 * Sorts as Stripe does: newest first, and within a second the last created first.
 *
 * @param things in order of creation
 */
export function newestFirst<T extends { created: number }>(things: Iterable<T>): T[] {
  return [...things].reverse().sort((a, b) => b.created - a.created);
}

/** Reads a filter by time: `created=…`, or `created[gt]`, `[gte]`, `[lt]` and `[lte]` (epoch seconds). */
function createdFilter(query: Params): (created: number) => boolean {
  const given = query['created'];
  const bounds = typeof given === 'string' ? { gte: given, lte: given } : asParams(given);
  const read = (name: string) => readWhole(bounds, name, { min: 0, max: Number.MAX_SAFE_INTEGER });
  const [gt = -1, gte = 0, lt = Infinity, lte = Infinity] = ['gt', 'gte', 'lt', 'lte'].map(read);
  return (created) => created > gt && created >= gte && created < lt && created <= lte;
}
