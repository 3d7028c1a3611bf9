import { test } from 'vitest';

import { tellStories } from './model/story.ts';

test('whatever happens, in any order, the rows are sound, and reconcile brings them in line with Stripe (second half)', async () => {
  await tellStories(1);
}, 900_000);

test('the same holds for new random stories', async () => {
  await tellStories('fresh');
}, 900_000);
