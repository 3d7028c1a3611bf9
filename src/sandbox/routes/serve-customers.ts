import { badRequest } from '../api-error.ts';
import { buildBalanceTransaction, buildPortal } from '../build-objects.ts';
import { changeCustomer, createCustomer, deleteCustomer } from '../customers.ts';
import { page } from '../lists.ts';
import { needText, readMetadata, readText, readUrl } from '../params.ts';
import type { Context } from '../sandbox-context.ts';
import type { Customer } from '../types.ts';
import { find, living } from './routes.ts';
import type { Routes } from './routes.ts';

/**
 * Customers and portal sessions: https://docs.stripe.com/api/customers and
 * https://docs.stripe.com/api/customer_portal/sessions
 */
export function serveCustomers({ get, post, del }: Routes, context: Context): void {
  const { state, publish } = context;

  post('/customers', ({ params, cause }) => {
    const given = {
      email: readText(params, 'email') ?? null,
      name: readText(params, 'name') ?? null,
      metadata: readMetadata(params),
      test_clock: readText(params, 'test_clock') ?? null,
    };
    const { customer, events } = createCustomer(state, given, cause);
    void publish(events);
    return customer;
  });

  get('/customers', ({ params }) => {
    const customers = [...state.customers.values()].filter((one): one is Customer => !('deleted' in one));
    // Stripe lists the customers of a test clock only on request.
    const listed = customers.filter((one) => one.test_clock === null);
    return page(listed, params, '/v1/customers');
  });

  get('/customers/:id', ({ id }) => find(state.customers, id, 'customer'));

  post('/customers/:id', ({ id, params, cause }) => {
    const customer = living(state.customers, id);
    const changes = {
      email: readText(params, 'email') ?? customer.email,
      name: readText(params, 'name') ?? customer.name,
    };
    void publish(changeCustomer(customer, changes, cause));
    return customer;
  });

  // https://docs.stripe.com/api/customer_balance_transactions/create
  post('/customers/:id/balance_transactions', ({ id, params, cause }) => {
    const customer = living(state.customers, id);
    const currency = needText(params, 'currency');
    const amount = Number(needText(params, 'amount'));
    if (!Number.isSafeInteger(amount) || currency !== (customer.currency ?? currency))
      throw badRequest("The amount must be a whole number in the customer's currency.");
    const balance = customer.balance + amount;
    void publish(changeCustomer(customer, { balance, currency }, cause));
    const made = buildBalanceTransaction(cause.at, {
      customer: id,
      amount,
      currency,
      ending_balance: balance,
      metadata: readMetadata(params),
    });
    state.balanceTransactions.set(made.id, made);
    context.save();
    return made;
  });

  // https://docs.stripe.com/api/customer_balance_transactions/list
  get('/customers/:id/balance_transactions', ({ id, params }) => {
    living(state.customers, id);
    const made = [...state.balanceTransactions.values()].filter(({ customer }) => customer === id);
    return page(made, params, `/v1/customers/${id}/balance_transactions`);
  });

  del('/customers/:id', ({ id, cause }) => {
    void publish(deleteCustomer(state, living(state.customers, id), cause));
    return find(state.customers, id, 'customer');
  });

  post('/billing_portal/sessions', ({ params, cause }) => {
    const customer = living(state.customers, needText(params, 'customer'), 'customer');
    const returnUrl = readUrl(params, 'return_url') ?? null;
    const portal = buildPortal(cause.at, context.baseUrl(), customer.id, returnUrl);
    state.portals.set(portal.id, portal);
    context.save();
    return portal;
  });
}
