import { expect } from 'vitest';

import type { Finding } from '../../src/operator/doctor.ts';
import { examine } from '../../src/operator/doctor.ts';
import type { TestServer } from './server.ts';

type Examined = Pick<TestServer, 'db' | 'config' | 'clock'>;

/** What `doctor` finds at the instant of the server's clock. */
export function findings({ db, config, clock }: Examined): Promise<Finding[]> {
  return examine(db, { clawbackDays: config.clawbackDays, now: clock.now });
}

/** Expects every invariant that `doctor` checks to hold. */
export async function expectSound(server: Examined): Promise<void> {
  expect(await findings(server)).toEqual([]);
}
