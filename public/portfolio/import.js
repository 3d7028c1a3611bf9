// Imports files: a portfolio as JSON, or a table whose columns the person checks first.

import { decode, FIELDS, holdingsOf, NONE, readTable } from './csv.js';
import { MAX_HOLDINGS, oneEach, readDocument } from './holdings.js';
import { $, answerOf, ask, counted, element, money, number, offer } from './page.js';

const PREVIEWED = 5;
const REASONS_SHOWN = 5;

const LABELS = {
  symbol: 'Symbol',
  quantity: 'Quantity',
  price: 'Price paid per unit',
  cost: 'Total cost',
  currentPrice: 'Current price per unit',
  note: 'Note',
};

/**
 * @param {File} file
 * @param {object} portfolio what it would be added to
 * @returns {Promise<{ portfolio: object, said: string } | null>} null when the person changed their mind
 * @throws Error in words for people
 */
export async function importFile(file, portfolio) {
  const text = decode(new Uint8Array(await file.arrayBuffer()));
  const isJson = /\.json$/i.test(file.name) || /^\uFEFF?\s*\{/.test(text);
  return isJson
    ? importDocument(readDocument(text.replace(/^\uFEFF/, '')), file.name, portfolio)
    : importTable(readTable(text), file.name, portfolio);
}

async function importDocument(document, name, portfolio) {
  const [here, there] = [portfolio.holdings.length, document.holdings.length];
  if (here === 0) return replaced(document);
  const together = oneEach([...portfolio.holdings, ...document.holdings]);
  const canAdd = portfolio.currency === document.currency && together.length <= MAX_HOLDINGS;
  const answer = await ask(
    `“${name}” has ${counted(there)}. This browser has ${counted(here)}. Replace what is in this browser${canAdd ? ', or add to it' : ''}?`,
    [['replace', 'Replace'], ...(canAdd ? [['add', 'Add']] : []), ['', 'Cancel']],
  );
  if (answer === '') return null;
  return answer === 'add' ? addedTo(portfolio, document.holdings) : replaced(document);
}

const replaced = (portfolio) => ({ portfolio, said: `${counted(portfolio.holdings.length)} imported.` });

function addedTo(portfolio, holdings) {
  const together = oneEach([...portfolio.holdings, ...holdings]);
  const both = portfolio.holdings.length + holdings.length - together.length;
  return { portfolio: { ...portfolio, holdings: together }, said: added(holdings.length, both) };
}

function added(all, both) {
  if (both === 0) return `${counted(all)} imported.`;
  const which =
    both === all ? (all === 1 ? 'this symbol' : 'these symbols') : `${number(both)} of these symbols`;
  const their =
    both === 1
      ? 'the quantity was added, and the price paid averaged'
      : 'the quantities were added, and the prices paid averaged';
  return `${counted(all)} imported. You already had ${which}: ${their}.`;
}

/** The person checks which column is which; nothing is changed before they choose to. */
async function importTable(table, name, portfolio) {
  const { mapping } = table;
  let { decimal } = table;
  let found;
  const show = () => {
    found = holdingsOf(table, mapping, decimal);
    showFound(found, mapping, portfolio);
  };

  $('mapping-title').textContent = `Import “${name}”`;
  $('columns').replaceChildren(
    ...FIELDS.map((field) =>
      chooser(`column-${field}`, LABELS[field], optionsOf(table, field), mapping[field], (value) => {
        mapping[field] = Number(value);
        show();
      }),
    ),
    chooser(
      'decimal',
      'Decimal separator',
      [
        ['.', 'Point, as in 1,234.56'],
        [',', 'Comma, as in 1.234,56'],
      ],
      decimal,
      (value) => {
        decimal = value;
        show();
      },
    ),
  );
  show();
  const answer = await answerOf($('mapping'));
  $('columns').replaceChildren();
  $('preview').querySelector('tbody').replaceChildren();
  if (answer === '') return null;
  return answer === 'add'
    ? addedTo(portfolio, found.holdings)
    : replaced({ ...portfolio, holdings: found.holdings });
}

function optionsOf({ columns, rows }, field) {
  const needed = field === 'symbol' || field === 'quantity';
  const named = columns.map((name, index) => {
    const sample = rows.map(({ cells }) => cells[index]?.trim()).find(Boolean);
    return [index, sample ? `${name} (${shortened(sample)})` : name];
  });
  return [[NONE, needed ? 'Choose a column' : 'Not in this file'], ...named];
}

const shortened = (text) => (text.length > 20 ? `${text.slice(0, 19)}…` : text);

function chooser(id, label, options, chosen, onChange) {
  const select = element('select', { id }, ...options.map(([value, text]) => new Option(text, value)));
  select.value = chosen;
  select.addEventListener('change', () => onChange(select.value));
  return element(
    'div',
    { className: 'field' },
    element('label', { htmlFor: id, textContent: label }),
    select,
  );
}

function showFound({ holdings, leftOut }, mapping, { currency, holdings: here }) {
  const added = oneEach([...here, ...holdings]).length;
  const unpriced = holdings.length > 0 && mapping.price === NONE && mapping.cost === NONE;
  $('found').textContent = [
    holdings.length === 0
      ? 'No holdings found yet. Choose the columns that hold the symbol and the quantity.'
      : `${counted(holdings.length)} found. Amounts are in ${currency}.`,
    unpriced ? 'No column says what was paid, so the price paid counts as 0.' : '',
    holdings.length > MAX_HOLDINGS ? `More than ${number(MAX_HOLDINGS)} cannot be kept.` : '',
    leftOut.length > 0 ? `${counted(leftOut.length, 'line')} will be left out:` : '',
  ]
    .filter(Boolean)
    .join(' ');

  const lines = leftOut.slice(0, REASONS_SHOWN).map(({ line, reason }) => `Line ${line}: ${reason}.`);
  if (leftOut.length > REASONS_SHOWN) lines.push(`And ${number(leftOut.length - REASONS_SHOWN)} more.`);
  $('left-out').replaceChildren(...lines.map((text) => element('li', { textContent: text })));

  $('preview').hidden = holdings.length === 0;
  const table = $('preview').querySelector('table');
  table.tBodies[0].replaceChildren(
    ...holdings.slice(0, PREVIEWED).map((holding) => previewOf(holding, currency)),
  );
  hideEmptyColumns(table);
  $('preview-rest').textContent =
    holdings.length > PREVIEWED ? `And ${number(holdings.length - PREVIEWED)} more.` : '';

  const choices = [];
  if (here.length > 0 && added <= MAX_HOLDINGS) choices.push(['add', 'Add to my holdings']);
  if (holdings.length <= MAX_HOLDINGS)
    choices.push(['replace', here.length > 0 ? 'Replace my holdings' : `Import ${counted(holdings.length)}`]);
  offer($('mapping-choices'), [...(holdings.length > 0 ? choices : []), ['', 'Cancel']]);
}

/** Hides empty columns, because a phone has no room for them. */
function hideEmptyColumns({ tHead, tBodies: [body] }) {
  const rows = [...body.rows];
  for (const [index, heading] of [...tHead.rows[0].cells].entries()) {
    const cells = rows.map((row) => row.cells[index]);
    const isEmpty = cells.every(({ textContent }) => textContent === '');
    for (const cell of [heading, ...cells]) cell.hidden = isEmpty;
  }
}

function previewOf({ symbol, quantity, price, currentPrice, note }, currency) {
  return element(
    'tr',
    {},
    element('th', { scope: 'row', textContent: symbol }),
    ...[
      number(quantity),
      money(price, currency),
      currentPrice === undefined ? '' : money(currentPrice, currency),
      shortened(note),
    ].map((text) => element('td', { textContent: text })),
  );
}
