/** Names the error without its message, which can contain an address. */
export function errorName(error: unknown): string {
  if (!(error instanceof Error)) return 'An unknown error.';
  return 'code' in error ? `${error.name} ${String(error.code)}` : error.name;
}
