// Everything on the settings page works without this file. It adds conveniences: a copy button, the share sheet, and
// a poll for the payment, which reloads the page when there is news of the plan, or after two minutes.

const POLL_MS = 3000;
const POLLS = 40;

for (const button of document.querySelectorAll('[data-copy]')) {
  const source = document.getElementById(button.dataset.copy);
  const status = document.querySelector('[data-copy-status]');

  button.addEventListener('click', async () => {
    source.select();
    status.textContent = '';
    try {
      await navigator.clipboard.writeText(source.value);
      status.textContent = 'Copied';
    } catch {
      // No clipboard without HTTPS or permission; the link is selected, so the keyboard can copy it.
      status.textContent = 'Press Ctrl+C or ⌘C to copy the selected link';
    }
  });
  button.hidden = false;
}

// Not every browser has a share sheet.
for (const button of document.querySelectorAll('[data-share]')) {
  if (!navigator.share) continue;
  const url = document.getElementById(button.dataset.share).value;
  button.addEventListener('click', () => {
    const { title, text } = button.dataset;
    // It rejects when the person changes their mind.
    navigator.share({ title, text, url }).catch(() => undefined);
  });
  button.hidden = false;
}

const awaiting = document.querySelector('[data-awaiting]');
if (awaiting) void waitForPayment(awaiting.dataset.awaiting);

/** @param before what was known when the page was made */
async function waitForPayment(before) {
  for (let poll = 0; poll < POLLS; poll += 1) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    try {
      const response = await fetch('/api/me', { headers: { accept: 'application/json' } });
      // Logged out meanwhile: the reload leads to the login page.
      if (response.status === 401) break;
      // Any other error, such as 503 while the server is busy, says nothing about the payment.
      if (response.ok && stateOf(await response.json()) !== before) break;
    } catch {
      // Offline, or the server is restarting: the next poll may succeed.
    }
  }
  // After two minutes without news, the page says what to do instead.
  location.reload();
}

/** The same text as the page's own: see `knownState` in src/http/settings/settings-page.ts. */
function stateOf({ tier, subscription }) {
  return [tier, subscription?.status, subscription?.currentPeriodEnd].join(' ');
}

// A double click would send a form twice, and the browser would show the answer to the second request: the
// login page, if a change of password has just ended the session.
const DOUBLE_CLICK_MS = 1000;

for (const form of document.forms) {
  let sentAt = -Infinity;
  form.addEventListener('submit', (event) => {
    if (event.timeStamp - sentAt < DOUBLE_CLICK_MS) event.preventDefault();
    else sentAt = event.timeStamp;
  });
}
