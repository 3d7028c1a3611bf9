import * as z from 'zod';

export const MAX_DOCUMENT_KB = 256;

const MAX_HOLDINGS = 2_000;
const MAX_AMOUNT = 1e12;

const holding = z.strictObject({
  symbol: z.string().trim().min(1).max(20),
  quantity: z.number().positive().max(MAX_AMOUNT),
  price: z
    .number()
    .nonnegative()
    .max(MAX_AMOUNT)
    .meta({ description: "Price paid per unit, in the document's currency." }),
  currentPrice: z.number().nonnegative().max(MAX_AMOUNT).optional().meta({
    description: "What one unit is worth now, in the document's currency, as far as the user knows.",
  }),
  note: z.string().max(500),
});

/**
 * A portfolio as it is backed up, and as the page exports it: version 1. Stored documents are never converted, so a
 * later version gets its own schema beside this one.
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
