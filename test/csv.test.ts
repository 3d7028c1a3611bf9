import { describe, expect, test } from 'vitest';

import { decode, holdingsOf, parseRows, readTable, separatorOf, toCsv } from '../public/portfolio/csv.js';
import { combine, oneEach, readDocument } from '../public/portfolio/holdings.js';
import type { Holding } from '../public/portfolio/holdings.js';
import { decimalOf, toNumber } from '../public/portfolio/numbers.js';

/** What an import without corrections gives: [symbol, quantity, price paid, current price]. */
function imported(text: string): unknown[][] {
  const table = readTable(text);
  return holdingsOf(table, table.mapping, table.decimal).holdings.map((holding) => {
    const { symbol, quantity, price, currentPrice } = holding;
    return currentPrice === undefined ? [symbol, quantity, price] : [symbol, quantity, price, currentPrice];
  });
}

/** Lines, as most programs write them. */
const lines = (...all: string[]): string => all.map((line) => `${line}\r\n`).join('');

describe('a number', () => {
  test.each([
    ['1.5', '.', 1.5],
    ['1,5', '.', 1.5],
    ['1.5', ',', 1.5],
    ['1,234', '.', 1234],
    ['1,234', ',', 1.234],
    ['1.234', '.', 1.234],
    ['1.234', ',', 1234],
    ['0,125', '.', 0.125],
    ['0.125', ',', 0.125],
    ['1,234.56', ',', 1234.56],
    ['1.234,56', '.', 1234.56],
    ['1,234,567', ',', 1_234_567],
    ['1.234.567', '.', 1_234_567],
    ['12,34,567.5', '.', 1_234_567.5],
    ['1 234,56', '.', 1234.56],
    ['1\u00A0234,56', '.', 1234.56],
    ['1\u202F234,56 €', '.', 1234.56],
    ["1'234.50", '.', 1234.5],
    ['CHF 1’234.50', '.', 1234.5],
    ['$12.50', '.', 12.5],
    ['US$ 12.50', '.', 12.5],
    ['12,50 EUR', '.', 12.5],
    ['100 Stk.', '.', 100],
    ['kr 99,50', '.', 99.5],
    ['1.5E-7', '.', 1.5e-7],
    ['1e-7', '.', 1e-7],
    ['.5', '.', 0.5],
    [',5', '.', 0.5],
    ['7.', '.', 7],
    ['-3', '.', -3],
    ['−3,5', '.', -3.5],
    ['$-3.50', '.', -3.5],
    [' 12 ', '.', 12],
  ] as const)('%s with the decimal separator %s is %d', (text, decimal, value) => {
    expect(toNumber(text, decimal)).toBe(value);
  });

  test.each([
    '',
    '--',
    'n/a',
    '12%',
    '10 k',
    '1.5 Mio',
    '2 Mrd.',
    'US0378331005',
    '1.2.3',
    '12,34,5',
    '1,2345,678',
    '1-2',
    'ACME',
    '.',
    ',',
  ])('is not "%s"', (text) => {
    expect(toNumber(text, '.')).toBeNaN();
  });

  test('takes its decimal separator from the other numbers when it is ambiguous', () => {
    expect(decimalOf(['1.234', '5,5'], '.')).toBe(',');
    expect(decimalOf(['1,234', '5.5'], ',')).toBe('.');
    expect(decimalOf(['1.234', '12', 'n/a'], ',')).toBe(',');
    expect(decimalOf(['1.234.567'], '.')).toBe(',');
  });
});

describe('the rows of a file', () => {
  test('quoted fields hold separators, line breaks and quotation marks, and lines are counted through them', () => {
    expect(parseRows('a,"b,1\n""x""",c\r\n\r\nd,e"f,\n', ',')).toEqual([
      { line: 1, cells: ['a', 'b,1\n"x"', 'c'] },
      { line: 4, cells: ['d', 'e"f', ''] },
    ]);
  });

  test('the last row needs no line break, and can end with an empty field', () => {
    expect(parseRows('a;b\nc;', ';').map(({ cells }) => cells)).toEqual([
      ['a', 'b'],
      ['c', ''],
    ]);
    expect(parseRows('a|"b|c"', '|')).toEqual([{ line: 1, cells: ['a', 'b|c'] }]);
    expect(parseRows('', ',')).toEqual([]);
  });

  test('an open quotation mark is refused with its line', () => {
    expect(() => parseRows('a,b\n"c,d\n', ',')).toThrow('Line 2: a quotation mark is not closed.');
  });

  test.each([
    [',', 'a,b,c\n1,2,3\n'],
    [';', 'Ticker;Shares\nACME;1,5\nGLOBEX;2,5\n'],
    [';', 'ACME;1,5\nGLOBEX;2,5\n'],
    ['\t', 'Ticker\tShares\nACME, Inc.\t1,5\nB, C\t2\n'],
    ['|', 'a|b\nc|d\n'],
    [',', 'name,note\nA,"x;y"\nB,"z;w"\n'],
    [',', 'only one column\nA\n'],
    [';', '"Depot, Stand 1.2.2026"\n\nName;Stück;Kurs\n"A, B";1;2,5\nC;2;3\n'],
  ])('are separated by %j in %j', (separator, text) => {
    expect(separatorOf(text)).toBe(separator);
  });

  test('every kind of line break ends a line', () => {
    const rows = [
      ['A', 1, 0],
      ['B', 2, 0],
    ];
    for (const end of ['\n', '\r\n', '\r']) {
      expect(imported(['Ticker;Shares', 'A;1', 'B;2'].join(end))).toEqual(rows);
    }
  });
});

describe('the text of a file', () => {
  const bytes = (...all: number[]): Uint8Array => Uint8Array.from(all);

  test('is read as UTF-8, as UTF-16 and as Windows-1252', () => {
    expect(decode(new TextEncoder().encode('Stück'))).toBe('Stück');
    expect(decode(bytes(0x53, 0x74, 0xfc, 0x63, 0x6b))).toBe('Stück');
    expect(decode(bytes(0xff, 0xfe, 0x41, 0, 0xfc, 0))).toBe('Aü');
    expect(decode(bytes(0xfe, 0xff, 0, 0x41, 0, 0xfc))).toBe('Aü');
  });

  test('is refused when the file is a workbook', () => {
    expect(() => decode(bytes(0x50, 0x4b, 3, 4))).toThrow('Save it as CSV');
    expect(decode(new TextEncoder().encode('PKG,10,120'))).toBe('PKG,10,120');
  });

  test('is refused when the file is a picture', () => {
    expect(() => decode(bytes(0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0, 0, 0, 13))).toThrow(
      'not a text file',
    );
  });

  test('can begin with a byte order mark', () => {
    expect(imported('\uFEFFTicker;Shares\r\nACME;3\r\n')).toEqual([['ACME', 3, 0]]);
    expect(imported('\uFEFF"Ticker","Shares"\r\n"ACME","3"\r\n')).toEqual([['ACME', 3, 0]]);
  });

  test('can name its separator', () => {
    const table = readTable('sep=|\r\nTicker|Shares\r\nACME|x\r\nB|2\r\n');
    const { holdings, leftOut } = holdingsOf(table, table.mapping, table.decimal);
    expect(holdings).toMatchObject([{ symbol: 'B', quantity: 2 }]);
    expect(leftOut).toEqual([{ line: 3, reason: 'its quantity is not a number above 0, or is too large' }]);
  });

  test.each(Array.from('()*+?.^$[]{}\\/-_'))('can name %s as its separator', (separator) => {
    const text = ['Ticker,Shares', 'ACME,3', 'B,2'].join('\n').replaceAll(',', separator);
    expect(imported(`sep=${separator}\n${text}`)).toEqual([
      ['ACME', 3, 0],
      ['B', 2, 0],
    ]);
  });

  test('that is empty is refused', () => {
    expect(() => readTable(' \n\n')).toThrow('This file is empty.');
  });
});

describe('files of brokers are read without a correction', () => {
  test.each<[string, string, unknown[][]]>([
    [
      'ticker and shares alone',
      lines('Ticker;Shares', 'ACME;1.234,5', 'globex;2,25'),
      [
        ['ACME', 1234.5, 0],
        ['GLOBEX', 2.25, 0],
      ],
    ],
    [
      'thousands in dots alone, in a file with semicolons',
      lines('Ticker;Shares', 'ACME;1.000', 'GLOBEX;20'),
      [
        ['ACME', 1000, 0],
        ['GLOBEX', 20, 0],
      ],
    ],
    [
      'totals, gains and the current price beside the average cost; a disclaimer at the end',
      lines(
        'Account Number,Account Name,Symbol,Description,Quantity,Last Price,Last Price Change,Current Value,Total Gain/Loss Dollar,Cost Basis Total,Average Cost Basis,Type',
        'X1,Individual,ACME,ACME CORP,10,$130.00,+$1.20,"$1,300.00",+$95.00,"$1,205.00",$120.50,Cash',
        'X1,Individual,SPAXX**,MONEY MARKET,,,,$100.00,,,,Cash',
        '',
        '"The data is provided for information only, and is not a quote."',
      ),
      [['ACME', 10, 120.5, 130]],
    ],
    [
      'a title above the names, every field quoted, and only the total cost',
      lines(
        '"Positions for account Individual ...123 as of 04:00 PM ET, 2026/11/25"',
        '',
        '"Symbol","Description","Qty (Quantity)","Price","Price Chng $ (Price Change $)","Mkt Val (Market Value)","Cost Basis"',
        '"ACME","ACME CORP","1,000","$130.00","-$1.00","$130,000.00","$120,500.00"',
        '"Cash & Cash Investments","--","--","--","$0.00","$500.00","--"',
        '"Account Total","","--","--","-$1,000.00","$130,500.00","$120,500.00"',
      ),
      [['ACME', 1000, 120.5, 130]],
    ],
    [
      'a share price, and nothing about what was paid',
      lines(
        'Account Number,Investment Name,Symbol,Shares,Share Price,Total Value,',
        '123,ACME INDEX FUND,ACMEX,12.345,98.7,1218.45,',
      ),
      [['ACMEX', 12.345, 0, 98.7]],
    ],
    [
      'cost price and close price',
      lines(
        'DataDiscriminator,Asset Category,Currency,Symbol,Quantity,Mult,Cost Price,Cost Basis,Close Price,Value',
        'Summary,Stocks,USD,ACME,100,1,12.5,1250,13.75,1375',
      ),
      [['ACME', 100, 12.5, 13.75]],
    ],
    [
      'German, with the purchase price and the current one',
      lines(
        '"Stück/Nom.";"Bezeichnung";"WKN";"Währung";"Akt. Kurs";"Diff. abs";"Kaufkurs in EUR";"Kaufwert in EUR"',
        '"1.250,5";"ACME AG";"A1B2C3";"EUR";"13,75";"+0,25";"12,50";"15.631,25"',
      ),
      [['A1B2C3', 1250.5, 12.5, 13.75]],
    ],
    [
      'Dutch',
      lines('Product,Symbool/ISIN,Aantal,Slotkoers,Lokale waarde,', 'ACME NV,NL0000000001,15,"45,50",EUR,'),
      [['NL0000000001', 15, 0, 45.5]],
    ],
    [
      'French, with names in camel case and narrow spaces',
      lines('name;isin;quantity;buyingPrice;lastPrice', 'ACME SA;FR0000000001;1\u202F200;8,125;9,5'),
      [['FR0000000001', 1200, 8.125, 9.5]],
    ],
    [
      'separated by tabs',
      lines('Symbol\tUnits\tAverage price\tMarket price', 'ACME\t3\t10.5\t11'),
      [['ACME', 3, 10.5, 11]],
    ],
    [
      'buys of one symbol, which are one holding at the average price',
      lines(
        'Action,Time,ISIN,Ticker,Name,No. of shares,Price / share,Currency (Price / share)',
        'Market buy,2026-01-02,US1,ACME,ACME Corp,10,100,USD',
        'Market buy,2026-02-02,US1,ACME,ACME Corp,30,120,USD',
      ),
      [['ACME', 40, 115]],
    ],
    [
      'cells that say ="…", and currencies at the amounts',
      lines('Symbol,Qty,Unit cost', '="0700",="200",HKD 310.20'),
      [['0700', 200, 310.2]],
    ],
    [
      'no names at all',
      lines('ACME;10;120,50', 'GLOBEX;2,5;300'),
      [
        ['ACME', 10, 120.5],
        ['GLOBEX', 2.5, 300],
      ],
    ],
    [
      'names that nobody knows',
      lines('Papier,Hoeveel,Betaald', 'ACME,10,120.50', 'GLOBEX,2,300'),
      [
        ['ACME', 10, 120.5],
        ['GLOBEX', 2, 300],
      ],
    ],
  ])('%s', (_what, text, expected) => {
    expect(imported(text)).toEqual(expected);
  });
});

test('a corrected mapping and decimal separator win over the guess', () => {
  const table = readTable(lines('What;Ticker;Shares;Note', 'A;ACME;1.000;Savings'));
  expect(table.mapping).toMatchObject({ symbol: 1, quantity: 2, note: 3, price: -1 });
  expect(holdingsOf(table, { ...table.mapping, symbol: 0, note: 1 }, '.').holdings).toEqual([
    { symbol: 'A', quantity: 1, price: 0, note: 'ACME' },
  ]);
});

test('each line that is left out is named with its reason', () => {
  const table = readTable(
    lines(
      'Symbol,Quantity,Price,Note',
      ',1,1,',
      'A,0,1,',
      'B,-1,1,',
      'C,1,much,',
      `D,1,1,${'x'.repeat(501)}`,
      'E,2e12,1,',
      'F,1,1,',
    ),
  );
  const { holdings, leftOut } = holdingsOf(table, table.mapping, table.decimal);
  expect(holdings.map(({ symbol }) => symbol)).toEqual(['F']);
  expect(leftOut.map(({ line, reason }) => `${line} ${reason}`)).toEqual([
    '2 it has no symbol of 1 to 20 characters',
    '3 its quantity is not a number above 0, or is too large',
    '4 its quantity is not a number above 0, or is too large',
    '5 its price is not a number, is below 0, or is too large',
    '6 its note is longer than 500 characters',
    '7 its quantity is not a number above 0, or is too large',
  ]);
});

test('a file in which a number is too large says which holding it is', () => {
  const holdings = [{ symbol: 'A', quantity: 2e12, price: 1, note: '' }];
  const document = { format: 'tandem-portfolio', version: 1, currency: 'EUR', holdings };
  expect(() => readDocument(JSON.stringify(document))).toThrow(
    'Holding 1 cannot be read: its quantity is not a number above 0, or is too large.',
  );
});

describe('our own export', () => {
  const HOLDINGS: Holding[] = [
    { symbol: 'ACME', quantity: 1.234, price: 120.5, currentPrice: 1234.5, note: 'a;b, "c"\nd' },
    { symbol: '=X', quantity: 1e-7, price: 0, note: "=cmd|' /C calc'!A0" },
    { symbol: 'B', quantity: 1_234_567, price: 1.234, note: '="not a formula"' },
  ];

  test('is imported unchanged', () => {
    const table = readTable(toCsv(HOLDINGS));
    expect(holdingsOf(table, table.mapping, table.decimal)).toEqual({ holdings: HOLDINGS, leftOut: [] });
  });

  test('starts no formula', () => {
    const cells = toCsv(HOLDINGS).split(/[,;\t\r\n]/);
    expect(cells.filter((cell) => /^["\s]*[=+\-@]/.test(cell))).toEqual([]);
  });
});

describe('one holding for each symbol', () => {
  const holding = (symbol: string, quantity: number, price: number, note = ''): Holding => ({
    symbol,
    quantity,
    price,
    note,
  });

  test('quantities are added, prices averaged by quantity, notes kept once', () => {
    expect(combine(holding('A', 0.1, 10, 'x'), holding('A', 0.2, 40, 'y'))).toEqual(
      holding('A', 0.3, 30, 'x; y'),
    );
    expect(combine(holding('A', 3, 12.34, 'x'), holding('A', 7, 12.34, 'x'))).toEqual(
      holding('A', 10, 12.34, 'x'),
    );
    expect(combine({ ...holding('A', 1, 1), currentPrice: 2 }, holding('A', 1, 1)).currentPrice).toBe(2);
    const newer = { ...holding('A', 1, 1), currentPrice: 3 };
    expect(combine({ ...holding('A', 1, 1), currentPrice: 2 }, newer).currentPrice).toBe(3);
  });

  test('two that do not fit into one stay two, so that nothing is lost', () => {
    const long = [holding('A', 1, 1, 'x'.repeat(300)), holding('A', 1, 1, 'y'.repeat(300))];
    expect(oneEach(long)).toEqual(long);
  });

  test('a document of an older version of the page is read, with symbols in upper case and without duplicates', () => {
    const old = {
      format: 'tandem-portfolio',
      version: 1,
      currency: 'EUR',
      holdings: [
        holding('acme', 1, 10),
        holding('Straße', 1, 1),
        holding('ACME', 3, 20),
        holding('ß'.repeat(20), 1, 1),
      ],
    };
    expect(readDocument(JSON.stringify(old))).toEqual({
      ...old,
      holdings: [holding('ACME', 4, 17.5), holding('STRAßE', 1, 1), holding('ß'.repeat(20), 1, 1)],
    });
  });
});
