import { inject, test } from 'vitest';

import { FIXED_SEEDS, FRESH_SEED, tellStories } from './model/story.ts';

test('whatever happens, in whatever order, the rows are sound and reconcile brings the truth (second half)', async () => {
  await tellStories(FIXED_SEEDS[inject('engine')][1]);
}, 900_000);

test('the same holds of stories that nobody has told yet', async () => {
  await tellStories(FRESH_SEED);
}, 900_000);
