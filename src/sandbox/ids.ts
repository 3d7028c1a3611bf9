import { randomBytes } from 'node:crypto';

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/**
 * Makes an id that looks like one of Stripe's and cannot be guessed (24 characters, about 142 bits):
 * checkout and portal pages are protected by nothing but their id.
 *
 * @param prefix what the id starts with, e.g. `cus`
 * @returns the prefix, an underscore and 24 letters and digits
 */
export function newId(prefix: string): string {
  let id = '';
  while (id.length < 24) {
    for (const byte of randomBytes(32)) {
      // The lower six bits give 0..63; 62 and 63 are thrown away, so that no letter is likelier than another.
      id += ALPHABET.charAt(byte & 63);
    }
  }
  return `${prefix}_${id.slice(0, 24)}`;
}
