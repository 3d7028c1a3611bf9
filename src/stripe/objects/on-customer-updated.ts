import { ignored } from './handler.ts';
import type { EventHandler } from './handler.ts';

/** `customer.updated`: address, name and card are Stripe's affair, and we keep none of them. */
export const onCustomerUpdated: EventHandler = () => ignored('nothing that we keep of a customer can change');
