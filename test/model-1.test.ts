import { inject, test } from 'vitest';

import { FIXED_SEEDS, tellStories } from './model/story.ts';

test('whatever happens, in whatever order, the rows are sound and reconcile brings the truth (first half)', async () => {
  await tellStories(FIXED_SEEDS[inject('engine')][0]);
}, 900_000);
