import { expect, test } from 'vitest';

import { RESET_LINK_SECONDS } from '../src/accounts/reset-link.ts';
import type { MailKind } from '../src/outbox/kinds.ts';
import { PROVE_SECONDS } from '../src/outbox/links.ts';
import { LETTERHEAD, MAILS } from './support/sample-mails.ts';
import { DAY } from './support/server.ts';

test.each(MAILS)('%s says the same as text and as HTML', (_what, mailFor, subject, says, button) => {
  const mail = mailFor();
  expect(mail.subject).toBe(subject);
  expect(mail.messageId).toBe('<id@tandem.test>');
  const shown = plain(mail.html);
  // Blank lines separate paragraphs, one each.
  expect(mail.text).not.toContain('\n\n\n');
  for (const text of [mail.text, shown]) {
    for (const sentence of says) expect(text).toContain(sentence);
    // The footer: who sent it, and whom to ask.
    expect(text).toContain('Tandem & Co, https://tandem.test');
    expect(text).toContain('Write to help@tandem.test.');
    // Nothing that was not filled in, and no address but the contact's.
    expect(text).not.toMatch(/undefined|null|\[object/);
    expect(text.match(/[\w.]+@[\w.]+\w/g)?.filter((address) => address !== 'help@tandem.test') ?? []).toEqual(
      [],
    );
  }
  const links = [...mail.html.matchAll(/href="([^"]+)"/g)].map(([, href]) => href);
  if (button === null) expect(mail.html).not.toContain('class="button"');
  else {
    expect(links).toContain(button);
    expect(mail.text).toContain(`:\n${button}\n`);
  }
  // It loads no pictures and supports dark mode.
  expect(mail.html).not.toMatch(/<img|<script|src=|url\(/);
  expect(mail.html).toContain('prefers-color-scheme: dark');
});

test('links work for as long as emails and pages say: three days to prove an address, an hour to reset a password', () => {
  expect({ prove: PROVE_SECONDS, reset: RESET_LINK_SECONDS }).toEqual({ prove: 3 * DAY, reset: 3_600 });
});

/** Each kind of mail, and whether the account's owner can turn it off. */
const KINDS: Record<MailKind, boolean> = {
  'mail.prove-address': false,
  'mail.reset-password': false,
  'mail.password-changed': false,
  'mail.address-changing': false,
  'mail.address-changed': false,
  'mail.account-deleted': false,
  'mail.days-granted': true,
  'mail.days-reversed': true,
  'mail.days-restored': true,
  'mail.days-running': true,
  'mail.days-ending': true,
  'mail.days-ended': true,
  'mail.payment-failed': true,
  'mail.operator': false,
};

const kindOf = (sample: string): MailKind => sample.split(',')[0] as MailKind;

test('the sample emails cover every kind', () => {
  expect(new Set(MAILS.map(([what]) => kindOf(what)))).toEqual(new Set(Object.keys(KINDS)));
});

test.each(MAILS)('%s says how to turn it off, unless that is impossible', (what, mailFor) => {
  const { text, html } = mailFor();
  for (const part of [text, html])
    expect(part.includes('https://tandem.test/unsubscribe/t')).toBe(KINDS[kindOf(what)]);
});

test.each(MAILS)('%s names nobody to write to without CONTACT_EMAIL', (_what, mailFor) => {
  const { text, html, replyTo } = mailFor({ ...LETTERHEAD, contact: null });
  expect(replyTo).toBeNull();
  for (const part of [text, plain(html)]) {
    expect(part).not.toMatch(/null|undefined/);
    expect(part).not.toMatch(/questions\?|write to/i);
    expect(part.includes('contact us')).toBe(mailFor().text.includes('write to help@'));
  }
});

/** What a reader sees of the HTML. */
function plain(html: string): string {
  const body = html.slice(html.indexOf('<body'));
  return body
    .replaceAll(/<[^>]+>/g, '')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&amp;', '&');
}
