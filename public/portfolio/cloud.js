// Backups in the account.

import { readDocument } from './holdings.js';
import { $, ask, counted, inTurn, wantsToDelete } from './page.js';

async function call(method, path, body) {
  const headers = { accept: 'application/json', ...(body && { 'content-type': 'application/json' }) };
  let answer;
  try {
    answer = await fetch(path, { method, headers, body });
  } catch {
    throw new Error('The server cannot be reached. Please try again in a moment.');
  }
  if (answer.status === 204) return null;
  if (answer.ok)
    return answer.json().catch(() => {
      throw new Error('The answer did not arrive in full. Reload the page to see what was done.');
    });
  const told = await answer.json().catch(() => null);
  throw new Error(told?.error?.message ?? 'Something went wrong on our side. Please try again in a moment.');
}

async function showBackups() {
  const { backups } = await call('GET', '/api/backups');
  $('no-backups').hidden = backups.length > 0;
  $('backups').replaceChildren(
    ...backups.map(({ id, createdAt, bytes }) => {
      const row = $('backup').content.cloneNode(true);
      row.querySelector('[data-when]').dateTime = createdAt;
      // As views/portfolio.eta writes it.
      row.querySelector('[data-size]').textContent =
        bytes < 1024 ? `${bytes} bytes` : `${(bytes / 1024).toFixed(1)} KB`;
      row.querySelector('[data-restore]').action = `/api/backups/${id}/restore`;
      row.querySelector('[data-delete]').action = `/portfolio/backups/${id}/delete`;
      return row;
    }),
  );
  tellLocalTimes();
}

/** Shows times in the browser's time zone; the server writes them in UTC. */
function tellLocalTimes() {
  const format = new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeStyle: 'short' });
  for (const time of document.querySelectorAll('[data-backups] time')) {
    time.textContent = format.format(new Date(time.dateTime));
    const row = time.closest('li');
    for (const pressed of row.querySelectorAll('button')) {
      pressed.setAttribute('aria-label', `${pressed.textContent} the backup from ${time.textContent}`);
    }
  }
}

/**
 * @param {object} page
 * @param {() => object} page.current the portfolio; throws when what the browser keeps cannot be read
 * @param {(portfolio: object, said: string) => void} page.replace
 * @param {(text: string) => void} page.say
 */
export function wireCloud({ current, replace, say }) {
  /** Uses `aria-disabled`, because `disabled` would take the focus from the button. */
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

  /** Says what was done, and shows the backups anew. If that fails, the work is done all the same. */
  async function showDone(said) {
    await showBackups().then(
      () => say(said),
      () => say(`${said} The list could not be refreshed: reload the page.`),
    );
  }

  async function backUp() {
    const portfolio = current();
    await call('POST', '/api/backups', JSON.stringify(portfolio));
    await showDone(`Backed up ${counted(portfolio.holdings.length)}.`);
  }

  async function restore(path, when) {
    const restored = readDocument(JSON.stringify(await call('POST', path)));
    await inTurn(() => putInPlace(restored, when));
  }

  async function putInPlace(restored, when) {
    const portfolio = current();
    const [here, there] = [portfolio.holdings.length, restored.holdings.length];
    if (JSON.stringify(restored) === JSON.stringify(portfolio)) {
      say('This browser already has the same portfolio.');
      return;
    }
    const question = `The backup from ${when} has ${counted(there)}. Replace the ${counted(here)} in this browser?`;
    const choices = [
      ['yes', 'Replace'],
      ['', 'Cancel'],
    ];
    if (here > 0 && (await ask(question, choices)) === '') return;
    if (current() !== portfolio)
      throw new Error('Another tab has changed the portfolio meanwhile. Nothing was restored.');
    replace(restored, `Restored ${counted(there)} from the backup made on ${when}.`);
  }

  async function deleteBackup(path, when) {
    if (!(await inTurn(() => wantsToDelete(`the backup from ${when}`)))) return;
    await call('DELETE', path.replace('/portfolio/', '/api/').replace(/\/delete$/, ''));
    await showDone('The backup has been deleted.');
    document.getElementById('cloud').focus();
  }

  const backUpButton = $('back-up');
  if (backUpButton) {
    backUpButton.hidden = false;
    backUpButton.addEventListener('click', () => void busy(backUpButton, backUp));
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
}
