import { badRequest } from './api-error.ts';
import { asParams } from './params.ts';
import type { Params } from './params.ts';
import type { State } from './state.ts';

/** The fields that can be expanded, and where to find their objects. */
const REFERENCES = new Map<string, (state: State) => ReadonlyMap<string, object>>([
  ['subscription', (state) => state.subscriptions],
  ['charge', (state) => state.charges],
]);

/**
 * Replaces ids with whole objects, as `expand[]` asks, one level deep: https://docs.stripe.com/expand
 *
 * @param answer an object, or a list, whose paths start with `data.`; not modified
 * @throws 400 for a field that the sandbox cannot expand
 */
export function expand(state: State, answer: object, params: Params): object {
  const expanded = asParams(answer);
  for (const path of Object.values(asParams(params['expand'])).map(String)) {
    const field = path.replace('data.', '');
    const find = REFERENCES.get(field);
    if (find === undefined) {
      throw badRequest(`The sandbox cannot expand ${path}.`, undefined, 'expand');
    }
    const { data } = expanded;
    if (Array.isArray(data)) {
      expanded['data'] = data.map((one) => withObject(asParams(one), field, find(state)));
    } else {
      Object.assign(expanded, withObject(expanded, field, find(state)));
    }
  }
  return expanded;
}

function withObject(thing: Params, field: string, objects: ReadonlyMap<string, object>): Params {
  const id = thing[field];
  return { ...thing, [field]: typeof id === 'string' ? (objects.get(id) ?? id) : id };
}
