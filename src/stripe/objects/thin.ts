import * as z from 'zod';

import { chargeShape } from './charge.ts';
import { checkoutSessionShape } from './checkout-session.ts';
import { customerShape } from './customer.ts';
import { disputeShape } from './dispute.ts';
import { invoicePaymentShape } from './invoice-payment.ts';
import { invoiceShape } from './invoice.ts';
import { refundShape } from './refund.ts';
import { subscriptionShape } from './subscription-shape.ts';

/** What we read of each type's object; the first matching prefix wins. */
const SHAPES: readonly [prefix: string, shape: z.ZodObject][] = [
  ['customer.subscription.', subscriptionShape],
  ['customer.', customerShape],
  ['checkout.session.', checkoutSessionShape],
  ['invoice_payment.', invoicePaymentShape],
  ['invoice.', invoiceShape],
  ['charge.dispute.', disputeShape],
  ['charge.refund.', refundShape],
  ['charge.', chargeShape],
  ['refund.', refundShape],
  ['', z.object({ id: z.string().nullish() })],
];

const eventShape = z.object({
  id: z.string(),
  type: z.string(),
  created: z.number().nullish(),
  livemode: z.boolean().nullish(),
  account: z.string().nullish(),
  data: z.object({
    object: z.looseObject({ object: z.string().nullish() }),
    previous_attributes: z.looseObject({}).nullish(),
  }),
});

/**
 * Thins an event to the fields that we read: handling it again gives the same result, but it contains no address,
 * name or card (design: rules 10 and 11).
 */
export function thinPayload(payload: string): string {
  const parsed = eventShape.safeParse(JSON.parse(payload));
  if (!parsed.success) return '{}';
  const { data, ...envelope } = parsed.data;
  const shape = SHAPES.find(([prefix]) => envelope.type.startsWith(prefix))?.[1] ?? z.object({});
  const object = shape.safeParse(data.object);
  const before = data.previous_attributes;
  const read = shape.partial().safeParse(before ?? {});
  // A handler also asks whether anything else changed, so the names of the fields that we do not read stay.
  const unread = Object.keys(before ?? {}).filter((name) => !(name in shape.shape));
  return JSON.stringify({
    ...envelope,
    data: {
      object: { ...(object.success && object.data), object: data.object.object },
      ...(before && {
        previous_attributes: {
          ...(read.success && read.data),
          ...Object.fromEntries(unread.map((name) => [name, null])),
        },
      }),
    },
  });
}
