import { badRequest } from '../api-error.ts';
import { page } from '../lists.ts';
import { asParams } from '../params.ts';
import type { Context } from '../sandbox-context.ts';
import { find } from './routes.ts';
import type { Routes } from './routes.ts';

/** The most types in one request. */
const MAX_TYPES = 20;

/** Events: https://docs.stripe.com/api/events */
export function serveEvents({ get }: Routes, { state }: Context): void {
  get('/events', ({ params }) => {
    const types = Object.values(asParams(params['types']));
    if (types.length > MAX_TYPES) {
      throw badRequest(`Array types exceeded maximum ${MAX_TYPES} allowed elements.`, undefined, 'types');
    }
    const listed = [...state.events.values()].filter(
      (event) => types.length === 0 || types.includes(event.type),
    );
    return page(listed, params, '/v1/events');
  });

  get('/events/:id', ({ id }) => find(state.events, id, 'event'));
}
