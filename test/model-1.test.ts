import { test } from 'vitest';

import { tellStories } from './model/story.ts';

test('whatever happens, in whatever order, the rows are sound and reconcile brings the truth (first half)', async () => {
  await tellStories(0);
}, 900_000);
