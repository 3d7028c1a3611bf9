import * as z from 'zod';

// These shapes contain only the fields that we read; parsing drops all others. Their output is JSON again, so the same
// schemas also thin stored payloads.

/** The last second of the year 9999, the latest that both databases can store. */
const LAST_SECOND = 253_402_300_799;

/** Stripe's timestamps: whole seconds since 1970, UTC. */
export const instant = z.number().int().nonnegative().max(LAST_SECOND);

/**
 * Stripe's ids have at most 255 characters:
 * https://docs.stripe.com/upgrades#what-changes-does-stripe-consider-to-be-backward-compatible
 */
const MAX_TEXT = 255;

/** A text that both databases can store: an id, a status or a type. */
export const text = z
  .string()
  .min(1)
  .max(MAX_TEXT)
  .refine(isStorable, 'Invalid text: it contains a NUL or an unpaired surrogate');

/** Whether both databases can store a text: PostgreSQL refuses NUL, and an unpaired surrogate is not valid UTF-8. */
function isStorable(value: string): boolean {
  return !value.includes('\0') && value.isWellFormed();
}

/** An empty id counts as absent. */
const empty = z.literal('').transform(() => null);

/** An id that may be missing. */
export const optionalText = z.union([text, empty]).nullish();

/** A reference to another object: its id, or the object itself if it was expanded. */
export const reference = z.union([text, z.object({ id: text })]);

/** A reference that may be missing. */
export const optionalReference = z
  .union([reference, empty, z.object({ id: z.literal('') }).transform(() => null)])
  .nullish();

/** Null when the field is absent. The schemas above have turned an empty id into null. */
export function idOf(idOrObject: string | { id: string } | null | undefined): string | null {
  return (typeof idOrObject === 'object' ? idOrObject?.id : idOrObject) ?? null;
}

export function dateOf(seconds: number | null | undefined): Date | null {
  return typeof seconds === 'number' ? new Date(seconds * 1000) : null;
}
