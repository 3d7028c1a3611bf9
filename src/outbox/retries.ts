/** Pauses before each further try, minutes: three days in all. Greylisting lets the second or third one through. */
const PAUSES = [1, 5, 15, 30, 60, 120, 240, 480, 720, 720, 720, 720, 480];

/** Each pause is longer by up to this share of it: what failed together is not tried again together. */
const JITTER = 0.2;

/**
 * @param failures how many tries have failed, at least 1
 * @param random a number from 0 to 1
 * @returns how long to wait for the next try, s; null when there is none
 */
export function pauseAfter(failures: number, random: number): number | null {
  const minutes = PAUSES[failures - 1];
  return minutes === undefined ? null : Math.round(minutes * 60 * (1 + JITTER * random));
}
