import { z } from 'zod';

/** How large a backup may be, bytes: 256 KB. */
export const MAX_DOCUMENT_BYTES = 256 * 1024;

const MAX_HOLDINGS = 2_000;
const MAX_AMOUNT = 1e12;

const holding = z.strictObject({
  symbol: z.string().trim().min(1).max(20),
  quantity: z.number().positive().max(MAX_AMOUNT),
  /** Paid for one of them, in the document's currency. */
  price: z.number().nonnegative().max(MAX_AMOUNT),
  note: z.string().max(500),
});

/**
 * A portfolio as it is backed up, and as it is exported by the page: version 1. A later version gets a schema of its own
 * beside this one, because what is stored stays as it is.
 */
const portfolioDocument = z.strictObject({
  format: z.literal('tandem-portfolio'),
  version: z.literal(1),
  /** ISO 4217. */
  currency: z.string().regex(/^[A-Z]{3}$/),
  holdings: z.array(holding).max(MAX_HOLDINGS),
});

/** What is wrong with a document, in words for who sent it. */
export interface BadDocument {
  problem: string;
}

/**
 * @param value a document as it came, parsed
 * @returns the document as JSON, to be stored; or what is wrong with it
 */
export function checkDocument(value: unknown): string | BadDocument {
  const parsed = portfolioDocument.safeParse(value);
  if (parsed.success) return JSON.stringify(parsed.data);
  const [issue] = parsed.error.issues;
  const place = issue?.path.join('.') ?? '';
  return { problem: `${place === '' ? 'the document' : place}: ${issue?.message ?? 'wrong'}` };
}
