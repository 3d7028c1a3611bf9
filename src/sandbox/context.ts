import type { SandboxOptions } from './options.ts';
import type { State } from './state.ts';
import type { Price, StripeEvent } from './types.ts';

export interface Context {
  options: SandboxOptions;
  state: State;
  /** The available prices, by id. */
  prices: Map<string, Price>;
  /** The sandbox's URL without a trailing slash; known once it listens. */
  baseUrl: () => string;
  /** Writes the state to its file, if it has one. A failure is only logged, because the state in memory is intact. */
  save: () => void;
  /**
   * Stores events with everything else that changed, and starts delivering them. Never rejects. Resolves when each
   * was tried once, or at once while events are held.
   */
  publish: (events: StripeEvent[]) => Promise<void>;
}
