import type { Context } from '../context.ts';
import { badRequest, missing } from '../errors.ts';
import { filterBy, newestFirst, page } from '../lists.ts';
import {
  asParams,
  changeMetadata,
  isUnset,
  needText,
  readChoice,
  readFlag,
  readText,
  readWhole,
} from '../params.ts';
import type { Params } from '../params.ts';
import { cancelNow, changeSubscription, hasEnded, resume } from '../subscriptions.ts';
import type { SubscriptionChanges } from '../subscriptions.ts';
import type { PauseCollection, Price, Subscription } from '../types.ts';
import { find } from './routes.ts';
import type { Routes } from './routes.ts';

const BEHAVIORS: readonly PauseCollection['behavior'][] = ['keep_as_draft', 'mark_uncollectible', 'void'];

/** Subscriptions: https://docs.stripe.com/api/subscriptions */
export function serveSubscriptions({ get, post, del }: Routes, context: Context): void {
  const { state, publish } = context;

  get('/subscriptions', ({ params }) => {
    const customer = readText(params, 'customer');
    const status = readText(params, 'status');
    const clock = readText(params, 'test_clock');
    const price = readText(params, 'price');
    const wanted = filterBy<Subscription>(params, { customer: (one) => one.customer });
    const listed = newestFirst(state.subscriptions.values())
      .filter(wanted)
      // Without a status Stripe lists all but canceled ones; `ended` means both final statuses.
      .filter((one) => status === 'all' || hasStatus(one, status))
      .filter((one) => price === undefined || one.items.data.some((item) => item.price.id === price))
      // Subscriptions of a test clock are listed only when their customer or clock is asked for.
      .filter((one) => (customer !== undefined && clock === undefined) || one.test_clock === (clock ?? null));
    return page(listed, params, '/v1/subscriptions');
  });

  get('/subscriptions/:id', ({ id }) => find(state.subscriptions, id, 'subscription'));

  post('/subscriptions/:id', ({ id, params, cause }) => {
    const subscription = find(state.subscriptions, id, 'subscription');
    if (hasEnded(subscription)) {
      throw badRequest('A canceled subscription can only update its cancellation_details and metadata.');
    }
    const changes = readChanges(context, subscription, params, cause.at);
    const others = { ...changes, metadata: undefined };
    if (subscription.status === 'incomplete' && Object.values(others).some((one) => one !== undefined)) {
      throw badRequest('Only the metadata of an incomplete subscription can be updated.');
    }
    void publish(changeSubscription(state, subscription, changes, cause));
    return subscription;
  });

  post('/subscriptions/:id/resume', ({ id, cause }) => {
    const subscription = find(state.subscriptions, id, 'subscription');
    if (subscription.status !== 'paused') {
      throw badRequest(`Only a paused subscription can be resumed; this one is ${subscription.status}.`);
    }
    void publish(resume(state, subscription, cause));
    return subscription;
  });

  del('/subscriptions/:id', ({ id, cause }) => {
    const subscription = find(state.subscriptions, id, 'subscription');
    if (hasEnded(subscription)) {
      // As Stripe does for a subscription that has ended.
      throw missing('subscription', id);
    }
    void publish(cancelNow(state, subscription, cause));
    return subscription;
  });
}

function hasStatus(subscription: Subscription, status: string | undefined): boolean {
  if (status === undefined) {
    return subscription.status !== 'canceled';
  }
  return status === 'ended' ? hasEnded(subscription) : subscription.status === status;
}

function readChanges(
  context: Context,
  subscription: Subscription,
  params: Params,
  now: number,
): SubscriptionChanges {
  const trialEnd = readText(params, 'trial_end');
  if (trialEnd !== undefined && trialEnd !== 'now') {
    throw badRequest('The sandbox supports only trial_end=now.', undefined, 'trial_end');
  }
  const cancelAtPeriodEnd = readFlag(params, 'cancel_at_period_end');
  const cancelAt = readInstant(params, 'cancel_at', now);
  if (cancelAtPeriodEnd === true && cancelAt != null) {
    throw badRequest('You may pass only one of cancel_at and cancel_at_period_end.', undefined, 'cancel_at');
  }
  return {
    cancelAtPeriodEnd,
    cancelAt,
    metadata: params['metadata'] === undefined ? undefined : changeMetadata(params, subscription.metadata),
    price: readPrice(context, subscription, params),
    pauseCollection: readPause(params, now),
    endTrial: trialEnd === 'now' ? true : undefined,
  };
}

/** Epoch seconds in the future; null when unset, undefined when absent. */
function readInstant(params: Params, name: string, now: number): number | null | undefined {
  return isUnset(params, name)
    ? null
    : readWhole(params, name, { min: now + 1, max: Number.MAX_SAFE_INTEGER });
}

function readPrice(context: Context, subscription: Subscription, params: Params): Price | undefined {
  const items = Object.values(asParams(params['items'])).map(asParams);
  const [item] = items;
  if (item === undefined) {
    return undefined;
  }
  const known = subscription.items.data.map((one) => one.id);
  const id = needText(item, 'id', 'items[0][id]');
  if (items.length > 1 || !known.includes(id)) {
    throw missing('subscription item', id, 'items[0][id]');
  }
  return find(context.prices, needText(item, 'price', 'items[0][price]'), 'price', 'items[0][price]');
}

function readPause(params: Params, now: number): PauseCollection | null | undefined {
  const given = params['pause_collection'];
  if (given === undefined || given === '') {
    return given === undefined ? undefined : null;
  }
  const pause = asParams(given);
  const behavior = readChoice(pause, 'behavior', BEHAVIORS);
  if (behavior === undefined) {
    throw badRequest(
      'Missing required param: pause_collection[behavior].',
      'parameter_missing',
      'pause_collection[behavior]',
    );
  }
  return { behavior, resumes_at: readInstant(pause, 'resumes_at', now) ?? null };
}
