import { expect, test } from 'vitest';

import { goesToOwnAddress, placeFor } from '../../src/outbox/unproven-limit.ts';

const GRANTED = 'mail.days-granted';
const PROOF = 'mail.prove-address';
const RESET = 'mail.reset-password';

test('an unproven address gets five emails a day, two of them only for security', () => {
  for (const [kind, most] of [
    [GRANTED, 3],
    [PROOF, 3],
    [RESET, 5],
  ] as const) {
    expect(placeFor(kind, { sentToday: most - 1, beingSent: 0 }), kind).toBe('granted');
    expect(placeFor(kind, { sentToday: most, beingSent: 0 }), kind).toBe('refused');
  }
});

test('an email waits while those in flight may be the last of the day, and is not refused for them', () => {
  for (const [kind, most] of [
    [GRANTED, 3],
    [RESET, 5],
  ] as const) {
    expect(placeFor(kind, { sentToday: 0, beingSent: most - 1 }), kind).toBe('granted');
    expect(placeFor(kind, { sentToday: 0, beingSent: most }), kind).toBe('waits');
    expect(placeFor(kind, { sentToday: most - 1, beingSent: 1 }), kind).toBe('waits');
    expect(placeFor(kind, { sentToday: most, beingSent: 1 }), kind).toBe('refused');
  }
});

test('mail to the address of an account counts towards its limit; the proof of a new address does not', () => {
  const ann = { email: 'ann@example.com' };
  expect(goesToOwnAddress(GRANTED, { address: null }, ann)).toBe(true);
  expect(goesToOwnAddress(PROOF, { address: 'ann@example.com' }, ann)).toBe(true);
  expect(goesToOwnAddress(PROOF, { address: 'new@example.com' }, ann)).toBe(false);
  expect(goesToOwnAddress('mail.address-changed', { address: 'ann@example.com' }, ann)).toBe(false);
});
