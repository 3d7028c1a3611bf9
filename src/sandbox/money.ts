/**
 * Writes an amount for people.
 *
 * @param cents the amount in the currency's smallest unit
 * @param currency three-letter code, e.g. `usd`
 * @returns e.g. `$9.00`
 */
export function formatMoney(cents: number, currency: string): string {
  return new Intl.NumberFormat('en-US', { style: 'currency', currency }).format(cents / 100);
}
