import { expect, test } from 'vitest';

import { delivered, NOWHERE, sandboxClient, startReceiver, startTestSandbox } from './support/sandbox.ts';

async function start(webhookUrl: string) {
  const log: string[] = [];
  const sandbox = await startTestSandbox({
    webhookUrl: () => webhookUrl,
    log: (line) => void log.push(line),
  });
  return { ...sandbox, log, stripe: sandboxClient(sandbox) };
}

test('events that are held wait, oldest first', async () => {
  const receiver = await startReceiver();
  const { webhooks, stripe, objects } = await start(receiver.url);
  webhooks.hold();
  await stripe.customers.create();
  await stripe.customers.create();
  expect(webhooks.waiting()).toEqual([...objects.events.keys()]);
  expect(receiver.attempts).toEqual([]);
});

test('an event can be sent in any order, and more than once', async () => {
  const receiver = await startReceiver([500]);
  const { webhooks, stripe, objects } = await start(receiver.url);
  webhooks.hold();
  await stripe.customers.create();
  await stripe.customers.create();
  const [first = '', second = ''] = webhooks.waiting();
  expect(await webhooks.send(second)).toBe(500);
  expect(webhooks.waiting()).toEqual([first, second]);
  expect(await webhooks.send(second)).toBe(200);
  expect(webhooks.waiting()).toEqual([first]);
  expect(await webhooks.send(second)).toBe(200);
  expect(receiver.attempts.map(({ id }) => id)).toEqual([second, second, second]);
  expect(objects.events.get(second)).toMatchObject({ pending_webhooks: 0 });
  await expect(webhooks.send('evt_none')).rejects.toThrow('does not exist');
});

test('a dropped event is not tried again', async () => {
  const receiver = await startReceiver([500, 500]);
  const sandbox = await start(receiver.url);
  const { webhooks, stripe, log } = sandbox;
  /** Creates an event, and waits until its retry is scheduled. */
  const fail = async (): Promise<void> => {
    const failed = log.length;
    await stripe.customers.create();
    await expect
      .poll(() => log.slice(failed), { timeout: 20_000 })
      .toEqual([expect.stringContaining('HTTP 500; next try in 1 s')]);
  };
  await fail();
  const [first = ''] = webhooks.waiting();
  webhooks.drop(first);
  await fail();
  const [second = ''] = webhooks.waiting();
  // The retry of the first event would have begun before that of the second.
  await delivered(sandbox);
  await sandbox.close();
  expect(receiver.attempts.map(({ id }) => id)).toEqual([first, second, second]);
});

test('a dropped event no longer waits, stays in the list, and can still be sent', async () => {
  const receiver = await startReceiver();
  const { webhooks, stripe } = await start(receiver.url);
  webhooks.hold();
  await stripe.customers.create();
  await stripe.customers.create();
  const [first = '', second = ''] = webhooks.waiting();
  webhooks.drop(first);
  expect(webhooks.waiting()).toEqual([second]);
  const listed = (await stripe.events.list()).data.map((one) => [one.id, one.pending_webhooks]);
  expect(listed).toEqual([
    [second, 1],
    [first, 1],
  ]);
  expect(await webhooks.send(first)).toBe(200);
  expect(receiver.attempts.map(({ id }) => id)).toEqual([first]);
  expect(() => {
    webhooks.drop('evt_none');
  }).toThrow('does not exist');
});

test('where nobody answers the status is 0', async () => {
  const { webhooks, stripe } = await start(NOWHERE);
  webhooks.hold();
  await stripe.customers.create();
  const [event = ''] = webhooks.waiting();
  expect(await webhooks.send(event)).toBe(0);
  expect(webhooks.waiting()).toEqual([event]);
});
