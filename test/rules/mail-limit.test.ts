import { expect, test } from 'vitest';

import { roomFor } from '../../src/accounts/mail-limit.ts';

test('an unproven address gets five emails a day, two of them from the reserve', () => {
  for (const [mayUseReserve, most] of [
    [false, 3],
    [true, 5],
  ] as const) {
    expect(roomFor({ sent: most - 1, queued: 0, changes: 0 }, false, mayUseReserve)).toBe('free');
    expect(roomFor({ sent: most, queued: 0, changes: 0 }, false, mayUseReserve)).toBe('full');
  }
});

test('emails that are queued count, and one more can wait for them to fail', () => {
  for (const [mayUseReserve, most] of [
    [false, 3],
    [true, 5],
  ] as const) {
    expect(roomFor({ sent: 0, queued: most - 1, changes: 0 }, false, mayUseReserve)).toBe('free');
    expect(roomFor({ sent: 0, queued: most, changes: 0 }, false, mayUseReserve)).toBe('waits');
    expect(roomFor({ sent: most - 1, queued: 1, changes: 0 }, false, mayUseReserve)).toBe('waits');
    expect(roomFor({ sent: most, queued: 1, changes: 0 }, false, mayUseReserve)).toBe('full');
  }
});

test('only two of them ask to confirm a change to the address', () => {
  expect(roomFor({ sent: 1, queued: 0, changes: 1 }, true, false)).toBe('free');
  expect(roomFor({ sent: 2, queued: 0, changes: 2 }, true, false)).toBe('full');
  expect(roomFor({ sent: 2, queued: 0, changes: 2 }, false, false)).toBe('free');
});
