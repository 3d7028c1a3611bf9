// The holdings as a table, their sums, and how they are spread.

import { CURRENCIES } from './currencies.js';
import { costOf, valueOf } from './holdings.js';
import { $, button, counted, element, money, number, percent } from './page.js';

/** How many of the largest holdings are shown individually. The rest are shown together. */
const SHARES = 8;
const SIGNED = { signDisplay: 'exceptZero' };

let sorting = { column: 'symbol', direction: 1 };

const isPriced = ({ currentPrice }) => currentPrice !== undefined;
const gainOf = (holding) => valueOf(holding) - costOf(holding);
const sumOf = (holdings, amountOf) => holdings.reduce((sum, holding) => sum + amountOf(holding), 0);

/** What a column is sorted by; null where a holding has nothing there. */
const SORTED_BY = {
  symbol: ({ symbol }) => symbol,
  quantity: ({ quantity }) => quantity,
  price: ({ price }) => price,
  cost: costOf,
  value: (holding) => (isPriced(holding) ? valueOf(holding) : null),
  gain: (holding) => (isPriced(holding) ? gainOf(holding) : null),
  note: ({ note }) => note || null,
};

function sorted(holdings) {
  const { direction } = sorting;
  const by = SORTED_BY[sorting.column];
  const compare = (a, b) => {
    // Empty cells come last in both directions.
    if (a === null || b === null) return (a === null) - (b === null);
    return direction * (typeof a === 'string' ? a.localeCompare(b) : a - b);
  };
  return holdings
    .map((holding, index) => ({ holding, index }))
    .sort((a, b) => compare(by(a.holding), by(b.holding)) || a.index - b.index);
}

/**
 * @param {object} portfolio
 * @param {{ edit: (index: number) => void, remove: (index: number) => void }} actions
 */
export function render({ holdings, currency }, actions) {
  const priced = holdings.filter(isPriced).length;
  showTotals(holdings, currency, priced);
  $('empty').hidden = holdings.length > 0;
  const table = $('table');
  table.hidden = holdings.length === 0;
  table.tBodies[0].replaceChildren(
    ...sorted(holdings).map((row) => rowOf(row, currency, priced > 0, actions)),
  );
  for (const head of document.querySelectorAll('[data-column]')) {
    const { column } = head.dataset;
    const order = sorting.direction === 1 ? 'ascending' : 'descending';
    head.setAttribute('aria-sort', column === sorting.column ? order : 'none');
    head.hidden = priced === 0 && (column === 'value' || column === 'gain');
  }
  const known = CURRENCIES.includes(currency) ? CURRENCIES : [currency, ...CURRENCIES];
  $('currency').replaceChildren(...known.map((code) => new Option(code, code, false, code === currency)));
  renderAllocation(holdings, priced > 0);
}

/** Sorts by a column, or the other way round if it did so already. Returns the direction in words. */
export function sortBy(column) {
  sorting = { column, direction: sorting.column === column ? -sorting.direction : 1 };
  return sorting.direction === 1 ? 'ascending' : 'descending';
}

function showTotals(holdings, currency, priced) {
  const [cost, value] = [sumOf(holdings, costOf), sumOf(holdings, valueOf)];
  $('count').textContent = number(holdings.length);
  $('total').textContent = money(cost, currency);
  $('value').textContent = money(value, currency);
  const share = gainShare(value - cost, cost);
  $('gain').textContent = money(value - cost, currency, SIGNED) + (share && ` (${share})`);
  $('gain').dataset.sign = Math.sign(value - cost);
  for (const one of document.querySelectorAll('[data-priced]')) one.hidden = priced === 0;
  const unpriced = holdings.length - priced;
  $('unpriced').hidden = priced === 0 || unpriced === 0;
  $('unpriced').textContent =
    `${counted(unpriced)} without a current price ${unpriced === 1 ? 'counts' : 'count'} at cost.`;
}

/** As a share of the cost; empty when nothing was paid. */
const gainShare = (gain, cost) => (cost > 0 ? percent(gain / cost, SIGNED) : '');

function rowOf({ holding, index }, currency, showValue, { edit, remove }) {
  const { symbol } = holding;
  const known = isPriced(holding);
  const buttons = element(
    'div',
    { className: 'actions' },
    button('Edit', { ariaLabel: `Edit ${symbol}`, onclick: () => edit(index) }),
    button('Delete', { ariaLabel: `Delete ${symbol}`, onclick: () => remove(index) }),
  );
  const value = cell('Current value', known ? money(valueOf(holding), currency) : '', true);
  const gain = cell('Gain or loss', known ? money(gainOf(holding), currency, SIGNED) : '', true);
  if (known) {
    value.append(small(`at ${money(holding.currentPrice, currency)}`));
    gain.append(small(gainShare(gainOf(holding), costOf(holding))));
    gain.dataset.sign = Math.sign(gainOf(holding));
  }
  const actions = element('td', {}, buttons);
  actions.dataset.wide = '';
  return element(
    'tr',
    {},
    element('th', { scope: 'row', textContent: symbol }),
    cell('Quantity', number(holding.quantity), true),
    cell('Price paid', money(holding.price, currency), true),
    cell('Cost', money(costOf(holding), currency), true),
    ...(showValue ? [value, gain] : []),
    cell('Note', holding.note),
    actions,
  );
}

const small = (text) => element('span', { className: 'small', textContent: text });

function cell(label, text, isNumber = false) {
  const made = element('td', { textContent: text });
  made.dataset.label = label;
  if (isNumber) made.dataset.number = '';
  return made;
}

function sharesOf(holdings) {
  const total = sumOf(holdings, valueOf);
  if (total === 0) return [];
  const all = holdings.map((holding) => [holding.symbol, valueOf(holding)]).sort((a, b) => b[1] - a[1]);
  const rest = all.slice(SHARES).reduce((sum, [, value]) => sum + value, 0);
  const shown = rest > 0 ? [...all.slice(0, SHARES), ['Others', rest]] : all.slice(0, SHARES);
  return shown.map(([symbol, value]) => ({ symbol, share: value / total }));
}

function renderAllocation(holdings, byValue) {
  const shares = sharesOf(holdings);
  $('allocation').hidden = shares.length === 0;
  document.getElementById('allocation-title').textContent = byValue
    ? 'Allocation by current value'
    : 'Allocation by cost';
  let x = 0;
  const bar = $('allocation').querySelector('svg');
  bar.querySelectorAll('rect').forEach((rect) => rect.remove());
  const legend = shares.map(({ symbol, share }, index) => {
    const gap = index === shares.length - 1 ? 0 : Math.min(0.3, (share * 100) / 2);
    bar.append(rectangle(x, share * 100 - gap, index));
    x += share * 100;
    const swatch = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    swatch.setAttribute('viewBox', '0 0 6 6');
    swatch.setAttribute('aria-hidden', 'true');
    swatch.append(rectangle(0, 6, index));
    return element('li', {}, swatch, `${symbol} ${percent(share)}`);
  });
  $('legend').replaceChildren(...legend);
}

function rectangle(x, width, index) {
  const rect = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
  for (const [name, value] of Object.entries({
    x,
    y: 0,
    width,
    height: 6,
    fill: `var(--share-${index + 1})`,
  })) {
    rect.setAttribute(name, String(value));
  }
  return rect;
}
