import type { Stripe } from 'stripe';

import type { Plan, Prices } from '../config.ts';

/** How long prices are cached, ms. */
const KEEP_MS = 60 * 60 * 1000;
/** The same after a failure. */
const RETRY_MS = 60 * 1000;
const TIMEOUT_MS = 2_000;

/**
 * What each plan costs, formatted ("$9.00"); null when it is not sold, has no single amount, or Stripe could not be
 * asked.
 */
export type PriceTexts = Record<Plan, string | null> & {
  /** How much less a year costs than twelve months, formatted; null when it costs no less. */
  saving: string | null;
};

/**
 * Reads the plans' prices from Stripe and caches them for an hour.
 *
 * @param stripe null when no key is configured
 * @returns a function that never throws: without Stripe, pages show no amount
 */
export function createPriceReader(
  stripe: Stripe | null,
  prices: Prices,
  now: () => Date,
): () => Promise<PriceTexts> {
  let kept: Promise<PriceTexts> | null = null;
  let until = 0;

  async function read(): Promise<PriceTexts> {
    const answers = await Promise.all([readPrice(stripe, prices.monthly), readPrice(stripe, prices.annual)]);
    until = now().getTime() + (answers.includes('no answer') ? RETRY_MS : KEEP_MS);
    const [monthly, annual] = answers.map((answer) => (answer === 'no answer' ? null : answer));
    return {
      monthly: monthly ? inWords(monthly) : null,
      annual: annual ? inWords(annual) : null,
      saving: monthly && annual ? savingOf(monthly, annual) : null,
    };
  }

  return () => {
    if (!kept || now().getTime() >= until) {
      // Set before the answer arrives, so that concurrent visitors share one request.
      until = Number.POSITIVE_INFINITY;
      kept = read();
    }
    return kept;
  };
}

interface Amount {
  /** In the currency's smallest unit, as Stripe counts it. */
  unitAmount: number;
  currency: string;
}

function inWords({ unitAmount, currency }: Amount): string {
  return amountInWords(unitAmount, currency);
}

function savingOf(monthly: Amount, annual: Amount): string | null {
  const saved = 12 * monthly.unitAmount - annual.unitAmount;
  if (saved <= 0 || monthly.currency !== annual.currency) return null;
  return inWords({ ...annual, unitAmount: saved });
}

/** Null for a plan that is not sold or has no single amount. */
async function readPrice(stripe: Stripe | null, id: string | null): Promise<Amount | null | 'no answer'> {
  if (!stripe || !id) return null;
  try {
    const price = await stripe.prices.retrieve(id, {}, { timeout: TIMEOUT_MS, maxNetworkRetries: 0 });
    const { unit_amount: unitAmount, currency } = price;
    return unitAmount === null ? null : { unitAmount, currency };
  } catch {
    return 'no answer';
  }
}

/**
 * Currencies whose amounts at Stripe are not in hundredths. Intl's decimals do not help, because they follow actual
 * use: HUF, ISK and UGX have no decimals in practice, but Stripe counts them in hundredths.
 * https://docs.stripe.com/currencies#minor-units, #zero-decimal, #three-decimal and #special-cases
 */
const DECIMALS: ReadonlyMap<string, number> = new Map([
  ...'BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF'
    .split(' ')
    .map((code) => [code, 0] as const),
  ...'BHD JOD KWD OMR TND'.split(' ').map((code) => [code, 3] as const),
]);

/**
 * Formats an amount. Zero cents are left out where people do not write them.
 *
 * @param unitAmount in the currency's smallest unit, as Stripe counts it
 * @param currency three letters, such as `usd`
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
