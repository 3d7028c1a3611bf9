import { sandboxClient, startTestSandbox } from './sandbox.ts';
import { START } from './server.ts';

export type HeldSandbox = Awaited<ReturnType<typeof startHeldSandbox>>;

/** A sandbox on its own, with held events and a clock that the test moves. */
export async function startHeldSandbox(extra: { stateFile?: string } = {}, now = START) {
  const clock = { now };
  const sandbox = await startTestSandbox({ now: () => clock.now, ...extra });
  sandbox.webhooks.hold();
  const stripe = sandboxClient(sandbox);
  let seen = 0;

  /** The events since the last call. */
  function fresh() {
    const all = [...sandbox.objects.events.values()];
    const events = all.slice(seen);
    seen = all.length;
    return events;
  }

  /** Their types, in alphabetical order. */
  function told() {
    return fresh()
      .map((event) => event.type)
      .sort();
  }

  function later(seconds: number) {
    clock.now = new Date(clock.now.getTime() + seconds * 1000);
  }

  return { stripe, ...sandbox, fresh, told, later };
}
