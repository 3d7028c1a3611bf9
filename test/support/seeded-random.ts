import { createHash } from 'node:crypto';

/** Draws whole numbers from 0 up to, not including, a limit. */
export type Draw = (limit: number) => number;

/** The seed of this run: SEED in the environment, so that a failed run can be repeated. */
export const SEED = process.env['SEED'] ?? String(Date.now() % 1_000_000);

/**
 * @param purpose each has draws of its own, which do not depend on how often another one drew
 * @returns the same draws for the same seed
 */
export function seededRandom(purpose: string): Draw {
  let count = 0;
  return (limit) => {
    count += 1;
    const hash = createHash('sha256').update(`${SEED} ${purpose} ${count}`).digest();
    return hash.readUInt32LE() % limit;
  };
}

/** The same things in another order. */
export function shuffled<T>(draw: Draw, things: readonly T[]): T[] {
  const rest = [...things];
  return things.flatMap(() => rest.splice(draw(rest.length), 1));
}
