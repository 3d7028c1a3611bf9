import type { z } from 'zod';

export const BAD_EMAIL = 'Enter an e-mail address, such as name@example.com.';

/**
 * @param error what a form's schema found
 * @param messages what to say at each field, unless its check says it itself (a custom issue)
 * @returns the messages of the fields that are wrong
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

/**
 * @param body a form as it came
 * @param field the name of a field
 * @returns what was typed there, to be shown again; empty when it was nothing
 */
export function typedText(body: unknown, field: string): string {
  const value = (body as Record<string, unknown> | null | undefined)?.[field];
  return typeof value === 'string' ? value : '';
}
