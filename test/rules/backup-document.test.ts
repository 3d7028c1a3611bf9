import { expect, test } from 'vitest';

import { readDocument } from '../../src/backups/document.ts';

const HOLDING = { symbol: 'ACME', quantity: 1, price: 2, note: '' };
const PORTFOLIO = { format: 'tandem-portfolio', version: 1, currency: 'EUR' };

test('a right document is returned with its symbols trimmed', () => {
  const holdings = [HOLDING, { ...HOLDING, symbol: ' NEW ' }];
  expect(readDocument({ ...PORTFOLIO, holdings })).toEqual({
    document: { ...PORTFOLIO, holdings: [HOLDING, { ...HOLDING, symbol: 'NEW' }] },
  });
});

test('nothing after the first wrong holding is looked at', () => {
  let looks = 0;
  const later = {
    get symbol() {
      looks += 1;
      return '';
    },
  };
  const wrong = { ...HOLDING, quantity: -1, price: 'x' };
  const read = readDocument({ ...PORTFOLIO, holdings: [HOLDING, wrong, later] });
  expect(read).toEqual({ problem: expect.stringMatching(/^holdings\.1\.quantity: /) as string });
  expect(looks).toBe(0);
});

test('no holding is looked at when something else is wrong, or when there are too many', () => {
  const holding = {
    get symbol() {
      throw new Error('looked at');
    },
  };
  expect(readDocument({ ...PORTFOLIO, version: 2, holdings: [holding] })).toEqual({
    problem: expect.stringMatching(/^version: /) as string,
  });
  expect(readDocument({ ...PORTFOLIO, holdings: Array(2_001).fill(holding) })).toEqual({
    problem: expect.stringMatching(/^holdings: .*2000/) as string,
  });
});

test('of thousands of unknown fields, the answer names one', () => {
  const unknown = Object.fromEntries(Array.from({ length: 5_000 }, (_, n) => [`field-${n}`, 1]));
  expect(readDocument({ ...PORTFOLIO, holdings: [], ...unknown })).toEqual({
    problem: 'the document: Unrecognized key: "field-0"',
  });
  expect(readDocument({ ...PORTFOLIO, holdings: [{ ...HOLDING, ...unknown }] })).toEqual({
    problem: 'holdings.0: Unrecognized key: "field-0"',
  });
});
