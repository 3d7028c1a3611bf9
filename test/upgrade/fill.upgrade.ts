import fc from 'fast-check';
import { test } from 'vitest';

import { addPerson, COMMANDS } from '../model/commands.ts';
import type { Real } from '../model/commands.ts';
import { deliverWaiting, startWorld } from '../support/stand-in.ts';

const databases = JSON.parse(process.env['UPGRADE_DATABASES'] ?? '[]') as string[];
const seed = Number(process.env['UPGRADE_SEED']);

test('random stories fill the databases', async () => {
  const commands = fc.commands([...COMMANDS], { maxCommands: 60, size: 'max' });
  const stories = fc.sample(commands, { numRuns: databases.length, seed });
  for (const [index, databaseUrl] of databases.entries()) {
    const world = await startWorld({
      DATABASE_URL: databaseUrl,
      STRIPE_TRIAL_DAYS: index % 3 === 0 ? '3' : '0',
    });
    const real: Real = { world, people: [], dropped: false, book: null };
    await addPerson(real, null);
    await addPerson(real, 0);
    await fc.asyncModelRun(() => ({ model: {}, real }), stories[index] ?? []);
    if (!real.dropped) await deliverWaiting(world);
    await world.stop();
  }
});
