import type { Context } from '../context.ts';
import { badRequest } from '../errors.ts';
import { page } from '../lists.ts';
import { buildCoupon } from '../objects.ts';
import { needPercent, readChoice, readMetadata, readText, readWhole } from '../params.ts';
import type { Coupon } from '../types.ts';
import { find } from './routes.ts';
import type { Routes } from './routes.ts';

const DURATIONS: readonly Coupon['duration'][] = ['once', 'forever', 'repeating'];

/** An arbitrary upper limit. */
const MAX_MONTHS = 1200;

/** Prices and coupons: https://docs.stripe.com/api/prices and https://docs.stripe.com/api/coupons */
export function serveCatalog({ get, post }: Routes, context: Context): void {
  const { state, prices } = context;

  get('/prices', ({ params }) => page([...prices.values()], params, '/v1/prices'));

  get('/prices/:id', ({ id }) => find(prices, id, 'price'));

  post('/coupons', ({ params, cause }) => {
    const id = readText(params, 'id');
    if (id !== undefined && state.coupons.has(id)) {
      throw badRequest('Coupon already exists.', 'resource_already_exists', 'id');
    }
    const duration = readChoice(params, 'duration', DURATIONS) ?? 'once';
    const months = readWhole(params, 'duration_in_months', { min: 1, max: MAX_MONTHS }) ?? null;
    if ((duration === 'repeating') !== (months !== null)) {
      throw badRequest(
        'duration_in_months is required with duration=repeating and not allowed otherwise.',
        undefined,
        'duration_in_months',
      );
    }
    const coupon = buildCoupon(cause.at, {
      id,
      percent_off: needPercent(params, 'percent_off'),
      duration,
      duration_in_months: months,
      name: readText(params, 'name') ?? null,
      metadata: readMetadata(params),
    });
    state.coupons.set(coupon.id, coupon);
    context.save();
    return coupon;
  });

  get('/coupons/:id', ({ id }) => find(state.coupons, id, 'coupon'));
}
