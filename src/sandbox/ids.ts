import { randomBytes } from 'node:crypto';

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/**
 * Makes an unguessable id that looks like Stripe's: the prefix, an underscore and 24 letters and digits
 * (about 143 bits). The id is the only protection of checkout and portal pages.
 */
export function newId(prefix: string): string {
  let id = '';
  while (id.length < 24) {
    for (const byte of randomBytes(32)) {
      // The lower six bits give 0..63. charAt returns '' for 62 and 63, so all characters are equally likely.
      id += ALPHABET.charAt(byte & 63);
    }
  }
  return `${prefix}_${id.slice(0, 24)}`;
}
