import * as z from 'zod';

/** Kept of what is wrong with something of Stripe's, characters. */
const MAX_LENGTH = 1_000;

/**
 * @param error what handling something of Stripe's threw
 * @returns why, in one line for the operator
 */
export function describeError(error: unknown): string {
  if (error instanceof z.ZodError)
    return `Stripe sent an object of a shape we do not know: ${oneLine(z.prettifyError(error))}`;
  return oneLine(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
}

/** Short, and of characters that both databases can keep. */
function oneLine(text: string): string {
  return text
    .slice(0, MAX_LENGTH)
    .replaceAll(/[\s\0]+/g, ' ')
    .trim()
    .toWellFormed();
}
