import { expect, test } from 'vitest';

import { alignedLines } from '../../src/operator/show.ts';
import { PLAIN } from '../../src/terminal.ts';

test('a table of very many rows is aligned', () => {
  const rows = Array.from({ length: 300_000 }, (_, index) => [`evt_${index}`, 'applied']);
  const lines = alignedLines({ head: ['event', 'status'], rows }, PLAIN).split('\n');
  expect(lines).toHaveLength(300_001);
  expect(lines.slice(0, 2)).toEqual(['event       status', 'evt_0       applied']);
});
