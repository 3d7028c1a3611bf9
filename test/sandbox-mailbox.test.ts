import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import type { HandedMail, Sandbox } from '../src/sandbox/sandbox.ts';
import { emptyFolder } from './support/process.ts';
import { startTestSandbox } from './support/sandbox.ts';

async function start(stateFile?: string): Promise<{ sandbox: Sandbox; page: string }> {
  const sandbox = await startTestSandbox({
    now: () => new Date('2027-01-10T09:00:00Z'),
    ...(stateFile !== undefined && { stateFile }),
  });
  return { sandbox, page: `http://127.0.0.1:${sandbox.apiPort}` };
}

const MAIL: HandedMail = {
  messageId: '<1@tandem.test>',
  from: 'Tandem <hello@tandem.test>',
  to: 'ann+friends@example.com',
  replyTo: 'help@tandem.test',
  subject: 'Days <b>for</b> you',
  text: 'See them:\nhttp://tandem.test/settings?a=1&b=2\n\n<script>alert(1)</script>',
  html: '<!doctype html><html><head><title>x</title></head><body><a href="http://tandem.test/settings">See</a></body></html>',
  unsubscribe: 'http://tandem.test/unsubscribe/t',
};

const textOf = async (url: string): Promise<string> => (await fetch(url)).text();

test('an email is listed, and shown as text and as HTML, with links that work', async () => {
  const { sandbox, page } = await start();
  expect(await textOf(`${page}/mail`)).toContain('There is no mail yet.');
  sandbox.takeMail(MAIL);
  const list = await textOf(`${page}/mail`);
  expect(list).toContain('Days &lt;b&gt;for&lt;/b&gt; you');
  const [, path = ''] = /<h2><a href="([^"]+)">/.exec(list) ?? [];

  const shown = await textOf(page + path);
  expect(shown).toContain('<a href="http://tandem.test/settings?a=1&amp;b=2">http://tandem.test/settings');
  expect(shown).toContain('href="http://tandem.test/unsubscribe/t"');
  expect(shown).not.toContain('<script>');
  expect(shown).toContain(`src="${path}/html"`);

  const html = await fetch(`${page}${path}/html`);
  // A link leads out of the frame that the email is shown in; nothing in an email runs.
  expect(await html.text()).toBe(MAIL.html.replace('<head>', '<head><base target="_top">'));
  expect(html.headers.get('content-security-policy')).toMatch(
    /default-src 'none'.*sandbox (?!.*allow-scripts)/,
  );
});

test('an email that is handed over twice is stored once', async () => {
  const { sandbox, page } = await start();
  sandbox.takeMail(MAIL);
  sandbox.takeMail({ ...MAIL, subject: 'Again' });
  const list = await textOf(`${page}/mail`);
  expect(list.match(/<h2>/g)).toHaveLength(1);
  expect(list).not.toContain('Again');
});

test('the list can be limited to one address', async () => {
  const { sandbox, page } = await start();
  sandbox.takeMail(MAIL);
  sandbox.takeMail({ ...MAIL, messageId: '<2@tandem.test>', to: 'ben@example.com', subject: 'For Ben' });
  const list = await textOf(`${page}/mail`);
  // The newest first.
  expect(list.indexOf('For Ben')).toBeLessThan(list.indexOf('Days'));
  const [, bens = ''] = /href="(\/mail\?to=ben[^"]+)"/.exec(list) ?? [];
  expect(await textOf(page + bens)).not.toContain('Days');
  const [, anns = ''] = /href="(\/mail\?to=ann[^"]+)"/.exec(list) ?? [];
  expect(await textOf(page + anns)).not.toContain('For Ben');
  expect(await textOf(page + anns)).toContain('Days');
});

test('mail survives a restart; of many the newest 200 are kept', async () => {
  const stateFile = join(await emptyFolder(), 'sandbox.json');
  const first = await start(stateFile);
  for (let n = 1; n <= 201; n += 1) {
    first.sandbox.takeMail({ ...MAIL, messageId: `<${n}@tandem.test>`, subject: `Number ${n}.` });
  }
  await first.sandbox.close();
  const { page } = await start(stateFile);
  const list = await textOf(`${page}/mail`);
  expect(list.match(/<h2>/g)).toHaveLength(200);
  expect(list).toContain('Number 201.');
  expect(list).not.toContain('Number 1.');
  expect(JSON.parse(await readFile(stateFile, 'utf8'))).toHaveProperty('mails.length', 200);
});

test('an email that is not there is 404', async () => {
  const { page } = await start();
  for (const path of ['/mail/none', '/mail/none/html']) expect((await fetch(page + path)).status).toBe(404);
  // A parameter of another shape than the page's own links have.
  expect((await fetch(`${page}/mail?to[]=ann`)).status).toBe(400);
});
