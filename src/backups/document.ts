import * as z from 'zod';

/** How large a backup may be, bytes: 256 KB. */
export const MAX_DOCUMENT_BYTES = 256 * 1024;

const MAX_HOLDINGS = 2_000;
const MAX_AMOUNT = 1e12;

const holding = z.strictObject({
  symbol: z.string().trim().min(1).max(20),
  quantity: z.number().positive().max(MAX_AMOUNT),
  price: z
    .number()
    .nonnegative()
    .max(MAX_AMOUNT)
    .meta({ description: "Paid for one of them, in the document's currency." }),
  note: z.string().max(500),
});

/**
 * A portfolio as it is backed up, and as it is exported by the page: version 1. A later version gets a schema of its own
 * beside this one, because what is stored stays as it is.
 */
export const portfolioDocument = z
  .strictObject({
    format: z.literal('tandem-portfolio'),
    version: z.literal(1),
    currency: z
      .string()
      .regex(/^[A-Z]{3}$/)
      .meta({ description: 'ISO 4217.' }),
    holdings: z.array(holding).max(MAX_HOLDINGS),
  })
  .meta({ id: 'Portfolio' });
