import type { z } from 'zod';

export const BAD_EMAIL = 'Enter an email address, such as name@example.com.';

export const TOO_MANY_SPELLINGS =
  'Too many accounts use this mailbox. Enter the address without the part from the + to the @. If it is a Gmail address, leave out the dots before the @, too.';

/** Messages shown when the form is rendered again. */
export interface FormErrors {
  email?: string;
  password?: string;
  form?: string;
}

/**
 * Maps a form's validation error to one message for each wrong field.
 *
 * @param messages the message for each field, unless its check brings its own (a custom issue)
 */
export function errorsFor<Field extends string>(
  error: z.ZodError,
  messages: Record<Field, string>,
): Partial<Record<Field, string>> {
  const errors: Partial<Record<Field, string>> = {};
  for (const field of Object.keys(messages) as Field[]) {
    const issue = error.issues.find(({ path }) => path[0] === field);
    if (issue) errors[field] = issue.code === 'custom' ? issue.message : messages[field];
  }
  return errors;
}

/** The longest address (RFC 5321), and more than the longest password; browsers send no more for our fields. */
const LONGEST_SHOWN = 254;

/** Returns what was typed in a field so that it can be shown again, cut if too long; empty unless it was text. */
export function typedText(body: unknown, field: string): string {
  const value = (body as Record<string, unknown> | null | undefined)?.[field];
  return typeof value === 'string' ? value.slice(0, LONGEST_SHOWN) : '';
}
