// @ts-check
// Numbers as people and brokers write them: 1,234.56 · 1.234,56 · 1 234,56 · 1'234.56 · € 12,50 · 12.50 USD.

/** @typedef {'.' | ','} Decimal the decimal separator */

const SPACES_AND_APOSTROPHES = /[\s'’]/g;
const LEADING_CURRENCY = /^(?:\p{L}{0,3}\p{Sc}|\p{L}{2,3}\.?\s)\s*/u;
/** A currency or a unit, such as "pcs". */
const TRAILING_UNIT = /(?:\s*\p{Sc}|\s\p{L}{1,6}\.?)$/u;
const WRITTEN = /^([-+−]?)([\d.,]*\d[\d.,]*)(e[-+]?\d+)?$/i;
/** Groups of three, or of two as in India; the last one always has three. */
const GROUPED = {
  ',': /^\d{1,3}(?:,\d{2,3})*,\d{3}$/,
  '.': /^\d{1,3}(?:\.\d{2,3})*\.\d{3}$/,
};

/** Not a unit: "10 k" is not 10. */
const MULTIPLE = /\s(?:k|m|mm|mn|mil|mill|mio|b|bn|mrd|t|tn|tsd)\.?$/iu;

/** @param {string} text */
function partsOf(text) {
  if (MULTIPLE.test(text.trim())) return null;
  const plain = text.trim().replace(LEADING_CURRENCY, '').replace(TRAILING_UNIT, '');
  const match = WRITTEN.exec(plain.replace(SPACES_AND_APOSTROPHES, ''));
  if (!match) return null;
  const [, sign = '', digits = '', exponent = ''] = match;
  return { sign, digits, exponent };
}

/** @param {Decimal} mark @returns {Decimal} */
const otherThan = (mark) => (mark === ',' ? '.' : ',');

/**
 * The decimal separator that the digits show; null for "1,234" and "1.234", which could be either.
 * @param {string} digits @returns {Decimal | null}
 */
function certainDecimal(digits) {
  const marks = digits.replace(/\d/g, '');
  const last = marks.at(-1);
  if (last !== '.' && last !== ',') return null;
  if (marks.includes(otherThan(last))) return last;
  if (marks.length > 1) return otherThan(last);
  return /^[1-9]\d{0,2}[.,]\d{3}$/.test(digits) ? null : last;
}

/**
 * @param {string} text
 * @param {Decimal} decimal decides where the text alone does not
 * @returns {number} NaN if it is not a number
 */
export function toNumber(text, decimal) {
  const parts = partsOf(text);
  if (!parts) return NaN;
  const mark = certainDecimal(parts.digits) ?? decimal;
  const [whole = '', fraction = '', ...more] = parts.digits.split(mark);
  const grouping = otherThan(mark);
  if (more.length > 0 || fraction.includes(grouping)) return NaN;
  if (whole.includes(grouping) && !GROUPED[grouping].test(whole)) return NaN;
  const size = Number(`${whole.replaceAll(grouping, '')}.${fraction}${parts.exponent}`);
  return parts.sign === '-' || parts.sign === '−' ? -size : size;
}

/**
 * The decimal separator that most of the numbers use.
 * @param {string[]} texts
 * @param {Decimal} fallback used when none of them shows it
 * @returns {Decimal}
 */
export function decimalOf(texts, fallback) {
  const found = texts
    .map((text) => certainDecimal(partsOf(text)?.digits ?? ''))
    .filter((one) => one !== null);
  if (found.length === 0) return fallback;
  return found.filter((one) => one === ',').length > found.length / 2 ? ',' : '.';
}

/**
 * Removes the error of binary fractions: 0.1 + 0.2 is 0.3.
 * @param {number} value
 */
export const rounded = (value) => Number(value.toPrecision(15));
