/** Names the error without its message, which can contain an address. */
export function errorName(error: unknown): string {
  if (!(error instanceof Error)) return 'An unknown error.';
  // Stripe's errors have their class in `type`, and leave `name` at "Error" and sometimes `code` undefined.
  const name = 'type' in error && typeof error.type === 'string' ? error.type : error.name;
  const code = 'code' in error ? error.code : null;
  return typeof code === 'string' || typeof code === 'number' ? `${name} ${code}` : name;
}
