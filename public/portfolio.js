// The portfolio: kept in this browser, backed up to the account on request. The server checks backups by the same rules
// (src/backups/document.ts). Everything that replaces or removes something can be undone once, after a reload as well.

const KEPT = 'tandem.portfolio';
const BEFORE = 'tandem.portfolio.before';

const CURRENCIES = [
  'EUR',
  'USD',
  'GBP',
  'CHF',
  'AUD',
  'CAD',
  'CNY',
  'DKK',
  'INR',
  'JPY',
  'NOK',
  'NZD',
  'PLN',
  'SEK',
];
const EMPTY = { format: 'tandem-portfolio', version: 1, currency: 'EUR', holdings: [] };
const MAX_HOLDINGS = 2000;
const MAX_AMOUNT = 1e12;
const SHARES = 8;

const $ = (name) => document.querySelector(`[data-${name}]`);
const status = $('status');
const form = $('entry');

let portfolio = EMPTY;
let sorting = { column: 'symbol', direction: 1 };
/** Which holding the form changes; null while it adds one. */
let editing = null;

// What is kept ------------------------------------------------------------------------------------------------------

/** The holding if it is a right one, or what is wrong, by field. */
function checkHolding({ symbol, quantity, price, note }) {
  const errors = {};
  const name = String(symbol ?? '').trim();
  if (name === '' || name.length > 20) errors.symbol = 'Enter a symbol of 1 to 20 characters.';
  if (!(quantity > 0 && quantity <= MAX_AMOUNT)) errors.quantity = 'Enter a number above 0, such as 1.5.';
  if (!(price >= 0 && price <= MAX_AMOUNT)) errors.price = 'Enter what you paid for one, such as 12.34.';
  if (String(note ?? '').length > 500) errors.note = 'A note has 500 characters at most.';
  const wrong = Object.keys(errors).length > 0;
  return wrong ? { errors } : { holding: { symbol: name, quantity, price, note: String(note ?? '') } };
}

/** @throws Error in words for people */
function readDocument(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error('This is not a JSON file.');
  }
  if (value?.format !== 'tandem-portfolio') throw new Error('This is not a portfolio of this page.');
  if (value.version !== 1)
    throw new Error('This portfolio was made by a newer version of this page. Reload it, and try again.');
  if (!/^[A-Z]{3}$/.test(value.currency)) throw new Error('Its currency is none.');
  if (!Array.isArray(value.holdings)) throw new Error('It has no list of holdings.');
  return {
    ...EMPTY,
    currency: value.currency,
    holdings: checkAll(value.holdings, (index) => `Holding ${index + 1}`),
  };
}

function checkAll(rows, nameOf) {
  if (rows.length > MAX_HOLDINGS) throw new Error(`It has more than ${MAX_HOLDINGS} holdings.`);
  return rows.map((row, index) => {
    const numbers = typeof row?.quantity === 'number' && typeof row?.price === 'number';
    const { holding, errors } = checkHolding(numbers ? row : { ...row, quantity: NaN });
    if (errors) throw new Error(`${nameOf(index)}: ${Object.values(errors)[0]}`);
    return holding;
  });
}

function load() {
  const text = read(KEPT);
  $('damaged').hidden = true;
  if (text === null) {
    portfolio = EMPTY;
  } else {
    try {
      portfolio = readDocument(text);
    } catch (error) {
      // Never written over: the person decides what becomes of it.
      $('damage').textContent = `What this browser keeps cannot be read. ${error.message}`;
      $('damaged').hidden = false;
      $('portfolio').hidden = true;
      return;
    }
  }
  $('portfolio').hidden = false;
  render();
}

function read(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Keeps the new portfolio, and the one before for Undo; says what was done. */
function change(next, said) {
  const before = portfolio;
  portfolio = next;
  let problem = '';
  try {
    localStorage.setItem(BEFORE, JSON.stringify({ document: before, said }));
    localStorage.setItem(KEPT, JSON.stringify(next));
  } catch {
    problem =
      ' This browser could not keep it, though: its storage is full or blocked. Export it before you leave.';
  }
  render();
  say(said + problem);
}

function undo() {
  const before = JSON.parse(read(BEFORE) ?? 'null');
  if (!before) return;
  portfolio = before.document;
  localStorage.setItem(KEPT, JSON.stringify(portfolio));
  localStorage.removeItem(BEFORE);
  render();
  say('Undone.');
  document.getElementById('holdings').focus();
}

function say(text) {
  status.textContent = text;
  showUndo();
}

function showUndo() {
  $('undo').hidden = read(BEFORE) === null;
}

// What is shown -----------------------------------------------------------------------------------------------------

const money = (amount) =>
  new Intl.NumberFormat(undefined, { style: 'currency', currency: portfolio.currency }).format(amount);
const number = (value) => new Intl.NumberFormat(undefined, { maximumFractionDigits: 8 }).format(value);
const percent = (share) =>
  new Intl.NumberFormat(undefined, { style: 'percent', maximumFractionDigits: 1 }).format(share);
const costOf = ({ quantity, price }) => quantity * price;
const totalOf = (holdings) => holdings.reduce((sum, holding) => sum + costOf(holding), 0);

function sorted() {
  const { column, direction } = sorting;
  const value = (holding) => (column === 'cost' ? costOf(holding) : holding[column]);
  const compare = (a, b) =>
    typeof value(a) === 'string' ? value(a).localeCompare(value(b)) : value(a) - value(b);
  return portfolio.holdings
    .map((holding, index) => ({ holding, index }))
    .sort((a, b) => direction * compare(a.holding, b.holding) || a.index - b.index);
}

function render() {
  const { holdings, currency } = portfolio;
  $('count').textContent = number(holdings.length);
  $('total').textContent = money(totalOf(holdings));
  $('empty').hidden = holdings.length > 0;
  $('table').hidden = holdings.length === 0;
  $('table').tBodies[0].replaceChildren(...sorted().map(rowOf));
  for (const head of document.querySelectorAll('[data-column]')) {
    const order = sorting.direction === 1 ? 'ascending' : 'descending';
    head.setAttribute('aria-sort', head.dataset.column === sorting.column ? order : 'none');
  }
  const known = CURRENCIES.includes(currency) ? CURRENCIES : [currency, ...CURRENCIES];
  $('currency').replaceChildren(...known.map((code) => new Option(code, code, false, code === currency)));
  renderAllocation(holdings);
  showUndo();
}

function rowOf({ holding, index }) {
  const row = document.createElement('tr');
  const name = document.createElement('th');
  name.scope = 'row';
  name.textContent = holding.symbol;
  const actions = document.createElement('td');
  actions.dataset.wide = '';
  const buttons = document.createElement('div');
  buttons.className = 'actions';
  buttons.append(
    button('Edit', `Edit ${holding.symbol}`, () => startEditing(index)),
    button('Delete', `Delete ${holding.symbol}`, () => remove(index)),
  );
  actions.append(buttons);
  row.append(
    name,
    cell('Quantity', number(holding.quantity), true),
    cell('Price paid', money(holding.price), true),
    cell('Cost', money(costOf(holding)), true),
    cell('Note', holding.note),
    actions,
  );
  return row;
}

function cell(label, text, isNumber = false) {
  const element = document.createElement('td');
  element.dataset.label = label;
  if (isNumber) element.dataset.number = '';
  element.textContent = text;
  return element;
}

function button(text, label, onClick) {
  const element = document.createElement('button');
  element.type = 'button';
  element.className = 'settings-btn';
  element.textContent = text;
  element.setAttribute('aria-label', label);
  element.addEventListener('click', onClick);
  return element;
}

/** The largest costs each on their own, the rest together. */
function sharesOf(holdings) {
  const total = totalOf(holdings);
  if (total === 0) return [];
  const bySymbol = new Map();
  for (const holding of holdings) {
    bySymbol.set(holding.symbol, (bySymbol.get(holding.symbol) ?? 0) + costOf(holding));
  }
  const all = [...bySymbol].sort((a, b) => b[1] - a[1]);
  const rest = all.slice(SHARES).reduce((sum, [, cost]) => sum + cost, 0);
  const shown = rest > 0 ? [...all.slice(0, SHARES), ['Others', rest]] : all.slice(0, SHARES);
  return shown.map(([symbol, cost]) => ({ symbol, share: cost / total }));
}

function renderAllocation(holdings) {
  const shares = sharesOf(holdings);
  $('allocation').hidden = shares.length === 0;
  let x = 0;
  const bar = $('allocation').querySelector('svg');
  bar.querySelectorAll('rect').forEach((rect) => rect.remove());
  const legend = shares.map(({ symbol, share }, index) => {
    const gap = index === shares.length - 1 ? 0 : Math.min(0.3, (share * 100) / 2);
    bar.append(rectangle(x, share * 100 - gap, index));
    x += share * 100;
    const item = document.createElement('li');
    const swatch = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    swatch.setAttribute('viewBox', '0 0 6 6');
    swatch.setAttribute('aria-hidden', 'true');
    swatch.append(rectangle(0, 6, index));
    item.append(swatch, `${symbol} ${percent(share)}`);
    return item;
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

// Entering ----------------------------------------------------------------------------------------------------------

/** People write 1,5 as well as 1.5; a comma with a dot after it, or three digits groups, parts thousands. */
function toNumber(text) {
  const plain = text.trim().replace(/[\s'’]/g, '');
  const grouped = /^\d{1,3}(,\d{3})+(\.\d+)?$/.test(plain)
    ? plain.replaceAll(',', '')
    : plain.replace(',', '.');
  return /^\d*\.?\d+$|^\d+\.$/.test(grouped) ? Number(grouped) : NaN;
}

function startEditing(index) {
  editing = index;
  const holding = portfolio.holdings[index];
  for (const name of ['symbol', 'quantity', 'price', 'note']) form.elements[name].value = holding[name];
  $('entry-title').textContent = `Change ${holding.symbol}`;
  $('save').textContent = 'Save changes';
  $('cancel').hidden = false;
  showErrors({});
  form.elements.symbol.focus();
}

function stopEditing() {
  editing = null;
  form.reset();
  $('entry-title').textContent = 'Add a holding';
  $('save').textContent = 'Add holding';
  $('cancel').hidden = true;
  showErrors({});
}

function showErrors(errors) {
  for (const name of ['symbol', 'quantity', 'price', 'note']) showError(form.elements[name], errors[name]);
  const first = Object.keys(errors)[0];
  if (first) form.elements[first].focus();
}

function showError(input, error) {
  const place = document.getElementById(`${input.id}-error`);
  place.hidden = !error;
  place.textContent = error ?? '';
  if (error) {
    input.setAttribute('aria-invalid', 'true');
    input.setAttribute('aria-describedby', place.id);
  } else {
    input.removeAttribute('aria-invalid');
    input.removeAttribute('aria-describedby');
  }
}

function save(event) {
  event.preventDefault();
  const { symbol, quantity, price, note } = form.elements;
  const { holding, errors } = checkHolding({
    symbol: symbol.value,
    quantity: toNumber(quantity.value),
    price: toNumber(price.value),
    note: note.value,
  });
  if (!errors && editing === null && portfolio.holdings.length >= MAX_HOLDINGS) {
    showErrors({ symbol: `There is room for ${MAX_HOLDINGS} holdings.` });
    return;
  }
  showErrors(errors ?? {});
  if (errors) return;
  const holdings =
    editing === null ? [...portfolio.holdings, holding] : portfolio.holdings.with(editing, holding);
  const said = editing === null ? `${holding.symbol} is added.` : `${holding.symbol} is changed.`;
  stopEditing();
  change({ ...portfolio, holdings }, said);
  symbol.focus();
}

function remove(index) {
  const { symbol } = portfolio.holdings[index];
  stopEditing();
  change({ ...portfolio, holdings: portfolio.holdings.toSpliced(index, 1) }, `${symbol} is deleted.`);
  // The button that was pressed is gone.
  $('undo').focus();
}

// Files -------------------------------------------------------------------------------------------------------------

const FIELDS = ['symbol', 'quantity', 'price', 'note'];

// A spreadsheet runs a cell as a formula that begins with one of these, after blanks and quotation marks too. Where the
// system's separator is another one, or a line break is not kept together, a new cell begins in the middle of a field. A
// quotation mark is put in front, and taken away again on import. https://owasp.org/www-community/attacks/CSV_Injection
const CELL_STARTS = '(?<=^|[;,|\\t\\r\\n])';
const FORMULA_AHEAD = '(?=[ \\u00A0\\u3000"]*[\'=+\\-@\uFF1D\uFF0B\uFF0D\uFF20])';
const FORMULA = new RegExp(`${CELL_STARTS}${FORMULA_AHEAD}`, 'g');
const GUARDED_FORMULA = new RegExp(`${CELL_STARTS}'${FORMULA_AHEAD}`, 'g');

function toCsv(holdings) {
  const safe = (text) => text.replace(FORMULA, "'");
  const quoted = (text) => (/[";,\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = holdings.map((holding) =>
    FIELDS.map((field) =>
      quoted(typeof holding[field] === 'string' ? safe(holding[field]) : String(holding[field])),
    ),
  );
  return [FIELDS, ...rows].map((row) => `${row.join(',')}\r\n`).join('');
}

/** RFC 4180: fields may be quoted, and hold commas, quotes (doubled) and line breaks then. */
function parseCsv(text) {
  const rows = [];
  const pattern = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|\n|\r|$)/gy;
  let row = [];
  let line = 1;
  while (pattern.lastIndex < text.length) {
    const match = pattern.exec(text);
    if (!match) throw new Error(`Line ${line}: a quotation mark is not closed, or stands where none can.`);
    const [whole, inQuotes, plain, end] = match;
    row.push(inQuotes === undefined ? plain : inQuotes.replaceAll('""', '"'));
    if (end !== ',') {
      rows.push({ row, line });
      row = [];
    }
    line += whole.split(/\r\n|\n|\r/).length - 1;
  }
  if (row.length > 0) rows.push({ row: [...row, ''], line });
  return rows.filter(({ row: fields }) => fields.some((field) => field !== ''));
}

function readCsv(text) {
  const [head, ...rows] = parseCsv(text.replace(/^\uFEFF/, ''));
  const names = head?.row.map((name) => name.trim().toLowerCase()) ?? [];
  const missing = ['symbol', 'quantity', 'price'].find((name) => !names.includes(name));
  if (missing)
    throw new Error(
      `Line 1 must name the columns symbol, quantity, price and note: “${missing}” is missing.`,
    );
  const holdings = rows.map(({ row }) => {
    const field = (name) => (row[names.indexOf(name)] ?? '').replace(GUARDED_FORMULA, '');
    return {
      symbol: field('symbol'),
      quantity: toNumber(field('quantity')),
      price: toNumber(field('price')),
      note: field('note'),
    };
  });
  return { ...portfolio, holdings: checkAll(holdings, (index) => `Line ${rows[index].line}`) };
}

async function importFile() {
  const input = $('file');
  const [file] = input.files;
  if (!file) return;
  showError(input, undefined);
  try {
    const text = await file.text();
    const imported =
      /\.csv$/i.test(file.name) || file.type === 'text/csv' ? readCsv(text) : readDocument(text);
    await takeOver(imported, `“${file.name}”`);
  } catch (error) {
    showError(input, `${error.message} Nothing was changed.`);
    input.focus();
  }
  input.value = '';
}

async function takeOver(imported, name) {
  const [here, there] = [portfolio.holdings.length, imported.holdings.length];
  const sum = here + there;
  let answer = 'replace';
  if (here > 0) {
    const add = portfolio.currency === imported.currency && sum <= MAX_HOLDINGS;
    answer = await ask(
      `${name} has ${counted(there)}. This browser has ${counted(here)}. Replace them${add ? ', or add to them' : ''}?`,
      [['replace', 'Replace'], ...(add ? [['add', 'Add']] : []), ['', 'Leave as it is']],
    );
  }
  if (answer === 'add') {
    change(
      { ...portfolio, holdings: [...portfolio.holdings, ...imported.holdings] },
      `${counted(there)} added.`,
    );
  } else if (answer === 'replace') {
    change(imported, `${counted(there)} imported.`);
  }
}

const counted = (count) => (count === 1 ? '1 holding' : `${count} holdings`);

function download(name, type, text) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

function exportAs(kind) {
  const day = new Date().toISOString().slice(0, 10);
  if (kind === 'csv') download(`portfolio-${day}.csv`, 'text/csv', toCsv(portfolio.holdings));
  else download(`portfolio-${day}.json`, 'application/json', JSON.stringify(portfolio, null, 2));
  say(`Exported ${counted(portfolio.holdings.length)}.`);
}

/** A question with answers as buttons; empty when it was closed without one. */
function ask(question, choices) {
  const dialog = $('dialog');
  $('question').textContent = question;
  $('choices').replaceChildren(
    ...choices.map(([value, text]) => {
      const choice = button(text, text, () => undefined);
      choice.removeAttribute('aria-label');
      choice.type = 'submit';
      choice.value = value;
      return choice;
    }),
  );
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue), { once: true });
  });
}

// Cloud backup ------------------------------------------------------------------------------------------------------

async function call(method, path, body) {
  const headers = { accept: 'application/json', ...(body && { 'content-type': 'application/json' }) };
  let answer;
  try {
    answer = await fetch(path, { method, headers, body });
  } catch {
    throw new Error('The server cannot be reached. Please try again in a moment.');
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const told = await answer.json().catch(() => null);
  throw new Error(told?.error?.message ?? 'Something went wrong on our side. Please try again in a moment.');
}

/** A button that is at work keeps the focus, which `disabled` would take from it. */
async function busy(pressed, work) {
  if (pressed.ariaDisabled) return;
  pressed.ariaDisabled = 'true';
  try {
    await work();
  } catch (error) {
    say(error.message);
  }
  pressed.ariaDisabled = null;
}

/** @throws Error when what is kept here cannot be read: a restore would write over it, a backup would be of nothing */
function mustBeReadable() {
  if (!$('damaged').hidden) throw new Error('First decide above what becomes of what this browser keeps.');
}

async function backUp() {
  mustBeReadable();
  await call('POST', '/api/backups', JSON.stringify(portfolio));
  await showBackups();
  say(`Backed up ${counted(portfolio.holdings.length)}.`);
}

async function showBackups() {
  const { backups } = await call('GET', '/api/backups');
  $('no-backups').hidden = backups.length > 0;
  $('backups').replaceChildren(
    ...backups.map(({ id, createdAt, bytes }) => {
      const row = $('backup').content.cloneNode(true);
      row.querySelector('[data-when]').dateTime = createdAt;
      row.querySelector('[data-size]').textContent =
        bytes < 1024 ? `${bytes} bytes` : `${(bytes / 1024).toFixed(1)} KB`;
      row.querySelector('[data-restore]').action = `/api/backups/${id}/restore`;
      row.querySelector('[data-delete]').action = `/portfolio/backups/${id}/delete`;
      return row;
    }),
  );
  tellLocalTimes();
}

/** The server knows no time zone but UTC. */
function tellLocalTimes() {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: 'long', timeStyle: 'short' });
  for (const time of document.querySelectorAll('[data-backups] time')) {
    time.textContent = format.format(new Date(time.dateTime));
    const row = time.closest('li');
    for (const pressed of row.querySelectorAll('button')) {
      pressed.setAttribute('aria-label', `${pressed.textContent} the backup of ${time.textContent}`);
    }
  }
}

async function restore(path, when) {
  mustBeReadable();
  const restored = readDocument(JSON.stringify(await call('POST', path)));
  const [here, there] = [portfolio.holdings.length, restored.holdings.length];
  const same = JSON.stringify(restored) === JSON.stringify(portfolio);
  if (here > 0 && !same) {
    const question = `The backup of ${when} has ${counted(there)}. Replace the ${counted(here)} of this browser?`;
    if (
      (await ask(question, [
        ['yes', 'Replace'],
        ['', 'Leave as it is'],
      ])) === ''
    )
      return;
  }
  if (same) say('This browser has exactly that already.');
  else change(restored, `Restored ${counted(there)} from the backup of ${when}.`);
}

async function deleteBackup(path, when) {
  const question = `Delete the backup of ${when}? This cannot be undone.`;
  if (
    (await ask(question, [
      ['yes', 'Delete it'],
      ['', 'Keep it'],
    ])) === ''
  )
    return;
  await call('DELETE', path.replace('/portfolio/', '/api/').replace(/\/delete$/, ''));
  await showBackups();
  say('The backup has been deleted.');
  document.getElementById('cloud').focus();
}

// Wiring ------------------------------------------------------------------------------------------------------------

form.addEventListener('submit', save);
$('cancel').addEventListener('click', () => {
  stopEditing();
  form.elements.symbol.focus();
});
$('undo').addEventListener('click', undo);
$('file').addEventListener('change', () => void importFile());
$('currency').addEventListener('change', ({ target }) => {
  change(
    { ...portfolio, currency: target.value },
    `Amounts are in ${target.value} now; the numbers stay as they are.`,
  );
});
for (const one of document.querySelectorAll('[data-export]')) {
  one.addEventListener('click', () => exportAs(one.dataset.export));
}
for (const one of document.querySelectorAll('[data-sort]')) {
  one.addEventListener('click', () => {
    const column = one.dataset.sort;
    sorting = { column, direction: sorting.column === column ? -sorting.direction : 1 };
    render();
    say(
      `Sorted by ${one.textContent.toLowerCase()}, ${sorting.direction === 1 ? 'ascending' : 'descending'}.`,
    );
  });
}
$('download-damaged').addEventListener('click', () =>
  download('portfolio-damaged.json', 'text/plain', read(KEPT) ?? ''),
);
$('start-anew').addEventListener('click', () => {
  localStorage.removeItem(KEPT);
  load();
  document.getElementById('holdings').focus();
});
// Another tab changed it.
addEventListener('storage', ({ key }) => {
  if (key !== KEPT) return;
  stopEditing();
  load();
});

const cloudButton = $('back-up');
if (cloudButton) {
  cloudButton.hidden = false;
  cloudButton.addEventListener('click', () => void busy(cloudButton, backUp));
}
$('backups')?.addEventListener('submit', (event) => {
  event.preventDefault();
  const { target, submitter } = event;
  const path = new URL(target.action).pathname;
  const when = target.closest('li').querySelector('time').textContent;
  const work = 'restore' in target.dataset ? restore : deleteBackup;
  void busy(submitter, () => work(path, when));
});

tellLocalTimes();
load();
$('no-script').remove();
$('page').dataset.ready = '';
