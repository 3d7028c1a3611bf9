import { badRequest, missing } from '../api-error.ts';
import { page } from '../lists.ts';
import { readFlag, readText } from '../params.ts';
import type { Context } from '../sandbox-context.ts';
import { cancelAtPeriodEnd, cancelNow, hasEnded } from '../subscriptions.ts';
import type { Subscription } from '../types.ts';
import { find } from './routes.ts';
import type { Routes } from './routes.ts';

/** Subscriptions: https://docs.stripe.com/api/subscriptions */
export function serveSubscriptions({ get, post, del }: Routes, context: Context): void {
  const { state, publish } = context;

  get('/subscriptions', ({ params }) => {
    const customer = readText(params, 'customer');
    const status = readText(params, 'status');
    const listed = [...state.subscriptions.values()]
      // Without a status Stripe lists all but canceled ones; `ended` means both final statuses.
      .filter((one) => status === 'all' || hasStatus(one, status))
      // Subscriptions of a test clock are listed only when their customer is asked for.
      .filter((one) => customer !== undefined || one.test_clock === null);
    return page(listed, params, '/v1/subscriptions', { customer: (one) => one.customer });
  });

  get('/subscriptions/:id', ({ id }) => find(state.subscriptions, id, 'subscription'));

  post('/subscriptions/:id', ({ id, params, cause }) => {
    const subscription = find(state.subscriptions, id, 'subscription');
    if (hasEnded(subscription) || ['incomplete', 'unpaid'].includes(subscription.status)) {
      throw badRequest(
        `A subscription that is ${subscription.status} cannot be canceled at its period's end.`,
      );
    }
    const ends = readFlag(params, 'cancel_at_period_end');
    if (ends === undefined) {
      throw badRequest('The sandbox can change only cancel_at_period_end.', 'parameter_missing');
    }
    void publish(cancelAtPeriodEnd(subscription, ends, cause));
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
