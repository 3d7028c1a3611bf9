// The portfolio: kept in this browser, backed up to the account on request. Every change can be undone while its notice
// is shown, even after a reload. Deleting a damaged portfolio cannot be undone.

import { wireCloud } from './portfolio/cloud.js';
import { LOCAL_CURRENCY } from './portfolio/currencies.js';
import {
  checkHolding,
  combine,
  FORMAT,
  MAX_HOLDINGS,
  readDocument,
  upperCase,
} from './portfolio/holdings.js';
import {
  $,
  asTyped,
  counted,
  inTurn,
  money,
  number,
  showError,
  typed,
  wantsToDelete,
} from './portfolio/page.js';
import { render as renderTable, sortBy } from './portfolio/table.js';

/** In localStorage: for good, and for all tabs. */
const KEPT = 'tandem.portfolio';
/** In sessionStorage: what this tab's last notice undoes. */
const BEFORE = 'tandem.portfolio.before';

const EMPTY = { ...FORMAT, currency: LOCAL_CURRENCY, holdings: [] };
const INPUTS = ['symbol', 'quantity', 'price', 'currentPrice', 'note'];

const form = $('entry');

let portfolio = EMPTY;
/** What localStorage held when this tab last read or wrote it. */
let stored = null;
/** Index of the holding that the form changes; null while it adds one. */
let editing = null;

// Storage -----------------------------------------------------------------------------------------------------------

function load() {
  const text = read(localStorage, KEPT);
  stored = text;
  $('damaged').hidden = true;
  // A new object, so that `portfolio !== before` shows that another tab has changed it.
  portfolio = { ...EMPTY };
  if (text !== null) {
    try {
      portfolio = readDocument(text);
    } catch (error) {
      // Never overwritten: the person decides what to do with it.
      $('damage').textContent = `The portfolio in this browser cannot be read. ${error.message}`;
      $('damaged').hidden = false;
      $('portfolio').hidden = true;
      $('undo').hidden = true;
      return;
    }
    if (JSON.parse(text).holdings.length > portfolio.holdings.length) {
      say(
        'Holdings with the same symbol are now combined: their quantities were added and the prices paid averaged.',
      );
      keep();
    }
  }
  $('portfolio').hidden = false;
  render();
}

/** A browser can block its storage. */
function read(storage, key) {
  try {
    return storage.getItem(key);
  } catch {
    return null;
  }
}

/**
 * Saves the new portfolio, keeps the previous one for Undo, and shows what was done.
 * @param {string} what a noun for the button: “Undo the …”
 */
function change(next, said, what) {
  const before = portfolio;
  portfolio = next;
  if (editing !== null) stopEditing();
  render();
  say(said);
  try {
    const after = JSON.stringify(portfolio);
    sessionStorage.setItem(BEFORE, JSON.stringify({ document: before, after, said, what }));
  } catch {
    // Without room for it there is no Undo.
  }
  keep();
  showUndo();
}

function keep() {
  try {
    const text = JSON.stringify(portfolio);
    localStorage.setItem(KEPT, text);
    stored = text;
  } catch {
    $('status').textContent +=
      ' But this browser could not save the change: its storage is full or blocked. Export your portfolio before you leave.';
  }
}

function undo() {
  const before = lastChange();
  if (!before) return;
  portfolio = before.document;
  if (editing !== null) stopEditing();
  render();
  say(`Undid the ${before.what}.`);
  keep();
  document.getElementById('holdings').focus();
}

const lastChange = () => JSON.parse(read(sessionStorage, BEFORE) ?? 'null');

/** A new notice takes the place of the last one and of its Undo. */
function say(text) {
  $('status').textContent = text;
  try {
    sessionStorage.removeItem(BEFORE);
  } catch {
    // Blocked, so there is nothing to remove.
  }
  showUndo();
}

function showUndo() {
  const last = lastChange();
  $('undo').hidden = last === null;
  $('undo').textContent = last ? `Undo the ${last.what}` : '';
}

function render() {
  renderTable(portfolio, { edit: startEditing, remove });
  showSum();
}

// The form ----------------------------------------------------------------------------------------------------------

function startEditing(index) {
  editing = index;
  const { symbol, quantity, price, currentPrice, note } = portfolio.holdings[index];
  const values = {
    symbol,
    quantity: asTyped(quantity),
    price: asTyped(price),
    currentPrice: currentPrice === undefined ? '' : asTyped(currentPrice),
    note,
  };
  for (const name of INPUTS) form.elements[name].value = values[name];
  $('entry-title').textContent = `Change ${symbol}`;
  $('save').textContent = 'Save changes';
  $('cancel').hidden = false;
  showErrors({});
  showSum();
  form.elements.symbol.focus();
}

function stopEditing() {
  editing = null;
  form.reset();
  $('entry-title').textContent = 'Add a holding';
  $('save').textContent = 'Add holding';
  $('cancel').hidden = true;
  showErrors({});
  showSum();
}

function showErrors(errors) {
  for (const name of INPUTS) showError(form.elements[name], errors[name]);
  const first = Object.keys(errors)[0];
  if (first) form.elements[first].focus();
}

/**
 * Where the typed symbol is already, apart from the holding that is being changed; -1 if nowhere. A holding that keeps its
 * symbol stays separate from another one with the same symbol: combined, they would have broken a limit.
 */
const placeOf = (symbol) =>
  symbol === portfolio.holdings[editing]?.symbol
    ? -1
    : portfolio.holdings.findIndex((holding) => holding.symbol === symbol);

/** Says before saving that the quantity will be added to a symbol that exists. */
function showSum() {
  const there = portfolio.holdings[placeOf(upperCase(form.elements.symbol.value))];
  $('sum').textContent = there
    ? `You have ${number(there.quantity)} ${there.symbol}. The new quantity will be added, and the price averaged.`
    : '';
}

function save(event) {
  event.preventDefault();
  const { symbol, quantity, price, currentPrice, note } = form.elements;
  const entered = checkHolding({
    symbol: symbol.value,
    quantity: typed(quantity.value),
    price: typed(price.value),
    currentPrice: currentPrice.value.trim() === '' ? undefined : typed(currentPrice.value),
    note: note.value,
  });
  if (entered.errors) {
    showErrors(entered.errors);
    return;
  }
  const place = placeOf(entered.holding.symbol);
  const isNew = editing === null;
  if (isNew && place === -1 && portfolio.holdings.length >= MAX_HOLDINGS) {
    showErrors({ symbol: `A portfolio can have at most ${MAX_HOLDINGS.toLocaleString()} holdings.` });
    return;
  }
  const there = portfolio.holdings[place];
  const { holding, errors } = there ? checkHolding(combine(there, entered.holding)) : entered;
  showErrors(errors ?? {});
  if (errors) return;
  const said = saidOf(entered.holding, there && holding);
  const holdings = withHolding(holding, place);
  stopEditing();
  change({ ...portfolio, holdings }, said, isNew ? 'addition' : 'change');
  symbol.focus();
}

/** @param sum what became of the holding that had the symbol, if there was one */
function saidOf(entered, sum) {
  if (sum) {
    const average = money(sum.price, portfolio.currency);
    return `${number(entered.quantity)} added to ${sum.symbol}: you have ${number(sum.quantity)} now, for ${average} each on average.`;
  }
  return editing === null ? `${entered.symbol} added.` : `${entered.symbol} changed.`;
}

/** @param place where the symbol is already; -1 if nowhere */
function withHolding(holding, place) {
  const { holdings } = portfolio;
  if (editing === null) return place === -1 ? [...holdings, holding] : holdings.with(place, holding);
  if (place === -1) return holdings.with(editing, holding);
  return holdings.with(place, holding).toSpliced(editing, 1);
}

function remove(index) {
  const { symbol } = portfolio.holdings[index];
  change(
    { ...portfolio, holdings: portfolio.holdings.toSpliced(index, 1) },
    `${symbol} deleted.`,
    'deletion',
  );
  // The button that was pressed is gone.
  if ($('undo').hidden) document.getElementById('holdings').focus();
  else $('undo').focus();
}

// Files -------------------------------------------------------------------------------------------------------------

/** Loads a module on demand, because few visitors need it. */
async function part(path) {
  try {
    return await import(path);
  } catch {
    // The browser remembers that it failed until the page is reloaded.
    throw new Error('A part of this page could not be loaded. Reload the page, then try again.');
  }
}

async function takeFile() {
  const input = $('file');
  const [file] = input.files;
  if (!file) return;
  showError(input, undefined);
  try {
    const { importFile } = await part('./portfolio/import.js');
    await inTurn(async () => {
      const before = portfolio;
      const imported = await importFile(file, before);
      if (!imported) return;
      if (portfolio !== before) throw new Error('Another tab has changed the portfolio meanwhile.');
      change(imported.portfolio, imported.said, 'import');
    });
  } catch (error) {
    showError(input, `${error.message} Nothing was imported.`);
  }
  input.value = '';
  input.focus();
}

function download(name, type, text) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function exportAs(kind) {
  const day = new Date().toISOString().slice(0, 10);
  try {
    if (kind === 'csv') {
      const { toCsv } = await part('./portfolio/csv.js');
      download(`portfolio-${day}.csv`, 'text/csv', toCsv(portfolio.holdings));
    } else {
      download(`portfolio-${day}.json`, 'application/json', JSON.stringify(portfolio, null, 2));
    }
    say(`Exported ${counted(portfolio.holdings.length)}.`);
  } catch (error) {
    say(error.message);
  }
}

// Wiring ------------------------------------------------------------------------------------------------------------

form.addEventListener('submit', save);
form.elements.symbol.addEventListener('input', showSum);
$('cancel').addEventListener('click', () => {
  stopEditing();
  form.elements.symbol.focus();
});
$('undo').addEventListener('click', undo);
$('file').addEventListener('change', () => void takeFile());
$('currency').addEventListener('change', ({ target }) => {
  change(
    { ...portfolio, currency: target.value },
    `Amounts are now in ${target.value}. The numbers were not converted.`,
    'currency change',
  );
});
for (const one of document.querySelectorAll('[data-export]')) {
  one.addEventListener('click', () => void exportAs(one.dataset.export));
}
for (const one of document.querySelectorAll('[data-sort]')) {
  one.addEventListener('click', () => {
    const direction = sortBy(one.dataset.sort);
    render();
    // Not a notice, so an Undo stays.
    $('sorted').textContent = `Sorted by ${one.textContent.toLowerCase()}, ${direction}.`;
  });
}
$('download-damaged').addEventListener('click', () =>
  download('portfolio-damaged.json', 'text/plain', read(localStorage, KEPT) ?? ''),
);
$('start-anew').addEventListener('click', async () => {
  const before = stored;
  if (!(await inTurn(() => wantsToDelete('the portfolio in this browser')))) return;
  // Another tab has started again meanwhile.
  if (stored !== before) return;
  localStorage.removeItem(KEPT);
  load();
  document.getElementById('holdings').focus();
});
addEventListener('storage', ({ key }) => {
  if (key === KEPT || key === null) showOtherTabs();
});
// A page restored from the back/forward cache has missed the storage events of other tabs.
addEventListener('pageshow', ({ persisted }) => {
  if (persisted && read(localStorage, KEPT) !== stored) showOtherTabs();
});

/** Another tab changed the portfolio, so what this tab could undo is no longer the last change. */
function showOtherTabs() {
  if (editing !== null) stopEditing();
  say('');
  load();
}

wireCloud({
  current() {
    // A restore would overwrite it, and a backup would be empty.
    if (!$('damaged').hidden)
      throw new Error(
        'The portfolio in this browser cannot be read. Download it or press “Start again” first.',
      );
    return portfolio;
  },
  replace: (restored, said) => change(restored, said, 'restore'),
  say,
});

const last = lastChange();
if (last && last.after === read(localStorage, KEPT)) {
  $('status').textContent = last.said;
  showUndo();
} else {
  // Another tab changed it while this page was closed, so what this tab could undo is no longer the last change.
  say('');
}
load();
$('no-script').remove();
$('page').dataset.ready = '';
