import { test } from 'vitest';

import { tellStories } from './model/story.ts';

test('whatever happens, in whatever order, the rows are sound and reconcile brings the truth (second half)', async () => {
  await tellStories(1);
}, 900_000);

test('the same holds of stories that nobody has told yet', async () => {
  await tellStories('fresh');
}, 900_000);
