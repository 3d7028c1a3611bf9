import { test } from 'vitest';

import { tellStories } from './model/story.ts';

test('whatever happens, in whatever order, the rows are sound and reconcile brings the truth (first half)', async () => {
  await tellStories(Number(process.env['RUNS'] ?? 250), Number(process.env['SEED'] ?? 1));
}, 900_000);
