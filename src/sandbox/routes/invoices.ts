import type { Context } from '../context.ts';
import { filterBy, newestFirst, page } from '../lists.ts';
import { asParams } from '../params.ts';
import type { Invoice, InvoicePayment } from '../types.ts';
import { find } from './routes.ts';
import type { Routes } from './routes.ts';

/** Invoices and their payments: https://docs.stripe.com/api/invoices and https://docs.stripe.com/api/invoice-payment */
export function serveInvoices({ get }: Routes, { state }: Context): void {
  get('/invoices', ({ params }) => {
    const wanted = filterBy<Invoice>(params, {
      customer: (one) => one.customer,
      subscription: (one) => one.parent.subscription_details.subscription,
      status: (one) => one.status,
    });
    return page(newestFirst(state.invoices.values()).filter(wanted), params, '/v1/invoices');
  });

  get('/invoices/:id', ({ id }) => find(state.invoices, id, 'invoice'));

  get('/invoice_payments', ({ params }) => {
    const wanted = filterBy<InvoicePayment>(params, {
      invoice: (one) => one.invoice,
      status: (one) => one.status,
    });
    const paidBy = asParams(params['payment']);
    const through = filterBy<InvoicePayment>(paidBy, {
      type: (one) => one.payment.type,
      payment_intent: (one) => one.payment.payment_intent,
    });
    const listed = newestFirst(state.invoicePayments.values()).filter((one) => wanted(one) && through(one));
    return page(listed, params, '/v1/invoice_payments');
  });

  get('/invoice_payments/:id', ({ id }) => find(state.invoicePayments, id, 'invoice_payment'));
}
