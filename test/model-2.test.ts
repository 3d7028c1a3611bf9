import { test } from 'vitest';

import { tellStories } from './model/story.ts';

test('in random stories, in any order, the rows stay consistent and reconcile makes them match Stripe (second half)', async () => {
  await tellStories(1);
}, 900_000);

test('the same holds for stories from a new random seed', async () => {
  await tellStories('fresh');
}, 900_000);
