import { z } from 'zod';

/**
 * @param error what handling something of Stripe's threw
 * @returns why, in one line for the operator
 */
export function describeError(error: unknown): string {
  if (error instanceof z.ZodError)
    return `Stripe sent an object of a shape we do not know: ${oneLine(z.prettifyError(error))}`;
  return oneLine(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ').trim();
}
