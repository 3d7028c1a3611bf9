import { badRequest } from './errors.ts';
import { newestFirst } from './lists.ts';
import { asParams } from './params.ts';
import type { Params } from './params.ts';
import type { State } from './state.ts';

/** Stripe expands at most four levels: https://docs.stripe.com/expand */
const MAX_DEPTH = 4;

/** Fields that contain the id of another object. */
const REFERENCES: Record<string, (state: State) => ReadonlyMap<string, object>> = {
  customer: (state) => state.customers,
  subscription: (state) => state.subscriptions,
  invoice: (state) => state.invoices,
  latest_invoice: (state) => state.invoices,
  payment_intent: (state) => state.paymentIntents,
  charge: (state) => state.charges,
  latest_charge: (state) => state.charges,
  coupon: (state) => state.coupons,
  discounts: (state) => state.discounts,
};

/**
 * Replaces ids by whole objects, as `expand[]` asks: https://docs.stripe.com/expand
 *
 * @param answer an object, or a list, whose paths start with `data.`; not modified
 * @returns an expanded copy; the answer itself when nothing was asked for
 * @throws 400 when a path does not exist or is too deep
 */
export function expand(state: State, answer: object, params: Params): object {
  const paths = Object.values(asParams(params['expand'])).filter((path) => typeof path === 'string');
  if (paths.length === 0) {
    return answer;
  }
  const copy = structuredClone(answer);
  for (const path of paths) {
    const steps = path.split('.');
    if (steps.length - (steps[0] === 'data' ? 1 : 0) > MAX_DEPTH) {
      throw badRequest(`You cannot expand more than ${MAX_DEPTH} levels of a property (${path}).`);
    }
    follow(state, copy, steps, path);
  }
  return copy;
}

function follow(state: State, thing: unknown, steps: string[], path: string): void {
  const [step, ...rest] = steps;
  if (step === undefined || thing === null) {
    return;
  }
  if (Array.isArray(thing)) {
    for (const one of thing as unknown[]) {
      follow(state, one, steps, path);
    }
    return;
  }
  const value = isRecord(thing) ? (thing[step] ?? includable(state, thing, step)) : undefined;
  if (!isRecord(thing) || value === undefined) {
    throw badRequest(`This property cannot be expanded (${path}).`, undefined, 'expand');
  }
  const find = REFERENCES[step];
  const isList = Array.isArray(value);
  const whole = (isList ? (value as unknown[]) : [value]).map((one) =>
    typeof one === 'string' && find !== undefined ? (structuredClone(find(state).get(one)) ?? one) : one,
  );
  if (rest.length === 0 && whole.some((one) => typeof one === 'string')) {
    throw badRequest(`This property cannot be expanded (${path}).`, undefined, 'expand');
  }
  thing[step] = isList ? whole : whole[0];
  follow(state, thing[step], rest, path);
}

/** Lists that Stripe omits unless asked for. */
function includable(state: State, thing: Record<string, unknown>, step: string): unknown {
  if (step in thing) {
    return thing[step];
  }
  if (step === 'payments' && thing['object'] === 'invoice') {
    const payments = [...state.invoicePayments.values()].filter((one) => one.invoice === thing['id']);
    return listOf(payments, '/v1/invoice_payments');
  }
  if (step === 'refunds' && thing['object'] === 'charge') {
    return listOf(
      newestFirst(state.refunds.values()).filter((one) => one.charge === thing['id']),
      '/v1/refunds',
    );
  }
  return undefined;
}

function listOf(data: object[], url: string): object {
  return { object: 'list', data: structuredClone(data), has_more: false, url };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
