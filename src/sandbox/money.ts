/**
 * Formats an amount, e.g. `$9.00`.
 *
 * @param cents in the currency's smallest unit
 * @param currency three-letter code, e.g. `usd`
 */
export function formatMoney(cents: number, currency: string): string {
  return new Intl.NumberFormat('en-US', { style: 'currency', currency }).format(cents / 100);
}
