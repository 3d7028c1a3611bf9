import type { SandboxOptions } from './options.ts';
import type { State } from './state.ts';
import type { Price, StripeEvent } from './types.ts';

export interface Context {
  options: SandboxOptions;
  state: State;
  /** The sandbox's clock. All times in objects and signatures come from it. */
  now: () => Date;
  /** The available prices, by id. */
  prices: Map<string, Price>;
  /** The sandbox's URL without a trailing slash. Empty until it listens. */
  baseUrl: () => string;
  /**
   * Writes the state to its file, if it has one. A failure is only logged, because the state in memory is
   * intact.
   */
  save: () => void;
  /**
   * Stores the events and every other change, and starts delivering the events. While webhooks are set to be lost,
   * events are stored but not delivered, unless an API request caused all of them (`request.id` is set). Never rejects.
   * Resolves when each event has been tried once, or at once when nothing is delivered now.
   */
  publish: (events: StripeEvent[]) => Promise<void>;
}
