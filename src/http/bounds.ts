/**
 * What one client, or many at once, can make the server hold: connections, and bodies that are not all here yet; and when
 * it refuses more work. Times are in ms.
 */
export interface Bounds {
  /**
   * Requests are refused once the event loop comes this late on average over a few seconds, or every request waited this
   * long for its turn.
   */
  delayMs: number;
  /** Open connections. Further ones are closed at once. */
  connections: number;
  /** Of these, from one network address. Behind a proxy: those of one client with a request that is not all here yet. */
  connectionsOfAddress: number;
  /** Requests that wait on one connection for the answer to an earlier one. Browsers and proxies send none. */
  pipelined: number;
  /** Until all headers of a request must be here; a new connection must send them in this time as well. */
  headersMs: number;
  /** Until a whole request must be here, its body included. */
  requestMs: number;
  /** How long a connection may stay open between two requests. */
  idleMs: number;
  /** How long nothing may move on a connection in the middle of a request or its answer. */
  stalledMs: number;
  /** How often it is looked for requests that take too long. */
  checkEveryMs: number;
  webhookBodies: WebhookBodyBounds;
}

/** What is held of webhook bodies before their signatures can be checked, bytes. */
export interface WebhookBodyBounds {
  /** From one network address. */
  ofAddress: number;
  inAll: number;
}

const MIB = 1024 * 1024;

export const BOUNDS: Bounds = {
  delayMs: 1_000,
  connections: 2_000,
  connectionsOfAddress: 500,
  pipelined: 4,
  headersMs: 10_000,
  requestMs: 30_000,
  // Longer than proxies keep theirs (nginx: 60 s), or they would send a request to a connection that ends just now.
  idleMs: 72_000,
  stalledMs: 120_000,
  checkEveryMs: 5_000,
  webhookBodies: { ofAddress: 8 * MIB, inAll: 64 * MIB },
};
