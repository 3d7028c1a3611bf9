// @ts-check
// Tables in text files: those that brokers and spreadsheets write, and our own export.

import { checkHolding, oneEach, whyUnreadable } from './holdings.js';
import { decimalOf, rounded, toNumber } from './numbers.js';

/**
 * @typedef {import('./numbers.js').Decimal} Decimal
 * @typedef {import('./holdings.js').Holding} Holding
 * @typedef {{ line: number, cells: string[] }} Row
 *
 * @typedef {'symbol' | 'quantity' | 'price' | 'cost' | 'currentPrice' | 'note'} Field
 * @typedef {Record<Field, number>} Mapping the column of each field, from 0; NONE where there is none
 *
 * @typedef {object} Table
 * @property {string[]} columns their names
 * @property {Row[]} rows without the names
 * @property {Mapping} mapping a guess
 * @property {Decimal} decimal a guess
 */

export const NONE = -1;

/** @type {readonly Field[]} */
export const FIELDS = ['symbol', 'quantity', 'price', 'cost', 'currentPrice', 'note'];

// Reading -----------------------------------------------------------------------------------------------------------

/**
 * Text in UTF-8, in UTF-16 with a byte order mark, or in Windows-1252, which older programs still write.
 * @param {Uint8Array} bytes
 * @throws Error for a workbook, or anything else that is not text
 */
export function decode(bytes) {
  if (bytes[0] === 0x50 && bytes[1] === 0x4b && bytes[2] === 0x03 && bytes[3] === 0x04) {
    throw new Error(
      'This is a spreadsheet workbook. Save it as CSV in your spreadsheet program, and import that file.',
    );
  }
  const text = decodeText(bytes);
  if (text.includes('\0')) throw new Error('This is not a text file. Choose a CSV or a JSON file.');
  return text;
}

/** @param {Uint8Array} bytes */
function decodeText(bytes) {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return new TextDecoder('utf-16le').decode(bytes);
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return new TextDecoder('utf-16be').decode(bytes);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder('windows-1252').decode(bytes);
  }
}

/**
 * RFC 4180: a field in quotation marks can hold separators, line breaks, and quotation marks, doubled. Quotation
 * marks elsewhere are kept as they are.
 * @param {string} text @param {string} separator one character
 * @returns {Row[]} without empty ones
 * @throws Error when a quotation mark is not closed
 */
export function parseRows(text, separator) {
  const plain = separator.replace(/[$()*+\-./?[\\\]^{|}]/, '\\$&');
  const pattern = new RegExp(
    `(?:[ ]*"((?:[^"]|"")*)"([^${plain}\\r\\n]*)|([^${plain}\\r\\n]*))(${plain}|\\r\\n|\\n|\\r|$)`,
    'gy',
  );
  /** @type {Row[]} */
  const rows = [];
  /** @type {string[]} */
  let cells = [];
  let line = 1;
  let first = 1;
  for (let end = separator; end === separator || pattern.lastIndex < text.length;) {
    const match = pattern.exec(text);
    if (!match) break;
    const [whole, inQuotes, afterQuotes = '', unquoted = ''] = match;
    end = match[4] ?? '';
    if (inQuotes === undefined && /^ *"/.test(unquoted)) {
      throw new Error(`Line ${line}: a quotation mark is not closed.`);
    }
    cells.push(inQuotes === undefined ? unquoted : inQuotes.replaceAll('""', '"') + afterQuotes.trimEnd());
    line += whole.split(/\r\n|\n|\r/).length - 1;
    if (end === separator) continue;
    if (cells.some((cell) => cell.trim() !== '')) rows.push({ line: first, cells });
    cells = [];
    first = line;
  }
  return rows;
}

/** On a tie the first wins: commas also appear in numbers and in prose. */
const SEPARATORS = ['\t', ';', '|', ','];

/**
 * The separator that gives most rows the same number of cells.
 * @param {string} text
 */
export function separatorOf(text) {
  let best = { separator: ',', rows: 0, width: 1 };
  for (const separator of SEPARATORS) {
    /** @type {Map<number, number>} */
    const widths = new Map();
    let all;
    try {
      all = parseRows(text, separator);
    } catch {
      continue;
    }
    for (const { cells } of all) widths.set(cells.length, (widths.get(cells.length) ?? 0) + 1);
    for (const [width, rows] of widths) {
      if (width > 1 && (rows > best.rows || (rows === best.rows && width > best.width))) {
        best = { separator, rows, width };
      }
    }
  }
  return best.separator;
}

// Which column is which ---------------------------------------------------------------------------------------------

/**
 * How brokers name their columns, in the form that `plainName` returns; better matches first.
 * @type {Record<Field, RegExp[]>}
 */
const NAMES = {
  symbol: [
    /^(symbol|ticker|symbool|simbolo|symbole)$/,
    /\b(symbol|ticker|symbool)\b/,
    /\bisin\b/,
    /\b(wkn|valor|valoren\w*|cusip|sedol)\b/,
    /^(instrument|security|asset|coin|product|produkt|wertpapier\w*|bezeichnung|investment|name|titel)\b/,
  ],
  quantity: [
    /^(quantity|qty|shares|units|stuck\w*|anzahl|menge|bestand|aantal|antal|quantite|quantita|cantidad|titoli|titulos)$/,
    /\b(quantity|qty|shares|units|stuck\w*|anzahl|aantal|antal|quantite|quantita|cantidad)\b/,
    /^(amount|balance|position|nominal\w*)$/,
  ],
  price: [
    /\b(average|avg|unit|purchase|buy|buying|entry|open|cost)\b.*\b(price|cost)\b/,
    /\bprice paid\b|\bcost( basis)? (per )?(share|unit)\b/,
    /(einstand|kauf|durchschnitt)s?-?(kurs|preis)|\bgak\b|\bbuy in\b/,
    /\b(prix de revient unitaire|pru|precio medio|prezzo medio)\b/,
  ],
  cost: [
    /\b(cost basis|total cost|book cost|book value|total paid|amount invested|invested)\b/,
    /einstandswert|kaufwert|anschaffungswert/,
    /^(cost|total)$/,
  ],
  currentPrice: [
    /\b(current|last|market|latest|closing|close|share)\b.*\bprice\b/,
    /\bakt\w*\b.*\b(kurs|preis)\b/,
    /^(last|close|closing|kurs|schlusskurs|koers|slotkoers|cours|ultimo prezzo|ultimo precio)\b/,
  ],
  note: [
    /^(notes?|comments?|remarks?|memo|notiz\w*|bemerkung\w*)$/,
    /^(description|beschreibung|bezeichnung|name)$/,
  ],
};

/** The price paid, or the current one if another column says what was paid. */
const PRICE = /^(price( per)?( share| unit)?|preis|prix|precio|prezzo)\b/;

/** Columns with such names hold a total, a change or a gain, not a price per unit. */
const NOT_OF_ONE = /\b(total|change|chng|gain|loss|currency|date|day)\b/;

/** @param {string} name */
function plainName(name) {
  return name
    .replace(/([a-z])([A-Z])/g, '$1 $2')
    .normalize('NFD')
    .replace(/\p{M}/gu, '')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, ' ')
    .trim();
}

/**
 * @param {string[]} columns names
 * @returns {Mapping}
 */
export function guessMapping(columns) {
  const names = columns.map(plainName);
  const mapping = { symbol: NONE, quantity: NONE, price: NONE, cost: NONE, currentPrice: NONE, note: NONE };
  /** @param {RegExp} pattern @param {Field} field */
  const find = (pattern, field) =>
    names.findIndex(
      (name, index) =>
        pattern.test(name) &&
        !(NOT_OF_ONE.test(name) && field !== 'cost') &&
        !Object.values(mapping).includes(index),
    );
  for (const field of FIELDS) {
    for (const pattern of NAMES[field]) {
      if (mapping[field] === NONE) mapping[field] = find(pattern, field);
    }
  }
  const price = find(PRICE, 'price');
  if (mapping.price === NONE && mapping.cost === NONE) mapping.price = price;
  else if (mapping.currentPrice === NONE) mapping.currentPrice = price;
  return mapping;
}

/** @param {string} cell */
const isNumber = (cell) => !Number.isNaN(toNumber(cell, '.'));

/**
 * Index of the header row; rows above it are a title. If it has no names that we know, it is the row above the first
 * number; -1 if there is no header row.
 * @param {Row[]} rows
 */
function headerOf(rows) {
  const known = rows.findIndex(({ cells }) => {
    const { symbol, quantity } = guessMapping(cells);
    return symbol !== NONE && quantity !== NONE && !cells.some(isNumber);
  });
  if (known !== -1) return known;
  const data = rows.findIndex(({ cells }) => cells.some(isNumber));
  return data === -1 ? 0 : data - 1;
}

/**
 * @param {string} text
 * @returns {Table}
 * @throws Error in words for people
 */
export function readTable(text) {
  const named = /^\uFEFF?sep=(.)(?:\r\n|\n|\r)/.exec(text);
  // Keeps the line break, so that the numbers of lines stay right.
  const body = named ? text.slice(named[0].trimEnd().length) : text.replace(/^\uFEFF/, '');
  const separator = named?.[1] ?? separatorOf(body);
  const all = parseRows(body, separator);
  if (all.length === 0) throw new Error('This file is empty.');
  const header = headerOf(all);
  const rows = all.slice(header + 1);
  const names = all[header]?.cells ?? [];
  const width = rows.reduce((most, { cells }) => Math.max(most, cells.length), names.length);
  const columns = Array.from({ length: width }, (_, index) => names[index]?.trim() || `Column ${index + 1}`);
  const mapping = completed(guessMapping(columns), rows, width);
  return { columns, rows, mapping, decimal: guessDecimal(rows, mapping, separator) };
}

/**
 * If the names do not say, guesses from the contents: the first text is the symbol, the first number the
 * quantity, the second the price paid.
 * @param {Mapping} mapping @param {Row[]} rows @param {number} width
 * @returns {Mapping}
 */
function completed(mapping, rows, width) {
  const full = { ...mapping };
  const columns = Array.from({ length: width }, (_, index) => index);
  /** @param {(cell: string) => boolean} fits */
  const firstFree = (fits) =>
    columns.find((index) => {
      const cells = rows.map(({ cells: row }) => row[index]?.trim() ?? '').filter((cell) => cell !== '');
      return !Object.values(full).includes(index) && cells.filter(fits).length > cells.length / 2;
    }) ?? NONE;
  const nothingKnown = mapping.symbol === NONE && mapping.quantity === NONE;
  if (full.symbol === NONE) full.symbol = firstFree((cell) => !isNumber(cell) && cell.length <= 20);
  if (full.quantity === NONE) full.quantity = firstFree(isNumber);
  if (nothingKnown && full.price === NONE) full.price = firstFree(isNumber);
  return full;
}

/**
 * @param {Row[]} rows @param {Mapping} mapping @param {string} separator
 * @returns {Decimal}
 */
function guessDecimal(rows, { quantity, price, cost, currentPrice }, separator) {
  const cells = rows.flatMap((row) =>
    [quantity, price, cost, currentPrice].map((column) => row.cells[column] ?? ''),
  );
  // Programs use semicolons as the separator where the comma is the decimal separator.
  return decimalOf(cells, separator === ';' ? ',' : '.');
}

/**
 * @param {Pick<Table, 'rows'>} table @param {Mapping} mapping @param {Decimal} decimal
 * @returns {{ holdings: Holding[], leftOut: { line: number, reason: string }[] }}
 */
export function holdingsOf({ rows }, mapping, decimal) {
  /** @type {Holding[]} */
  const holdings = [];
  /** @type {{ line: number, reason: string }[]} */
  const leftOut = [];
  for (const { line, cells } of rows) {
    /** @param {Field} field */
    const text = (field) => unguarded(cells[mapping[field]] ?? '');
    /** @param {Field} field */
    const number = (field) => toNumber(text(field), decimal);
    const quantity = number('quantity');
    const current = number('currentPrice');
    const { holding, errors } = checkHolding({
      symbol: text('symbol'),
      quantity,
      price: pricePaid(mapping, number, quantity),
      // "n/a" and the like say that it is unknown.
      currentPrice: current >= 0 ? current : undefined,
      note: text('note'),
    });
    if (holding) holdings.push(holding);
    else leftOut.push({ line, reason: whyUnreadable(errors) });
  }
  return { holdings: oneEach(holdings), leftOut };
}

/**
 * The price paid per unit; 0 if the file does not say, which the preview points out.
 * @param {Mapping} mapping @param {(field: Field) => number} number @param {number} quantity
 */
function pricePaid(mapping, number, quantity) {
  if (mapping.price === NONE && mapping.cost === NONE) return 0;
  const price = number('price');
  return Number.isNaN(price) ? rounded(number('cost') / quantity) : price;
}

// Writing -----------------------------------------------------------------------------------------------------------

// A spreadsheet runs a cell as a formula if it begins with one of these, even after spaces and quotation marks. With
// another separator, or if a quoted line break is split, a new cell can begin inside a field. So an apostrophe is put in
// front, and removed on import. https://owasp.org/www-community/attacks/CSV_Injection
const CELL_STARTS = '(?<=^|[;,|\\t\\r\\n])';
const FORMULA_AHEAD = '(?=[ \\u00A0\\u3000"]*[\'=+\\-@\uFF1D\uFF0B\uFF0D\uFF20])';
const FORMULA = new RegExp(`${CELL_STARTS}${FORMULA_AHEAD}`, 'g');
const GUARDED_FORMULA = new RegExp(`${CELL_STARTS}'${FORMULA_AHEAD}`, 'g');

/**
 * A cell's content, without our guard and without the ="…" that some programs use to keep a spreadsheet from guessing.
 * @param {string} cell
 */
function unguarded(cell) {
  return cell.replace(/^="([^"]*)"$/, '$1').replace(GUARDED_FORMULA, '');
}

/** @param {Holding[]} holdings */
export function toCsv(holdings) {
  /** @param {string} text */
  const quoted = (text) => (/[";,\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  /** @param {string} text */
  const safe = (text) => quoted(text.replace(FORMULA, "'"));
  const rows = holdings.map(({ symbol, quantity, price, note, currentPrice }) =>
    [safe(symbol), quantity, price, safe(note), currentPrice ?? ''].join(','),
  );
  return ['symbol,quantity,price,note,current price', ...rows].map((row) => `${row}\r\n`).join('');
}
