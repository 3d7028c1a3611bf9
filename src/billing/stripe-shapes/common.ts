import { z } from 'zod';

// The shapes here hold no more than the fields that we read: parsed by one of them, an object loses all others. What
// they give is JSON again, so that a payload can be thinned with the very schema that it is read through.

/** Stripe's instants: whole seconds since 1970, UTC. */
export const instant = z.number().int().nonnegative();

/** A reference to another object: its id, or the object itself where Stripe was asked to expand it. */
export const reference = z.union([z.string().min(1), z.object({ id: z.string().min(1) })]);

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
