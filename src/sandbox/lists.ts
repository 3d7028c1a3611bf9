import { badRequest, missing } from './errors.ts';
import { asParams, readText, readWhole } from './params.ts';
import type { Params } from './params.ts';
import type { List } from './types.ts';

/**
 * One page of a list: https://docs.stripe.com/api/pagination
 *
 * @param newestFirst all that match
 * @param query `limit` (1 to 100, default 10) and `starting_after`, the last id of the previous page
 * @param url the list's path
 * @throws 400 for a bad limit or an unknown id
 */
export function page<T extends { id: string }>(newestFirst: T[], query: Params, url: string): List<T> {
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

/**
 * Reads a filter by time: `created=…` or `created[gte]=…` and the like (epoch seconds).
 *
 * @throws 400 for anything but whole seconds
 */
export function createdFilter(query: Params): (created: number) => boolean {
  const given = query['created'];
  const bounds = typeof given === 'string' ? { gte: given, lte: given } : asParams(given);
  const [gt, gte, lt, lte] = ['gt', 'gte', 'lt', 'lte'].map((name) => readSecond(bounds, name));
  return (created) =>
    (gt === undefined || created > gt) &&
    (gte === undefined || created >= gte) &&
    (lt === undefined || created < lt) &&
    (lte === undefined || created <= lte);
}

function readSecond(bounds: Params, name: string): number | undefined {
  const text = readText(bounds, name);
  if (text !== undefined && !/^\d+$/.test(text)) {
    throw badRequest(`Invalid integer: ${text}`, 'parameter_invalid_integer', `created[${name}]`);
  }
  return text === undefined ? undefined : Number(text);
}
