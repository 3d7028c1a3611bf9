import { expect, test } from 'vitest';

import { mailEnv, startTestSender } from './support/sender.ts';
import { startMailServer } from './support/mail-server.ts';
import { deliverAll, signUp, startTestServer } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

test('a first payment tells both sides, once', async () => {
  const mailServer = await startMailServer();
  const server = await startTestServer({ ...mailEnv(mailServer), CONTACT_EMAIL: 'help@tandem.test' });
  const sender = await startTestSender(server);
  const ann = await signUp(server, 'ann@example.com');
  const ben = await signUp(server, 'ben@example.com', ann.code);
  const stripe = buyer(ben.id);
  await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
  await sender.wake();
  expect(mailServer.mails.map(({ to }) => to).sort()).toEqual(['ann@example.com', 'ben@example.com']);
  for (const { headers, text, html } of mailServer.mails) {
    expect(headers.get('from')).toBe('Tandem <hello@tandem.test>');
    expect(headers.get('reply-to')).toBe('help@tandem.test');
    expect(headers.get('auto-submitted')).toBe('auto-generated');
    for (const part of [text, html]) expect(part).toContain('45 free days');
  }
  const items = await server.db.outboxItem.findMany();
  expect(items.map(({ id }) => `<${id}@tandem.test>`).sort()).toEqual(
    mailServer.mails.map(({ headers }) => headers.get('message-id')).sort(),
  );
  for (const item of items) {
    expect(item).toMatchObject({ status: 'done', attempts: 1, address: null, error: null });
  }

  await sender.wake();
  expect(mailServer.mails).toHaveLength(2);
});
