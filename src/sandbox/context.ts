import type { SandboxOptions } from './options.ts';
import type { State } from './state.ts';
import type { Price, StripeEvent } from './types.ts';

/** What every route works with. */
export interface Context {
  options: SandboxOptions;
  state: State;
  /** The prices that exist, by id. */
  prices: Map<string, Price>;
  /** Where the sandbox is, without a trailing slash; known once it listens. */
  baseUrl: () => string;
  /** Writes the state to its file, if it has one; a failure is logged, for the state in memory is still good. */
  save: () => void;
  /**
   * Stores events, and all else that changed, and starts to deliver them. Resolves, and never rejects, when each
   * was tried once, or at once while events are held.
   */
  publish: (events: StripeEvent[]) => Promise<void>;
}
