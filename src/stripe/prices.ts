import type { Stripe } from 'stripe';

import type { Prices } from '../config.ts';

/** A price is asked for again after this long, ms. */
const KEEP_MS = 60 * 60 * 1000;
/** After a failure, sooner. */
const RETRY_MS = 60 * 1000;
const TIMEOUT_MS = 2_000;

export type Plan = keyof Prices;

/** What each plan costs, in words ("$9.00"); null when Stripe could not be asked. */
export type PriceTexts = Record<Plan, string | null>;

/**
 * Reads the prices of the plans from Stripe, and keeps them for an hour.
 *
 * @param stripe Stripe, or null when there is none to ask
 * @param prices the ids of the prices
 * @param now the clock
 * @returns a function that resolves to the prices in words; it never throws: pages show no amount instead
 */
export function createPriceReader(
  stripe: Stripe | null,
  prices: Prices,
  now: () => Date,
): () => Promise<PriceTexts> {
  let kept: Promise<PriceTexts> | null = null;
  let until = 0;

  async function read(): Promise<PriceTexts> {
    const [monthly, annual] = await Promise.all([
      readPrice(stripe, prices.monthly),
      readPrice(stripe, prices.annual),
    ]);
    const complete = monthly !== null && annual !== null;
    until = now().getTime() + (complete ? KEEP_MS : RETRY_MS);
    return { monthly, annual };
  }

  return () => {
    if (!kept || now().getTime() >= until) {
      // Set before the answer: visitors who come meanwhile wait for the same one.
      until = Number.POSITIVE_INFINITY;
      kept = read();
    }
    return kept;
  };
}

async function readPrice(stripe: Stripe | null, id: string | null): Promise<string | null> {
  if (!stripe || !id) return null;
  try {
    const price = await stripe.prices.retrieve(id, {}, { timeout: TIMEOUT_MS, maxNetworkRetries: 0 });
    return price.unit_amount === null ? null : amountInWords(price.unit_amount, price.currency);
  } catch {
    return null;
  }
}

/**
 * Currencies of which Stripe's amounts are not hundredths. Not the decimals of Intl, which go by what is in use: there the
 * forint has none. ISK and UGX have none in use, and are hundredths at Stripe all the same; so are HUF and TWD.
 * https://docs.stripe.com/currencies#minor-units, #zero-decimal, #three-decimal and #special-cases
 */
const DECIMALS: ReadonlyMap<string, number> = new Map([
  ...'BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF'
    .split(' ')
    .map((code) => [code, 0] as const),
  ...'BHD JOD KWD OMR TND'.split(' ').map((code) => [code, 3] as const),
]);

/**
 * @param unitAmount an amount as Stripe counts it, in the smallest unit of its currency
 * @param currency three letters, such as `usd`
 * @returns the amount as people write it; cents of zero are left out where nobody writes any
 */
export function amountInWords(unitAmount: number, currency: string): string {
  const code = currency.toUpperCase();
  const decimals = DECIMALS.get(code) ?? 2;
  const amount = unitAmount / 10 ** decimals;
  const written = new Intl.NumberFormat('en', { style: 'currency', currency: code }).resolvedOptions();
  const digits = Number.isInteger(amount)
    ? Math.min(decimals, written.maximumFractionDigits ?? decimals)
    : decimals;
  return new Intl.NumberFormat('en', {
    style: 'currency',
    currency: code,
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(amount);
}
