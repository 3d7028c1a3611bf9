import { describe, expect, test } from 'vitest';

import { MAIL } from './support/mail.ts';
import {
  cookiesOf,
  deliver,
  PASSWORD,
  postForm,
  signUp,
  START,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { deliverWaiting, pressUpgrade, sessionIdOf, startWorld, subscribe } from './support/stand-in.ts';
import type { World } from './support/stand-in.ts';
import { buyer } from './support/stripe-events.ts';
import { visibleText } from './support/visible-text.ts';

/** The visible text of a page. */
async function words({ app }: TestServer, url: string, cookie = ''): Promise<string> {
  const { body } = await app.inject({ url, headers: { cookie } });
  return visibleText(body);
}

const YOURS = 'Your invitation: 45 free days with your first payment.';

describe('an invitation', () => {
  /** Ann, and Ben who signed up with her link. */
  async function invited(server: TestServer): Promise<{ ann: Person; ben: Person }> {
    const ann = await signUp(server, 'ann@example.com');
    return { ann, ben: await signUp(server, 'ben@example.com', ann.code) };
  }

  /** What Stripe's page says above its button. */
  async function messageWherePaid(world: World, person: Person): Promise<unknown> {
    const session = world.sandbox.objects.checkouts.get(sessionIdOf(await pressUpgrade(world, person)));
    return session?.custom_text.submit?.message;
  }

  test.each(['/settings', '/pricing'])('stays on %s from the sign-up to the first payment', async (url) => {
    const server = await startTestServer();
    const { ann, ben } = await invited(server);
    expect(await words(server, url, ben.cookie)).toContain(YOURS);
    expect(await words(server, url, ann.cookie)).not.toContain(YOURS);
    const stripe = buyer(ben.id);
    await deliver(server, stripe.checkoutCompleted());
    await deliver(server, stripe.created());
    expect(await words(server, url, ben.cookie)).not.toContain(YOURS);
  });

  test('is gone once the referral was refused', async () => {
    const server = await startTestServer();
    const { ben } = await invited(server);
    await server.db.referral.updateMany({ data: { refusedFor: 'address-converted' } });
    expect(await words(server, '/settings', ben.cookie)).not.toContain(YOURS);
  });

  test('is on the page where they pay', async () => {
    const world = await startWorld();
    const { ann, ben } = await invited(world);
    expect(await messageWherePaid(world, ben)).toBe('Your invitation: 45 free days with your first payment.');
    expect(await messageWherePaid(world, ann)).toBeUndefined();
  });

  test('is no longer on the page where they pay once their proven address refuses it', async () => {
    const world = await startWorld();
    const { ann, ben } = await invited(world);
    expect(await messageWherePaid(world, ben)).toContain('45 free days');
    const { emailHash } = await userRow(world, ben.id);
    // Another account converted with this address and was deleted.
    const other = await signUp(world, 'other@example.com', ann.code);
    const converted = { convertedAt: START, creditedAt: START, referredHash: emailHash };
    await world.db.referral.update({ where: { referredId: other.id }, data: converted });
    await world.db.user.update({ where: { id: ben.id }, data: { emailProvenAt: START } });
    expect(await messageWherePaid(world, ben)).toBeUndefined();
  });

  test('with a code that does not exist changes nothing', async () => {
    const server = await startTestServer();
    const text = await words(server, '/pricing', cookiesOf(await server.app.inject({ url: '/r/NOSUCHCO' })));
    expect(text).toBe(await words(server, '/pricing', ''));
  });
});

describe('the plan that a visitor chose', () => {
  test('leads from the pricing page through the sign-up to the checkout of that plan', async () => {
    const world = await startWorld();
    const { body } = await world.app.inject({ url: '/pricing' });
    expect(body).toContain('href="/signup?plan=annual"');
    const form = await world.app.inject({ url: '/signup?plan=annual' });
    expect(form.body).toContain('<input type="hidden" name="plan" value="annual">');
    expect(form.body).toContain('href="/login?plan=annual"');
    const input = { email: 'ann@example.com', password: PASSWORD, plan: 'annual' };
    const answer = await postForm(world.app, '/signup', input);
    expect(answer.statusCode).toBe(303);
    const { subscription } = world.sandbox.acts.pay(sessionIdOf(answer.headers.location ?? ''));
    expect(world.sandbox.objects.subscriptions.get(subscription ?? '')).toMatchObject({
      items: { data: [{ price: { id: 'price_a' } }] },
    });
  });

  test('survives a mistake in the form', async () => {
    const { app } = await startTestServer();
    const answer = await postForm(app, '/signup', { email: 'ann', password: PASSWORD, plan: 'annual' });
    expect(answer.statusCode).toBe(400);
    expect(answer.body).toContain('<input type="hidden" name="plan" value="annual">');
  });

  test('survives a login, for somebody whose session had ended', async () => {
    const world = await startWorld();
    await signUp(world, 'ann@example.com');
    const sent = await postForm(world.app, '/api/billing/checkout', { plan: 'monthly' }, '', {
      accept: 'text/html',
    });
    expect(sent.headers.location).toBe('/login?plan=monthly');
    const input = { email: 'ann@example.com', password: PASSWORD, plan: 'monthly' };
    const answer = await postForm(world.app, '/login', input);
    expect(sessionIdOf(answer.headers.location ?? '')).toMatch(/^cs_/);
  });

  test('leads a subscriber to the portal', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    await subscribe(world, ann);
    await deliverWaiting(world);
    const input = { email: 'ann@example.com', password: PASSWORD, plan: 'annual' };
    const answer = await postForm(world.app, '/login', input);
    expect(answer.headers.location).toContain('/portal/');
  });

  test('is asked for again when no checkout can be opened; the account is there all the same', async () => {
    const server = await startTestServer({ STRIPE_API_KEY: '', STRIPE_PRICE_ANNUAL: 'price_a' });
    const input = { email: 'ann@example.com', password: PASSWORD, plan: 'annual' };
    const answer = await postForm(server.app, '/signup', input);
    expect(answer.headers.location).toBe('/pricing');
    expect(await words(server, '/pricing', cookiesOf(answer))).toContain(
      'You are logged in, but the payment page could not be opened.',
    );
    expect(await server.db.user.count()).toBe(1);
  });

  test.each(['weekly', '__proto__', ''])('is ignored when it is "%s"', async (plan) => {
    const { app } = await startTestServer();
    const answer = await postForm(app, '/signup', { email: 'ann@example.com', password: PASSWORD, plan });
    expect(answer.headers.location).toBe('/settings');
  });
});

describe('Pricing', () => {
  test('marks the plan that somebody has', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    expect(await words(world, '/pricing', ann.cookie)).toContain('Free Your plan');
    await subscribe(world, ann);
    await deliverWaiting(world);
    const text = await words(world, '/pricing', ann.cookie);
    expect(text).toContain('Monthly Your plan');
    expect(text).not.toContain('Free Your plan');
    expect(await words(world, '/pricing')).not.toContain('Your plan');
  });

  test("says what a year saves, computed from Stripe's prices", async () => {
    const world = await startWorld();
    const [monthly, annual] = await Promise.all(
      ['price_m', 'price_a'].map((id) => world.merchant.prices.retrieve(id)),
    );
    const saved = (12 * (monthly?.unit_amount ?? 0) - (annual?.unit_amount ?? 0)) / 100;
    expect(saved).toBeGreaterThan(0);
    expect(await words(world, '/pricing')).toContain(
      `Billed once a year, and you save $${saved.toFixed(2)} a year`,
    );
  });

  test('mentions free days that are counting down', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const ben = await signUp(server, 'ben@example.com', ann.code);
    const stripe = buyer(ben.id);
    await deliver(server, stripe.checkoutCompleted());
    await deliver(server, stripe.created());
    expect(await words(server, '/pricing', ann.cookie)).toContain('You have 45 free days. They last until');
    expect(await words(server, '/pricing', ben.cookie)).toContain(
      'You have 45 free days. The countdown is paused while you pay',
    );
    expect(await words(server, '/pricing')).not.toContain('You have 45');
  });
});

describe('every page', () => {
  const NAMED = {
    BRAND: 'Acme & Sons',
    CONTACT_EMAIL: 'help@acme.test',
    TERMS_URL: 'https://acme.test/terms',
    PRIVACY_URL: 'https://acme.test/privacy',
  };
  const PAGES = ['/', '/pricing', '/signup', '/login', '/portfolio', '/forgot', '/nothing-here'];

  test.each(PAGES)('%s carries the brand, the contact and the links of the footer', async (url) => {
    const { app } = await startTestServer(NAMED);
    const { body } = await app.inject({ url });
    expect(body).toMatch(/<title>[^<]*Acme &amp; Sons<\/title>/);
    expect(body).toContain('href="mailto:help@acme.test"');
    expect(body).toContain('href="https://acme.test/terms"');
    expect(body).toContain('href="https://acme.test/privacy"');
    expect(body).not.toContain('Tandem');
  });

  test.each(['/', '/pricing', '/signup', '/login', '/portfolio'])(
    '%s has a title, a description and a picture for those who share it',
    async (url) => {
      const { app, config } = await startTestServer();
      const { body } = await app.inject({ url });
      const contentOf = (property: string): string =>
        new RegExp(`<meta property="og:${property}" content="([^"]*)">`).exec(body)?.[1] ?? '';
      expect(contentOf('title')).not.toBe('');
      expect(contentOf('description')).toMatch(/^.{20,}/);
      // It would replace a friend's link, and with it the referral code.
      expect(contentOf('url')).toBe('');
      const picture = await app.inject({ url: contentOf('image').replace(config.publicUrl, '') });
      expect(picture.headers['content-type']).toBe('image/png');
    },
  );

  test('offers the logout to whoever is logged in', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    for (const url of PAGES) {
      const { body } = await server.app.inject({ url, headers: { cookie: ann.cookie } });
      const isPage = !['/signup', '/login'].includes(url);
      expect([url, body.includes('action="/logout"')]).toEqual([url, isPage]);
    }
  });
});

describe('Settings', () => {
  test('counts the days until the plan renews, and the free days of somebody who does not pay', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const ben = await signUp(server, 'ben@example.com', ann.code);
    expect(await words(server, '/settings', ann.cookie)).not.toMatch(/\d days (left|until)/);
    const stripe = buyer(ben.id);
    await deliver(server, stripe.checkoutCompleted());
    await deliver(server, stripe.created());
    expect(await words(server, '/settings', ann.cookie)).toContain('45 days left');
    expect(await words(server, '/settings', ben.cookie)).toMatch(/\d+ days until your plan renews/);
  });

  test('keeps the way to the invoices open for somebody whose plan has ended', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    expect(await words(world, '/settings', ann.cookie)).not.toContain('See your invoices');
    const subscription = await subscribe(world, ann);
    await world.merchant.subscriptions.cancel(subscription);
    await deliverWaiting(world);
    expect(await words(world, '/settings', ann.cookie)).toContain('See your invoices');
  });
});

describe('somebody who is not logged in', () => {
  test.each([
    ['GET', '/settings', 'Log in first.'],
    ['POST', '/settings/password', 'You are not logged in, so nothing was done.'],
    ['POST', '/portfolio/backups/b1/delete', 'You are not logged in, so nothing was done.'],
    ['POST', '/api/billing/portal', 'You are not logged in, so nothing was done.'],
  ] as const)('reads why they are asked to log in, after %s %s', async (method, url, says) => {
    const server = await startTestServer();
    const headers = { accept: 'text/html' };
    const sent = await server.app.inject({ method, url, headers });
    expect([sent.statusCode, sent.headers.location]).toEqual([303, '/login']);
    expect(await words(server, '/login', cookiesOf(sent))).toContain(says);
  });

  test('reads that they are logged out', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const left = await postForm(server.app, '/logout', {}, ann.cookie);
    expect(await words(server, '/', cookiesOf(left))).toContain('You have been logged out.');
  });
});

test('changing the password while a change of address waits says that the change was cancelled', async () => {
  const server = await startTestServer(MAIL);
  const ann = await signUp(server, 'ann@example.com');
  const change = { email: 'new@example.com', currentPassword: PASSWORD };
  await postForm(server.app, '/settings/address', change, ann.cookie);
  const input = { currentPassword: PASSWORD, newPassword: 'another staple' };
  const first = await postForm(server.app, '/settings/password', input, ann.cookie);
  expect(await words(server, '/settings', cookiesOf(first))).toContain(
    'Your pending change of address was cancelled.',
  );
  const again = { currentPassword: 'another staple', newPassword: 'a third staple' };
  const second = await postForm(server.app, '/settings/password', again, cookiesOf(first));
  expect(await words(server, '/settings', cookiesOf(second))).not.toContain('was cancelled');
});

test('entering the present address while a change of address waits says that the change was cancelled', async () => {
  const server = await startTestServer(MAIL);
  const ann = await signUp(server, 'ann@example.com');
  const change = { email: 'new@example.com', currentPassword: PASSWORD };
  await postForm(server.app, '/settings/address', change, ann.cookie);
  const kept = await postForm(
    server.app,
    '/settings/address',
    { ...change, email: 'ann@example.com' },
    ann.cookie,
  );
  expect(await words(server, '/settings', `${ann.cookie}; ${cookiesOf(kept)}`)).toContain(
    'Your address has not changed, and your pending change of address was cancelled.',
  );
});
