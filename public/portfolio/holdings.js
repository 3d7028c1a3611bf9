// @ts-check
// What a portfolio is. The server checks backups by the same rules: src/backups/document.ts.

import { rounded } from './numbers.js';

/**
 * @typedef {object} Holding
 * @property {string} symbol upper case
 * @property {number} quantity
 * @property {number} price paid for one
 * @property {number} [currentPrice] of one
 * @property {string} note
 */

export const MAX_HOLDINGS = 2000;
const MAX_AMOUNT = 1e12;
const MAX_SYMBOL = 20;
const MAX_NOTE = 500;

export const FORMAT = { format: 'tandem-portfolio', version: 1 };

/** @param {unknown} value */
const isAmount = (value) => typeof value === 'number' && value >= 0 && value <= MAX_AMOUNT;

/** @param {unknown} value */
const tooLarge = (value) =>
  typeof value === 'number' && value > MAX_AMOUNT
    ? 'This number is too large: the limit is 1,000,000,000,000.'
    : undefined;

/**
 * Letters that become two, such as ß, stay: the symbol must not outgrow its limit.
 * @param {string} text
 */
export function upperCase(text) {
  return text.trim().replace(/\p{Ll}/gu, (letter) => {
    const upper = letter.toUpperCase();
    return upper.length === letter.length ? upper : letter;
  });
}

/**
 * The holding, or what is wrong with it, by field.
 * @param {{ [field in keyof Holding]?: unknown }} fields
 * @returns {{ holding: Holding, errors?: undefined } | { holding?: undefined, errors: { [field in keyof Holding]?: string } }}
 */
export function checkHolding({ symbol, quantity, price, currentPrice, note }) {
  const name = upperCase(String(symbol ?? ''));
  const text = String(note ?? '');
  /** @type {{ [field in keyof Holding]?: string }} */
  const errors = {};
  if (name === '' || name.length > MAX_SYMBOL) errors.symbol = 'Enter a symbol of 1 to 20 characters.';
  if (!isAmount(quantity) || quantity === 0)
    errors.quantity = tooLarge(quantity) ?? 'Enter a number above 0, such as 1.5.';
  if (!isAmount(price)) errors.price = tooLarge(price) ?? 'Enter what you paid per unit, such as 12.34.';
  if (currentPrice !== undefined && !isAmount(currentPrice))
    errors.currentPrice =
      tooLarge(currentPrice) ?? 'Enter what one unit is worth now, such as 12.34, or leave it empty.';
  if (text.length > MAX_NOTE) errors.note = 'A note can have at most 500 characters.';
  if (Object.keys(errors).length > 0) return { errors };
  return {
    holding: {
      symbol: name,
      quantity: Number(quantity),
      price: Number(price),
      ...(currentPrice !== undefined && { currentPrice: Number(currentPrice) }),
      note: text,
    },
  };
}

/** @type {Record<string, string>} */
const UNREADABLE = {
  symbol: 'it has no symbol of 1 to 20 characters',
  quantity: 'its quantity is not a number above 0, or is too large',
  price: 'its price is not a number, is below 0, or is too large',
  currentPrice: 'its current price is not a number, is below 0, or is too large',
  note: 'its note is longer than 500 characters',
};

/**
 * Why a holding in a file cannot be read, without a full stop. `checkHolding` says it to somebody who types.
 * @param {{ [field in keyof Holding]?: string }} errors at least one
 */
export const whyUnreadable = (errors) => UNREADABLE[Object.keys(errors)[0] ?? ''] ?? 'a value is wrong';

/**
 * Reads an exported file, a backup, or what the browser keeps.
 * @param {string} text
 * @throws Error in words for people
 */
export function readDocument(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error('This is not valid JSON.');
  }
  if (value?.format !== FORMAT.format) throw new Error('This is not a portfolio from this page.');
  if (value.version !== FORMAT.version)
    throw new Error(
      'This portfolio was made by another version of this page. Reload the page and try again.',
    );
  if (!/^[A-Z]{3}$/.test(value.currency))
    throw new Error('The currency is not a code of three capital letters.');
  if (!Array.isArray(value.holdings)) throw new Error('This portfolio has no list of holdings.');
  if (value.holdings.length > MAX_HOLDINGS)
    throw new Error(`This portfolio has more than ${MAX_HOLDINGS.toLocaleString()} holdings.`);
  /** @type {Holding[]} */
  const holdings = value.holdings.map((/** @type {object | null} */ row, /** @type {number} */ index) => {
    const { holding, errors } = checkHolding(row ?? {});
    if (errors) throw new Error(`Holding ${index + 1} cannot be read: ${whyUnreadable(errors)}.`);
    return holding;
  });
  // Older versions of this page kept a symbol in any case, and more than once.
  return { ...FORMAT, currency: value.currency, holdings: oneEach(holdings) };
}

/** @param {Holding} holding */
export const costOf = ({ quantity, price }) => quantity * price;

/**
 * A holding whose current price is unknown counts at cost.
 * @param {Holding} holding
 */
export const valueOf = ({ quantity, price, currentPrice }) => quantity * (currentPrice ?? price);

/**
 * Two holdings of a symbol as one: the quantities added, the price paid averaged.
 * @param {Holding} first @param {Holding} second the newer one; its current price counts
 * @returns {Holding}
 */
export function combine(first, second) {
  const quantity = rounded(first.quantity + second.quantity);
  const currentPrice = second.currentPrice ?? first.currentPrice;
  const notes = first.note.includes(second.note) ? [first.note] : [first.note, second.note];
  return {
    symbol: first.symbol,
    quantity,
    price: rounded((costOf(first) + costOf(second)) / quantity),
    ...(currentPrice !== undefined && { currentPrice }),
    note: notes.filter(Boolean).join('; '),
  };
}

/**
 * One holding for each symbol. Two holdings stay separate if their sum would break a limit, such as the length of the
 * note.
 * @param {Holding[]} holdings
 */
export function oneEach(holdings) {
  /** @type {Holding[]} */
  const kept = [];
  /** @type {Map<string, number>} */
  const places = new Map();
  for (const holding of holdings) {
    const place = places.get(holding.symbol);
    const here = place === undefined ? undefined : kept[place];
    const sum = here && checkHolding({ ...combine(here, holding) }).holding;
    if (place !== undefined && sum) kept[place] = sum;
    else places.set(holding.symbol, kept.push(holding) - 1);
  }
  return kept;
}
