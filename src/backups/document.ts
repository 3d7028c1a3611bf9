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

/** The most characters of an unknown field's name that an answer repeats. */
const NAME_SHOWN = 50;

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

/** A document whose holdings are not checked yet. */
const unchecked = portfolioDocument.extend({ holdings: z.array(z.unknown()).max(MAX_HOLDINGS) });

/**
 * Checks a document as `portfolioDocument` does, but stops at the first wrong holding: zod would collect an issue for
 * each wrong field of 2,000 holdings, and refusing a document would take three times as long as accepting one.
 *
 * @returns the document, or what is wrong with it and where
 */
export function readDocument(
  value: unknown,
): { document: z.infer<typeof portfolioDocument> } | { problem: string } {
  const outer = unchecked.safeParse(value);
  if (!outer.success) return { problem: firstProblem(outer.error, []) };
  const holdings = [];
  for (const [index, one] of outer.data.holdings.entries()) {
    const read = holding.safeParse(one);
    if (!read.success) return { problem: firstProblem(read.error, ['holdings', index]) };
    holdings.push(read.data);
  }
  return { document: { ...outer.data, holdings } };
}

function firstProblem({ issues: [issue] }: z.ZodError, parent: readonly PropertyKey[]): string {
  const place = [...parent, ...(issue?.path ?? [])].join('.');
  // Zod's message lists all unknown fields.
  const message =
    issue?.code === 'unrecognized_keys'
      ? `Unrecognized key: ${JSON.stringify(issue.keys[0]?.slice(0, NAME_SHOWN))}`
      : (issue?.message ?? 'wrong');
  return `${place === '' ? 'the document' : place}: ${message}`;
}
