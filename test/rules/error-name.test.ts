import { Stripe } from 'stripe';
import { expect, test } from 'vitest';

import { errorName } from '../../src/outbox/error-name.ts';

test.each([
  [new Stripe.errors.StripeConnectionError({ message: 'lost', type: 'api_error' }), 'StripeConnectionError'],
  [
    new Stripe.errors.StripeInvalidRequestError({ type: 'invalid_request_error', code: 'resource_missing' }),
    'StripeInvalidRequestError resource_missing',
  ],
  [Object.assign(new Error('to ann@example.com'), { code: 'ECONNREFUSED' }), 'Error ECONNREFUSED'],
  [new RangeError('ann@example.com'), 'RangeError'],
  ['ann@example.com', 'An unknown error.'],
])('an operator reads what kind of error it was, without an address: %s', (error, name) => {
  expect(errorName(error)).toBe(name);
});
