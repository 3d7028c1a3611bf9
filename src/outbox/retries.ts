/**
 * Pauses before the retries, minutes. They add up to about three days, before jitter. A server that uses greylisting
 * accepts the second or third attempt.
 */
const PAUSES = [1, 5, 15, 30, 60, 120, 240, 480, 720, 720, 720, 720, 480];

/** Lengthen each pause by up to this share, so that items that failed together are not retried together. */
const JITTER = 0.2;

/**
 * Returns the pause before the next attempt, s; null when no retry is left.
 *
 * @param failures failed attempts so far, at least 1
 * @param random from 0 to 1
 */
export function pauseAfter(failures: number, random: number): number | null {
  const minutes = PAUSES[failures - 1];
  return minutes === undefined ? null : Math.round(minutes * 60 * (1 + JITTER * random));
}
