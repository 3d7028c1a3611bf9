import { z } from 'zod';

/** Stripe's instants: whole seconds since 1970, UTC. */
export const instant = z
  .number()
  .int()
  .nonnegative()
  .transform((seconds) => new Date(seconds * 1000));

/** A field that is absent counts as none, like null (design: rule 9). */
export function optional<T extends z.ZodType>(type: T) {
  return type.nullish().transform((value) => value ?? null);
}

/** A reference to another object: its id, or the object itself where Stripe was asked to expand it. */
export const reference = z
  .union([z.string().min(1), z.looseObject({ id: z.string().min(1) })])
  .transform((value) => (typeof value === 'string' ? value : value.id));
