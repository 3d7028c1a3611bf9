// What the parts of the portfolio's page share.

import { toNumber } from './numbers.js';

export const $ = (name) => document.querySelector(`[data-${name}]`);

const LOCAL_DECIMAL = new Intl.NumberFormat(undefined, { numberingSystem: 'latn' })
  .formatToParts(1.5)
  .some(({ type, value }) => type === 'decimal' && value === ',')
  ? ','
  : '.';

/** A number that a person typed; NaN if it is not a number. */
export const typed = (text) => toNumber(text, LOCAL_DECIMAL);

/** As a person would type it, so that `typed` reads the same number again. */
export const asTyped = (value) =>
  new Intl.NumberFormat(undefined, {
    useGrouping: false,
    maximumSignificantDigits: 15,
    numberingSystem: 'latn',
  }).format(value);

export const number = (value) => new Intl.NumberFormat(undefined, { maximumFractionDigits: 8 }).format(value);
export const percent = (share, options) =>
  new Intl.NumberFormat(undefined, { style: 'percent', maximumFractionDigits: 1, ...options }).format(share);
export const money = (amount, currency, options) =>
  new Intl.NumberFormat(undefined, { style: 'currency', currency, ...options }).format(amount);

export const counted = (count, what = 'holding') => (count === 1 ? `1 ${what}` : `${number(count)} ${what}s`);

/** @param {Record<string, unknown>} properties of the DOM element */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export const button = (text, properties) =>
  element('button', { type: 'button', className: 'settings-btn', textContent: text, ...properties });

export function showError(input, error) {
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

/** Fills a dialog's actions: `choices` are pairs of the dialog's return value and the button's text. */
export function offer(actions, choices) {
  actions.replaceChildren(...choices.map(([value, text]) => button(text, { type: 'submit', value })));
}

let earlier = Promise.resolve();

/**
 * Runs work that asks a question, once all earlier such work has ended. Questions share one dialog, and the answer to one
 * can change what the next one is about.
 */
export function inTurn(work) {
  const done = earlier.then(work);
  earlier = done.catch(() => undefined);
  return done;
}

/** Resolves with the value of the button that closed the dialog, or '' when none did. */
export function answerOf(dialog) {
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue), { once: true });
  });
}

/** Asks a question, inside `inTurn`; `choices` as for `offer`. */
export function ask(question, choices) {
  $('question').textContent = question;
  offer($('choices'), choices);
  return answerOf($('dialog'));
}

/** Asks before something is deleted for good, inside `inTurn`. @param {string} what with its article */
export async function wantsToDelete(what) {
  const choices = [
    ['yes', 'Delete it'],
    ['', 'Keep it'],
  ];
  return (await ask(`Delete ${what}? This cannot be undone.`, choices)) !== '';
}
