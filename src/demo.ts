import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Overview } from './access/overview.ts';
import { readConfig } from './config.ts';
import { loadEnvFile } from './env-file.ts';
import { giveUp } from './give-up.ts';
import { finishWithoutOutput } from './lost-output.ts';
import { PlainError } from './plain-error.ts';

/**
 * Plays the story of a referral against a server in sandbox mode. Every step prints what it saw, and fails if that is
 * not as expected.
 *
 * @param movesClock whether a month may pass, for everybody in the sandbox
 */
async function playStory(origin: string, movesClock: boolean): Promise<void> {
  const story = randomUUID().slice(0, 8);
  const ann = openBrowser(origin);
  const ben = openBrowser(origin);

  await ann.post('/signup', { email: `ann-${story}@example.com`, password: 'a good password' });
  const { referral } = await ann.me();
  say('Ann signs up. Her link', referral.url);

  await ben.get(new URL(referral.url).pathname);
  const pricing = await ben.get('/pricing');
  must(pricing.includes(referral.code), "the banner shows the friend's code");
  say('Ben opens it. The pricing page shows', `invitation ${referral.code}, 45 days of paid access for both`);

  await ben.post('/signup', { email: `ben-${story}@example.com`, password: 'another good password' });
  must((await ann.me()).referral.invited === 1, 'Ann has invited one friend');
  say('Ben signs up. Ann', describe(await ann.me()));

  const checkout = await ben.post('/api/billing/checkout', { plan: 'monthly' });
  say('Ben chooses the monthly plan. He is at', checkout.url);
  const back = await ben.post(checkout.url, { outcome: 'pay' });
  say('Ben pays. He is back at', back.url);

  const paid = await eventually(
    'The webhook of the payment',
    () => ben.me(),
    (me) => me.tier !== 'free',
  );
  if (paid.tier === 'trial') {
    throw new PlainError(
      'This server offers a trial (STRIPE_TRIAL_DAYS), so nothing is paid at the checkout. Restart it without STRIPE_TRIAL_DAYS, or run the demo while no server is running.',
    );
  }
  must(paid.creditDays === 45 && paid.creditHeld, 'Ben has 45 days, held while he pays');
  say('Ben', describe(paid));
  const ann45 = await ann.me();
  must(ann45.creditDays === 45 && ann45.referral.converted === 1, 'Ann has 45 days for one conversion');
  must(ann45.access.reason === 'credit', 'Ann has access from credit');
  say('Ann', describe(ann45));
  must((await ann.get('/settings')).includes('+45 days on your account'), 'Settings says +45 days');
  say("Ann's Settings", '"+45 days on your account"');

  await readMail(ann, `ann-${story}@example.com`);

  const portal = await ben.post('/api/billing/portal', {});
  if (movesClock) {
    await ben.post(portal.url, { action: 'pass_month' });
    const annLater = await ann.me();
    say('A month passes, and Ben renews. Ann', describe(annLater));
    must(
      annLater.referral.converted === 1 && annLater.creditDays < 20,
      "a renewal credits nobody; Ann's days run",
    );
    must((await ben.me()).creditDays === 45, "Ben's days are held while he pays");
  }

  await ben.post(portal.url, { action: 'cancel_now' });
  const canceled = await eventually(
    'The webhook of the cancellation',
    () => ben.me(),
    (me) => me.tier === 'free',
  );
  must(canceled.access.reason === 'credit' && canceled.creditDays === 45, "Ben's 45 days run from here");
  say('Ben cancels. Ben', describe(canceled));
}

/**
 * Checks that the sandbox's mailbox has the email that tells Ann that her friend has paid. With SMTP_URL set there is
 * no mailbox: the email was sent.
 */
async function readMail(browser: Browser, to: string): Promise<void> {
  const [, mailbox] = /href="([^"]+\/mail)"/.exec(await browser.get('/pricing')) ?? [];
  if (mailbox === undefined) return;
  const list = await eventually(
    "Ann's mail",
    () => browser.get(`${mailbox}?to=${encodeURIComponent(to)}`),
    (page) => page.includes('A friend you invited has paid'),
  );
  const [, id = ''] = /href="\/mail\/(mail_\w+)">A friend you invited has paid/.exec(list) ?? [];
  const mail = await browser.get(`${mailbox}/${id}`);
  must(mail.includes('You both got 45 free days'), 'the mail tells Ann of her 45 days');
  say("Ann's mailbox", `"A friend you invited has paid", at ${mailbox}/${id}`);
}

type Browser = ReturnType<typeof openBrowser>;

/** A browser that follows redirects and keeps cookies per host. */
function openBrowser(origin: string) {
  const cookies = new Map<string, Map<string, string>>();

  async function request(target: string, init: RequestInit): Promise<{ url: string; text: string }> {
    const url = new URL(target, origin);
    const jar = cookies.get(url.host) ?? new Map<string, string>();
    cookies.set(url.host, jar);
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
    const answer = await fetch(url, {
      ...init,
      redirect: 'manual',
      headers: { cookie, 'sec-fetch-site': 'same-origin' },
    });
    for (const line of answer.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      jar.set(name, value);
    }
    const location = answer.headers.get('location');
    if (location !== null) return request(new URL(location, url).href, {});
    const text = await answer.text();
    if (!answer.ok) throw new PlainError(`${url.pathname} answered ${answer.status}: ${text.slice(0, 200)}`);
    return { url: url.href, text };
  }

  return {
    get: async (path: string) => (await request(path, {})).text,
    post: (path: string, fields: Record<string, string>) =>
      request(path, { method: 'POST', body: new URLSearchParams(fields) }),
    me: async () => JSON.parse((await request('/api/me', {})).text) as Overview,
  };
}

async function eventually<T>(
  what: string,
  read: () => Promise<T>,
  enough: (value: T) => boolean,
): Promise<T> {
  for (let tries = 0; tries < 50; tries += 1) {
    const value = await read();
    if (enough(value)) return value;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new PlainError(`${what} did not arrive within five seconds.`);
}

function must(holds: boolean, sentence: string): void {
  if (!holds) throw new PlainError(`The demo failed. Expected: ${sentence}.`);
}

function say(what: string, seen: string): void {
  process.stdout.write(`${what}: ${seen}\n`);
}

function describe({ tier, creditDays, creditHeld, access, referral }: Overview): string {
  const credit = `${creditDays} days of credit${creditHeld ? ' (held while paying)' : ''}`;
  const counts = `${referral.invited} invited, ${referral.converted} converted, ${referral.activeCredits} active credits`;
  return `tier ${tier}, access ${access.reason ?? 'none'}, ${credit}; ${counts}`;
}

/**
 * The origin of the server at PUBLIC_URL (or PORT); null when nothing answers there.
 *
 * @throws PlainError when it is not Tandem in sandbox mode, or a variable is wrong
 */
async function findRunningServer(): Promise<string | null> {
  // The server reads the same file.
  loadEnvFile();
  const { PUBLIC_URL, PORT } = process.env;
  const { publicUrl: origin } = readConfig({ PUBLIC_URL, PORT });
  const page = await fetch(new URL('/', origin)).then(
    (answer) => answer.text(),
    () => null,
  );
  if (page === null) return null;
  if (!page.includes('Sandbox: no real money moves.')) {
    throw new PlainError(
      `The server at ${origin} is not Tandem in sandbox mode. To start a fresh one, set PORT to a free port${PUBLIC_URL ? ' and unset PUBLIC_URL' : ''}.`,
    );
  }
  return origin;
}

async function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => {
        resolve(port);
      });
    });
  });
}

async function playOnFreshServer(): Promise<void> {
  // Imported here, so that a package that cannot be loaded is reported in one line.
  const { startServer } = await import('./start.ts');
  const folder = await mkdtemp(join(tmpdir(), 'tandem-demo-'));
  try {
    const port = await freePort();
    const env = { PORT: String(port), DATABASE_URL: `file:${join(folder, 'tandem.db')}`, LOG_LEVEL: 'warn' };
    const server = await startServer(env, () => new Date());
    say('No server is running; a fresh one is at', `http://localhost:${port}`);
    try {
      await playStory(`http://localhost:${port}`, true);
    } finally {
      await server.close();
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

finishWithoutOutput();
try {
  const running = await findRunningServer();
  if (running) say('A server is running at', running);
  // In a sandbox that was running already, only the people who use it move the clock.
  await (running ? playStory(running, false) : playOnFreshServer());
  say('Done', 'a friend paid, and both got 45 days');
} catch (error) {
  giveUp(error);
}
