import { readConfig } from '../../src/config.ts';
import type { CommandContext } from '../../src/operator/command.ts';
import { resetLink } from '../../src/operator/reset-link.ts';
import { PLAIN } from '../../src/terminal.ts';
import { SESSION_SECRET } from './server.ts';
import type { TestServer } from './server.ts';

/** A command's context at the instant of the server's clock. */
export function commandContext(
  { db, clock }: Pick<TestServer, 'db' | 'clock'>,
  env: NodeJS.ProcessEnv = {},
): CommandContext {
  const config = readConfig({ PUBLIC_URL: 'http://tandem.test', ...env });
  return {
    config,
    db,
    migrations: [],
    sessionSecret: SESSION_SECRET,
    stripe: null,
    now: clock.now,
    clock: () => clock.now,
    paint: PLAIN,
  };
}

/** The path of a reset link that an operator makes. */
export async function operatorResetPath(
  server: Pick<TestServer, 'db' | 'clock'>,
  email = 'ann@example.com',
): Promise<string> {
  const { json } = await resetLink(commandContext(server), email);
  return new URL((json as { url: string }).url).pathname;
}
