import { createHash } from 'node:crypto';

/** Draws an integer from 0 up to, but not including, a limit. */
export type Draw = (limit: number) => number;

/** The seed of this run: SEED in the environment, so that a failed run can be repeated. */
export const SEED = process.env['SEED'] ?? String(Date.now() % 1_000_000);

/**
 * @param purpose each purpose has its own sequence, independent of how often others draw
 * @returns the same sequence for the same seed
 */
export function seededRandom(purpose: string): Draw {
  let count = 0;
  return (limit) => {
    count += 1;
    const hash = createHash('sha256').update(`${SEED} ${purpose} ${count}`).digest();
    return hash.readUInt32LE() % limit;
  };
}

/** The same items in another order. */
export function shuffled<T>(draw: Draw, things: readonly T[]): T[] {
  const rest = [...things];
  return things.flatMap(() => rest.splice(draw(rest.length), 1));
}
