import { randomUUID } from 'node:crypto';

import type { LightMyRequestResponse } from 'fastify';
import { expect, test } from 'vitest';

import { grantCredit } from '../src/operator/grant-credit.ts';
import { resetLink } from '../src/operator/reset-link.ts';
import { maskEmail } from '../src/referrals/invitations.ts';
import { commandContext } from './support/command-context.ts';
import { expectSound } from './support/findings.ts';
import { refuseWrites } from './support/other-connection.ts';
import {
  cookiesOf,
  daysAfter,
  deliverAll,
  makeTombstone,
  logInAgain,
  PASSWORD,
  postForm,
  signUp,
  START,
  startTestServer,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { buyer, epoch } from './support/stripe-events.ts';
import { visibleText } from './support/visible-text.ts';

function open(
  { app }: TestServer,
  { cookie }: { cookie: string },
  url = '/settings',
): Promise<LightMyRequestResponse> {
  return app.inject({ url, headers: { cookie } });
}

/** The visible text of a page. */
async function words(server: TestServer, person: Person, url = '/settings'): Promise<string> {
  const { body } = await open(server, person, url);
  return visibleText(body);
}

/** A friend of a user signs up and pays. */
async function friendPays(server: TestServer, code: string, email: string) {
  const friend = await signUp(server, email, code);
  const stripe = buyer(friend.id);
  await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
  return { friend, stripe };
}

test('each invitation shows what became of it, and only a masked address of the friend', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await signUp(server, 'carol@example.org', ann.code);
  const { friend } = await friendPays(server, ann.code, 'ben@example.com');
  const text = await words(server, ann);
  expect(text).toContain('c•••@e•••.org joined. No days so far.');
  expect(text).toContain(
    'b•••@e•••.com joined. First payment on 10 January 2027: you got the days. It counts under Active credits until 24 February 2027.',
  );
  expect((await open(server, ann)).body).not.toContain('ben@example.com');

  server.clock.now = daysAfter(45);
  ann.cookie = await logInAgain(server, ann);
  expect(await words(server, ann)).toContain('Active credits 1 ');
  expect(await words(server, ann)).toContain('It counts under Active credits');
  server.clock.now = new Date(daysAfter(45).getTime() + 1000);
  expect(await words(server, ann)).toContain('Active credits 0 ');
  expect(await words(server, ann)).not.toContain('It counts under Active credits');
  await makeTombstone(server, friend);
  expect(await words(server, ann)).toContain(
    'A friend joined and has since deleted their account. First payment',
  );
});

test('an invitation whose payment was refunded says so', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const { stripe } = await friendPays(server, ann.code, 'ben@example.com');
  await deliverAll(server, [stripe.invoicePaid(), stripe.invoicePaymentPaid()]);
  server.clock.now = daysAfter(10);
  await deliverAll(server, [stripe.chargeRefunded({}, { at: daysAfter(10) })]);
  const text = await words(server, ann);
  expect(text).toContain('It stopped counting on 20 January 2027, so any remaining days were removed.');
  expect(text).toContain(
    'A friend’s first payment no longer counts: the remaining days were removed −35 days',
  );
});

test('a refund after the credit was used takes nothing, and says so', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const { stripe } = await friendPays(server, ann.code, 'ben@example.com');
  await deliverAll(server, [stripe.invoicePaid(), stripe.invoicePaymentPaid()]);
  const dispute = stripe.dispute(daysAfter(10));
  await deliverAll(server, [dispute.opened()]);
  server.clock.now = daysAfter(60);
  await deliverAll(server, [dispute.lost(daysAfter(60))]);
  const text = await words(server, { ...ann, cookie: await logInAgain(server, ann) });
  expect(text).toContain('You had already used the free days you got for it, so nothing was removed.');
  expect(text).toContain('A friend’s first payment no longer counts: no days were left');
  expect(text).not.toContain('less than a day');
});

test('the page lists the newest 50 invitations, and the export 1,000', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const template = await server.db.user.findUniqueOrThrow({ where: { id: ann.id } });
  const second = (n: number) => new Date(START.getTime() + n * 1000);
  const invited = Array.from({ length: 1_003 }, (_, n) => ({
    id: randomUUID(),
    // Those that are not among the newest 50 start with an o.
    email: `${n < 953 ? 'older' : 'newer'}-${n}@example.com`,
    createdAt: second(n),
  }));
  await server.db.user.createMany({
    data: invited.map((one) => ({ ...template, ...one, code: one.id, emailHash: one.id })),
  });
  await server.db.referral.createMany({
    data: invited.map(({ id, createdAt }) => ({
      id: randomUUID(),
      referrerId: ann.id,
      referredId: id,
      referredHash: id,
      createdAt,
    })),
  });
  server.clock.now = second(1_003);
  const text = await words(server, ann);
  expect(text.match(/ n•••@e•••\.com joined\./g)).toHaveLength(50);
  expect(text).not.toContain('o•••@e•••.com');
  expect(text).toContain('Earlier invitations are in your data export, which lists the newest 1,000.');
  const exported = (await open(server, ann, '/settings/export')).json<{
    invitations: { friend: string }[];
  }>();
  const friends = exported.invitations.map(({ friend }) => friend);
  expect(friends).toHaveLength(1_000);
  expect(friends.filter((friend) => friend === 'n•••@e•••.com')).toHaveLength(50);
});

test('of very many open invitations, 10,000 are counted', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const numbers =
    'WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n <= 10000) SELECT n FROM numbers';
  await server.db.$executeRawUnsafe(`
    INSERT INTO "User" ("id", "email", "passwordHash", "emailHash", "code", "tier", "creditEntryCount", "createdAt")
    SELECT 'id' || n, n || '@example.com', u."passwordHash", 'hash' || n, 'code' || n, 'free', 0, u."createdAt"
    FROM (${numbers}) AS numbers, "User" AS u WHERE u."email" = 'ann@example.com'`);
  await server.db.$executeRawUnsafe(`
    INSERT INTO "Referral" ("id", "referrerId", "referredId", "createdAt")
    SELECT 'of' || f."id", u."id", f."id", f."createdAt" FROM "User" AS f, "User" AS u
    WHERE f."id" LIKE 'id%' AND u."email" = 'ann@example.com'`);
  expect((await open(server, ann, '/api/me')).json()).toMatchObject({ referral: { invited: 10_000 } });
});

test.each([
  ['ben@example.com', 'b•••@e•••.com'],
  ['b@mail.example.co.uk', 'b•••@m•••.uk'],
  ['😀x@localhost', '😀•••@l•••'],
  ['ben@evil.callthisnumbernow', 'b•••@e•••'],
])('the address %s is masked as %s', (email, masked) => {
  expect(maskEmail(email)).toBe(masked);
});

test('the history of credit shows grants, what was used, and when it was paused', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await friendPays(server, ann.code, 'ben@example.com');
  server.clock.now = daysAfter(20);
  const stripe = buyer(ann.id);
  await deliverAll(server, [
    stripe.checkoutCompleted({}, { at: daysAfter(20) }),
    stripe.created({}, { at: daysAfter(20) }),
  ]);
  const text = await words(server, ann);
  const lines = [
    'Paid plan: any free days are paused',
    'Used as paid access −20 days',
    'A friend you invited made a first payment +45 days',
  ];
  expect(lines.map((line) => text.indexOf(line)).every((at, n, all) => at > (all[n - 1] ?? 0))).toBe(true);
  expect(text).toContain('paused while you pay. The countdown starts when your plan ends.');
});

test('of a long history the newest 50 lines are shown, newest first, and the export has all entries', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const grants = 400;
  const second = (n: number) => new Date(server.clock.now.getTime() + n * 1000);
  await server.db.creditEntry.createMany({
    data: Array.from({ length: grants }, (_, n) => ({
      userId: ann.id,
      seq: n + 1,
      at: second(n),
      kind: 'grant',
      // The last one is larger.
      seconds: (n === grants - 1 ? 3 : 2) * 86_400,
      causeId: `gift ${n}`,
    })),
  });
  await server.db.user.update({
    where: { id: ann.id },
    data: {
      creditUntil: second((grants * 2 + 1) * 86_400),
      creditEntryCount: grants,
      creditEntryAt: second(grants - 1),
    },
  });
  server.clock.now = second(grants);
  await expectSound(server);

  const text = await words(server, ann);
  expect(text).toContain('You were given 801 days of paid access.');
  // Between two grants, one second of credit was used.
  expect(text.match(/Added by us/g)).toHaveLength(25);
  expect(text.match(/Used as paid access/g)).toHaveLength(25);
  expect(text.match(/Added by us \+\d days/g)?.slice(0, 2)).toEqual([
    'Added by us +3 days',
    'Added by us +2 days',
  ]);
  expect(text).toContain('Your data export has the earlier ones, except for days that were used.');
  const exported = (await open(server, ann, '/settings/export')).json<{ creditEntries: unknown[] }>();
  expect(exported.creditEntries).toHaveLength(grants);
});

test('somebody who pays and was never given days has no history of them', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const stripe = buyer(ann.id);
  await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
  expect(await words(server, ann)).not.toContain('History of your free days');
});

test.each(['address', 'password', 'delete'])(
  'the URL of the form /settings/%s leads to Settings',
  async (form) => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const answer = await open(server, ann, `/settings/${form}`);
    expect({ status: answer.statusCode, to: answer.headers.location }).toEqual({
      status: 303,
      to: '/settings',
    });
  },
);

test('payments of several friends that no longer count, or count again, are reported in one sentence, and the reader’s own in another', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const ben = await friendPays(server, ann.code, 'ben@example.com');
  const carol = await friendPays(server, ann.code, 'carol@example.com');
  await words(server, ann, '/');
  await words(server, ben.friend, '/');
  const disputes = [ben, carol].map(({ stripe }) => stripe.dispute(daysAfter(5)));
  await deliverAll(
    server,
    [ben, carol].flatMap(({ stripe }) => [stripe.invoicePaid(), stripe.invoicePaymentPaid()]),
  );
  server.clock.now = daysAfter(6);
  await deliverAll(
    server,
    disputes.map((dispute) => dispute.lost(daysAfter(6))),
  );
  expect(await words(server, ann, '/')).toMatch(
    /The first payments of 2 friends no longer count, so what was left of the free days you got for them was removed: \d+ days\./,
  );
  expect(await words(server, ben.friend, '/')).toContain(
    'Your first payment no longer counts, so what was left',
  );
  server.clock.now = daysAfter(7);
  await deliverAll(
    server,
    disputes.map((dispute) => dispute.wonAfterAll(daysAfter(7))),
  );
  expect(await words(server, ann, '/')).toMatch(/The payments of 2 friends now count: you got \d+ days\./);
});

test('of days that were given back and removed again since the last visit, the removal is said last', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const { stripe } = await friendPays(server, ann.code, 'ben@example.com');
  await deliverAll(server, [stripe.invoicePaid(), stripe.invoicePaymentPaid(), stripe.chargeRefunded()]);
  await words(server, ann, '/');
  await deliverAll(server, [
    stripe.refundFailed({}, { at: daysAfter(1) }),
    stripe.chargeRefunded({}, { at: daysAfter(2) }),
  ]);
  expect(await words(server, ann, '/')).toMatch(
    /A friend’s payment now counts: you got 45 days\..*A friend’s first payment no longer counts, so/,
  );
});

test('the next visit says once that a friend paid, on whatever page', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const { friend } = await friendPays(server, ann.code, 'ben@example.com');
  const news = 'A friend of yours made a first payment: you got 45 days.';
  expect(await words(server, ann, '/')).toContain(news);
  expect(await words(server, ann)).not.toContain(news);

  const first = 'We received your first payment. Because a friend invited you, you got 45 days.';
  expect(await words(server, friend, '/pricing')).toContain(first);
  expect(await words(server, friend, '/pricing')).not.toContain(first);
});

test('several friends are reported together, beside the notice of a changed address', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await friendPays(server, ann.code, 'ben@example.com');
  await friendPays(server, ann.code, 'carol@example.com');
  const form = { email: 'anna@example.com', currentPassword: PASSWORD };
  const changed = await postForm(server.app, '/settings/address', form, ann.cookie);
  const text = await words(server, { ...ann, cookie: `${ann.cookie}; ${cookiesOf(changed)}` });
  expect(text).toContain('2 friends of yours made their first payments: you got 90 days.');
  expect(text).toContain('Your email address has been changed.');
});

test('the API, a redirect and an error page do not use up the news', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await friendPays(server, ann.code, 'ben@example.com');
  await open(server, ann, '/api/me');
  await open(server, ann, '/signup');
  await open(server, ann, '/nothing');
  expect(await words(server, ann)).toContain('you got 45 days');
});

test('news that cannot be marked as seen is shown all the same, and again', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await friendPays(server, ann.code, 'ben@example.com');
  const { lift } = await refuseWrites(server, 'UPDATE', 'User', 'NEW."creditEntriesSeen" > 0');
  expect(await words(server, ann)).toContain('you got 45 days');
  await lift();
  expect(await words(server, ann)).toContain('you got 45 days');
  expect(await words(server, ann)).not.toContain('you got 45 days');
});

test('news whose page failed is shown on the next one', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await friendPays(server, ann.code, 'ben@example.com');
  await server.db.$executeRawUnsafe('ALTER TABLE "Subscription" RENAME TO "Away"');
  expect((await open(server, ann)).statusCode).toBe(500);
  await server.db.$executeRawUnsafe('ALTER TABLE "Away" RENAME TO "Subscription"');
  expect(await words(server, ann)).toContain('you got 45 days');
});

test('of very many emails and invoices, the export holds the newest 1,000', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const mail = { userId: ann.id, kind: 'mail.password-changed', data: 'null', dueAt: START, status: 'done' };
  await server.db.outboxItem.createMany({
    data: Array.from({ length: 1_001 }, (_, n) => ({
      ...mail,
      id: `m${n}`,
      createdAt: new Date(START.getTime() + n * 1000),
    })),
  });
  const stripe = buyer(ann.id);
  await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
  await server.db.invoice.createMany({
    data: Array.from({ length: 1_000 }, (_, n) => ({ id: `in_${n}`, subscriptionId: stripe.subscription })),
  });
  const { outbox, invoices } = (await open(server, ann, '/settings/export')).json<{
    outbox: { createdAt: string }[];
    invoices: { id: string; positive: boolean }[];
  }>();
  expect(invoices).toHaveLength(1_000);
  expect(invoices[0]).toMatchObject({ positive: true });
  expect(outbox).toHaveLength(1_000);
  expect(outbox[0]?.createdAt).toBe(new Date(START.getTime() + 1_000_000).toISOString());
});

test('the export holds what is kept about a person, and nothing about a friend and nothing that opens an account', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const { friend } = await friendPays(server, ann.code, 'ben@example.com');
  await server.db.backup.create({
    data: { id: 'b1', userId: ann.id, number: 1, document: '{"version":1}', createdAt: server.clock.now },
  });
  const { json: link } = await resetLink(commandContext(server), ann.email);
  await server.db.checkout.create({
    data: { userId: ann.id, id: 'c1', plan: 'monthly', priceId: 'p', trialDays: 0, createdAt: START },
  });
  const mail = { id: 'm1', userId: ann.id, createdAt: START, dueAt: START, status: 'done' };
  await server.db.outboxItem.create({
    data: { ...mail, kind: 'mail.days-granted', data: JSON.stringify({ referralId: 'of Ben' }) },
  });
  const answer = await open(server, ann, '/settings/export');
  expect(answer.headers['content-disposition']).toBe('attachment; filename="tandem-data.json"');
  expect(answer.json()).toMatchObject({
    account: { email: 'ann@example.com', creditDays: 45 },
    invitations: [{ friend: 'b•••@e•••.com' }],
    creditEntries: [{ kind: 'grant', seconds: 45 * 86_400 }],
    auditRows: [{ kind: 'credit' }],
    backups: [{ document: { version: 1 } }],
    lastCheckout: { id: 'c1', plan: 'monthly' },
    outbox: [{ kind: 'mail.days-granted', status: 'done' }],
    invitedBy: null,
  });
  const { passwordHash, emailHash } = await server.db.user.findUniqueOrThrow({ where: { id: ann.id } });
  const { tokenHash } = await server.db.session.findFirstOrThrow({ where: { userId: ann.id } });
  const reset = await server.db.resetLink.findFirstOrThrow({ where: { userId: ann.id } });
  expect(answer.json()).not.toHaveProperty('resetLinks');
  const token = (link as { url: string }).url.split('/').pop() ?? '';
  const hashes = [passwordHash ?? '', emailHash, tokenHash, reset.tokenHash];
  for (const secret of ['ben@example.com', friend.id, 'of Ben', token, ...hashes]) {
    expect(secret).not.toBe('');
    expect(answer.body).not.toContain(secret);
  }
  await grantCredit(commandContext(server), ann.email, 3, 'complained by telephone');
  const granted = await open(server, ann, '/settings/export');
  expect(granted.json<{ auditRows: unknown[] }>().auditRows).toHaveLength(2);
  expect(granted.body).not.toContain('complained');
  const stripe = buyer(ann.id);
  await deliverAll(server, [
    stripe.checkoutCompleted(),
    stripe.created({ status: 'trialing', trial_end: epoch(daysAfter(7)) }),
  ]);
  const onTrial = await open(server, ann, '/settings/export');
  expect(onTrial.json()).toMatchObject({ subscriptions: [{ status: 'trialing' }] });
  expect(onTrial.body).not.toContain(emailHash);
  expect((await server.app.inject({ url: '/settings/export' })).statusCode).toBe(303);
});

test("logging out everywhere else ends the other sessions, not this one or other users'", async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const eve = await signUp(server, 'eve@example.com');
  const elsewhere = await logInAgain(server, ann);
  const answer = await postForm(server.app, '/settings/log-out-elsewhere', {}, ann.cookie);
  expect([answer.statusCode, answer.headers.location]).toEqual([303, '/settings']);
  expect((await open(server, ann)).statusCode).toBe(200);
  expect((await open(server, { cookie: elsewhere })).statusCode).toBe(303);
  expect((await open(server, eve)).statusCode).toBe(200);
});

test('the QR code is an image without script or style, which the CSP allows', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const { body } = await open(server, ann);
  const svg = /<div class="qr-code"[^>]*>(.*?)<\/div>/s.exec(body)?.[1] ?? '';
  expect(svg).toContain('<svg');
  expect(svg).not.toMatch(/style=|<script|<style/);
});
