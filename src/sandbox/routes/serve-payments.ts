import { badRequest } from '../api-error.ts';
import { voidInvoice } from '../invoices.ts';
import { page } from '../lists.ts';
import { readText, readWhole } from '../params.ts';
import type { Params } from '../params.ts';
import { refundCharge } from '../refunds.ts';
import type { Context } from '../sandbox-context.ts';
import type { Charge } from '../types.ts';
import { find } from './routes.ts';
import type { Routes } from './routes.ts';

/** Stripe accepts amounts of up to eight digits. */
const MAX_AMOUNT = 99_999_999;

/**
 * Invoices, payments, refunds and disputes: https://docs.stripe.com/api/invoices,
 * https://docs.stripe.com/api/invoice-payment, https://docs.stripe.com/api/payment_intents,
 * https://docs.stripe.com/api/charges,
 * https://docs.stripe.com/api/refunds and https://docs.stripe.com/api/disputes
 */
export function servePayments({ get, post }: Routes, context: Context): void {
  const { state, publish } = context;

  get('/invoices', ({ params }) =>
    page(state.invoices.values(), params, '/v1/invoices', {
      customer: (one) => one.customer,
      status: (one) => one.status,
    }),
  );

  get('/invoices/:id', ({ id }) => find(state.invoices, id, 'invoice'));

  post('/invoices/:id/void', ({ id, cause }) => {
    const invoice = find(state.invoices, id, 'invoice');
    if (invoice.status !== 'open') {
      throw badRequest("You can only pass in open invoices. This invoice isn't open.");
    }
    void publish(voidInvoice(state, invoice, cause));
    return invoice;
  });

  get('/invoice_payments', ({ params }) =>
    page(state.invoicePayments.values(), params, '/v1/invoice_payments', { status: (one) => one.status }),
  );

  get('/payment_intents/:id', ({ id }) => find(state.paymentIntents, id, 'payment_intent'));

  get('/charges/:id', ({ id }) => find(state.charges, id, 'charge'));

  post('/refunds', ({ params, cause }) => {
    const amount = readWhole(params, 'amount', { min: 1, max: MAX_AMOUNT });
    const { refund, events } = refundCharge(state, chargeOf(params), amount, cause);
    void publish(events);
    return refund;
  });

  get('/refunds', ({ params }) =>
    page(state.refunds.values(), params, '/v1/refunds', { charge: (one) => one.charge }),
  );

  get('/disputes', ({ params }) => page(state.disputes.values(), params, '/v1/disputes'));

  get('/disputes/:id', ({ id }) => find(state.disputes, id, 'dispute'));

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
    return find(state.charges, latest ?? '', 'charge', 'payment_intent');
  }
}
