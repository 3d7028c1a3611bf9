import * as z from 'zod';

// The shapes here hold no more than the fields that we read: parsed by one of them, an object loses all others. What
// they give is JSON again, so that a payload can be thinned with the very schema that it is read through.

/** The last second of the year 9999: the databases keep no later one. */
const LAST_SECOND = 253_402_300_799;

/** Stripe's instants: whole seconds since 1970, UTC. */
export const instant = z.number().int().nonnegative().max(LAST_SECOND);

/** Stripe's ids have at most 255 characters: https://docs.stripe.com/upgrades#what-changes-does-stripe-consider-to-be-backward-compatible */
const MAX_TEXT = 255;

/** A text that can be stored, as an id, a status or the name of a type. */
export const text = z
  .string()
  .min(1)
  .max(MAX_TEXT)
  .refine(isStorable, 'Invalid text: it holds a NUL or half of a surrogate pair');

/**
 * @param value any text
 * @returns whether both databases can keep it: PostgreSQL refuses a NUL, and half of a surrogate pair is no UTF-8
 */
export function isStorable(value: string): boolean {
  return !value.includes('\0') && value.isWellFormed();
}

/** An id that is empty names nothing: it counts as none, as an absent one does. */
const empty = z.literal('').transform(() => null);

/** An id that may be missing. */
export const optionalText = z.union([text, empty]).nullish();

/** A reference to another object: its id, or the object itself where Stripe was asked to expand it. */
export const reference = z.union([text, z.object({ id: text })]);

/** A reference that may be missing. */
export const optionalReference = z
  .union([reference, empty, z.object({ id: z.literal('') }).transform(() => null)])
  .nullish();

/**
 * @param reference a reference as it came
 * @returns the id that it names; null when there is none (a field that is absent counts as none, design: rule 9)
 */
export function idOf(reference: string | { id: string } | null | undefined): string | null {
  return (typeof reference === 'object' ? reference?.id : reference) ?? null;
}

/**
 * @param seconds an instant as Stripe writes it
 * @returns the instant, UTC; null when there is none
 */
export function dateOf(seconds: number | null | undefined): Date | null {
  return typeof seconds === 'number' ? new Date(seconds * 1000) : null;
}
