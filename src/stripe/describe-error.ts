import * as z from 'zod';

/** Characters kept of an error. */
const MAX_LENGTH = 1_000;

/** Describes an error in one line for the operator. */
export function describeError(error: unknown): string {
  if (error instanceof z.ZodError)
    return `Stripe sent an object of an unknown shape: ${oneLine(z.prettifyError(error))}`;
  return oneLine(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
}

/** Shortens a text and removes characters that a database cannot store. */
function oneLine(text: string): string {
  return text
    .slice(0, MAX_LENGTH)
    .replaceAll(/[\s\0]+/g, ' ')
    .trim()
    .toWellFormed();
}
