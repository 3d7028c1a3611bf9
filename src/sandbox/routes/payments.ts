import type { Context } from '../context.ts';
import { canBecome, closeDispute } from '../disputes.ts';
import { badRequest } from '../errors.ts';
import { filterBy, newestFirst, page } from '../lists.ts';
import { readChoice, readMetadata, readText, readWhole } from '../params.ts';
import type { Params } from '../params.ts';
import { refundCharge } from '../refunds.ts';
import type { Charge, Dispute, PaymentIntent, Refund } from '../types.ts';
import { find } from './routes.ts';
import type { Routes } from './routes.ts';

const REASONS: readonly NonNullable<Refund['reason']>[] = [
  'duplicate',
  'fraudulent',
  'requested_by_customer',
];

/** Stripe accepts amounts of up to eight digits. */
const MAX_AMOUNT = 99_999_999;

/**
 * Payments: https://docs.stripe.com/api/payment_intents, https://docs.stripe.com/api/charges,
 * https://docs.stripe.com/api/refunds and https://docs.stripe.com/api/disputes
 */
export function servePayments({ get, post }: Routes, context: Context): void {
  const { state, publish } = context;

  get('/payment_intents', ({ params }) => {
    const wanted = filterBy<PaymentIntent>(params, { customer: (one) => one.customer });
    return page(newestFirst(state.paymentIntents.values()).filter(wanted), params, '/v1/payment_intents');
  });

  get('/payment_intents/:id', ({ id }) => find(state.paymentIntents, id, 'payment_intent'));

  get('/charges', ({ params }) => {
    const wanted = filterBy<Charge>(params, {
      customer: (one) => one.customer,
      payment_intent: (one) => one.payment_intent,
    });
    return page(newestFirst(state.charges.values()).filter(wanted), params, '/v1/charges');
  });

  get('/charges/:id', ({ id }) => find(state.charges, id, 'charge'));

  post('/refunds', ({ params, cause }) => {
    const given = {
      amount: readWhole(params, 'amount', { min: 1, max: MAX_AMOUNT }),
      reason: readChoice(params, 'reason', REASONS) ?? null,
      metadata: readMetadata(params),
    };
    const { refund, events } = refundCharge(state, chargeOf(params), given, cause);
    void publish(events);
    return refund;
  });

  get('/refunds', ({ params }) => {
    const wanted = filterBy<Refund>(params, {
      charge: (one) => one.charge,
      payment_intent: (one) => one.payment_intent,
    });
    return page(newestFirst(state.refunds.values()).filter(wanted), params, '/v1/refunds');
  });

  get('/refunds/:id', ({ id }) => find(state.refunds, id, 'refund'));

  get('/disputes', ({ params }) => {
    const wanted = filterBy<Dispute>(params, {
      charge: (one) => one.charge,
      payment_intent: (one) => one.payment_intent,
    });
    return page(newestFirst(state.disputes.values()).filter(wanted), params, '/v1/disputes');
  });

  get('/disputes/:id', ({ id }) => find(state.disputes, id, 'dispute'));

  post('/disputes/:id/close', ({ id, cause }) => {
    const dispute = find(state.disputes, id, 'dispute');
    if (!canBecome(dispute, 'lost')) {
      throw badRequest('This dispute is already closed.');
    }
    void publish(closeDispute(dispute, 'lost', cause));
    return dispute;
  });

  /** The charge to refund, named by its own id or by its payment intent. */
  function chargeOf(params: Params): Charge {
    const charge = readText(params, 'charge');
    const intent = readText(params, 'payment_intent');
    if (charge !== undefined) {
      return find(state.charges, charge, 'charge', 'charge');
    }
    if (intent === undefined) {
      throw badRequest(
        'One of the following params should be provided for this request: payment_intent or charge.',
        'parameter_missing',
      );
    }
    const { latest_charge: latest } = find(state.paymentIntents, intent, 'payment_intent', 'payment_intent');
    const paid = state.charges.get(latest ?? '');
    if (paid?.status !== 'succeeded') {
      throw badRequest(
        'This PaymentIntent does not have a successful charge to refund.',
        undefined,
        'payment_intent',
      );
    }
    return paid;
  }
}
