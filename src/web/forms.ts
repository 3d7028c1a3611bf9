import type { z } from 'zod';

export const BAD_EMAIL = 'Enter an e-mail address, such as name@example.com.';
export const BAD_PASSWORD = 'Choose a password of 8 to 200 characters.';

/**
 * @param error what a form's schema found
 * @param messages what to say at each field
 * @returns the messages of the fields that are wrong
 */
export function errorsFor<Field extends string>(
  error: z.ZodError,
  messages: Record<Field, string>,
): Partial<Record<Field, string>> {
  const wrong = new Set(error.issues.map((issue) => issue.path[0]));
  const fields = (Object.keys(messages) as Field[]).filter((field) => wrong.has(field));
  return Object.fromEntries(fields.map((field) => [field, messages[field]])) as Partial<
    Record<Field, string>
  >;
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
