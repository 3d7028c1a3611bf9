import fc from 'fast-check';
import { expect, inject } from 'vitest';

import { hashPassword } from '../../src/accounts/passwords.ts';
import { examine } from '../../src/operations/doctor.ts';
import { PASSWORD } from '../support/server.ts';
import { deliverWaiting, reconcileWorld, startWorld } from '../support/stand-in.ts';
import type { World } from '../support/stand-in.ts';
import { COMMANDS, signUp } from './commands.ts';
import type { Model, Real } from './commands.ts';
import { expectTruth } from './oracle.ts';

/** How many stories a half tells, and the seed of the first half's; PostgreSQL takes several times as long for one. */
const PLANS = { sqlite: { runs: 250, seed: 1 }, postgresql: { runs: 50, seed: 3 } };

/**
 * A card that fails for months is for a person to look at, and so is a customer that Stripe did not know when somebody
 * pressed Upgrade (its deletion may not have been heard of yet): no broken rows.
 */
const FOR_PEOPLE: ReadonlySet<string> = new Set(['past-due', 'known-at-stripe']);

async function expectSound({ db, config, clock }: World): Promise<void> {
  const findings = await examine(db, { clawbackDays: config.clawbackDays, now: clock.now });
  expect(findings.filter(({ check }) => !FOR_PEOPLE.has(check))).toEqual([]);
}

/**
 * Tells random stories of people, money, time and a network that reorders, repeats and loses; after each of them the
 * rows are sound. They say what Stripe's side says once everything has arrived; where something never does, after
 * `reconcile`. A failure prints its seed and its shortest story; to tell that one again, give the seed and the path to
 * `fc.assert` here.
 *
 * @param half which half of the stories; RUNS and SEED in the environment tell others
 */
export async function tellStories(half: 1 | 2): Promise<void> {
  const engine = inject('engine');
  const plan = PLANS[engine];
  const numRuns = Number(process.env['RUNS'] ?? plan.runs);
  const seed = Number(process.env['SEED'] ?? plan.seed + half - 1);
  const passwordHash = await hashPassword(PASSWORD);
  const stories = fc.commands([...COMMANDS], { maxCommands: 40, size: 'max' });
  await fc.assert(
    fc.asyncProperty(stories, fc.constantFrom('0', '0', '3'), async (story, STRIPE_TRIAL_DAYS) => {
      const world = await startWorld({ STRIPE_TRIAL_DAYS });
      try {
        // What survives a power cut is tested elsewhere; here it would only take time.
        if (engine === 'sqlite') await world.db.$queryRaw`PRAGMA synchronous=OFF`;
        const real: Real = { world, people: [], passwordHash, dropped: false };
        // Two friends to begin with: most of what can happen needs them.
        await signUp(real, null);
        await signUp(real, 0);
        const model: Model = {};
        await fc.asyncModelRun(() => ({ model, real }), story);
        await expectSound(world);
        if (!real.dropped) {
          await deliverWaiting(world);
          await expectTruth(world);
        }
        await reconcileWorld(world);
        await expectSound(world);
        await expectTruth(world);
        expect((await reconcileWorld(world)).differences).toEqual([]);
      } finally {
        await world.stop();
      }
    }),
    { numRuns, seed, endOnFailure: false },
  );
}
