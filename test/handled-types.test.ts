import { readFile } from 'node:fs/promises';

import { expect, test } from 'vitest';

import { HANDLED_TYPES } from '../src/stripe/handle-event.ts';
import { clientOf } from './support/server.ts';
import { reconcileWorld, startWorld } from './support/stand-in.ts';

/** The limits of Stripe's event list: https://docs.stripe.com/api/events/list */
const MAX_TYPES = 20;

test('docs/running.md lists every handled event type, and no other', async () => {
  const page = await readFile(new URL('../docs/running.md', import.meta.url), 'utf8');
  const [, list = ''] = /for these events,[^:]*:\n([^:]*?)\n3\./.exec(page) ?? [];
  const named = [...list.matchAll(/`([a-z_.]+)`/g)].map(([, type = '']) => type);
  expect(named.sort()).toEqual([...HANDLED_TYPES].sort());
});

test('reconcile asks Stripe for every handled type, and for no more at a time than Stripe allows', async () => {
  const world = await startWorld();
  const stripe = clientOf(world);
  const list = stripe.events.list.bind(stripe.events);
  const asked: string[][] = [];
  stripe.events.list = (query) => {
    asked.push(query?.types ?? []);
    return list(query);
  };
  await reconcileWorld(world, 3600);
  expect(asked.every((types) => types.length > 0 && types.length <= MAX_TYPES)).toBe(true);
  expect([...new Set(asked.flat())].sort()).toEqual([...HANDLED_TYPES].sort());
  await expect(world.merchant.events.list({ types: [...HANDLED_TYPES] })).rejects.toThrow('maximum 20');
});
