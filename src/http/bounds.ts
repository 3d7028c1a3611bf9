import { HASHES_AT_ONCE } from '../accounts/passwords.ts';

/**
 * Limits on what clients can make the server hold, and when it refuses more work. Times are in ms. A request meets them
 * in this order:
 *
 * 1. open connections, in all, of its network and of its site (`connections.ts`), and how long they may stay idle
 *    (`app.ts`);
 * 2. what its connection and its client can hold: one request, headers (without a proxy), bytes
 *    (`one-client.ts`);
 * 3. overload: the event loop, or every request, is late (`app.ts`);
 * 4. requests under way: of its site, and in all (`requests-under-way.ts`);
 * 5. its turn in the event loop (`turns.ts`);
 * 6. behind a proxy, headers and incomplete requests (`one-client.ts`); for webhooks and backups, the bodies held
 *    (`held-bodies.ts`);
 * 7. once its body has arrived: its site's place (4) again if that has timed out, a place among those that change
 *    something unless it hashes a password, and its turn (5) again;
 * 8. if it hashes a password, once its body has arrived: the limit on such requests (`requests-under-way.ts`), then a
 *    free thread (`accounts/passwords.ts`);
 * 9. if it restores a backup, a place for that (`portfolio.ts`).
 */
export interface Bounds {
  /**
   * Refuse requests once the average event loop delay over a few seconds reaches this, or once every request
   * has waited this long for its turn.
   */
  delayMs: number;
  /** Open connections. Further ones are closed at once, unless another one makes way. */
  connections: number;
  /** Open connections from one network. Not applied behind a proxy. */
  connectionsOfNetwork: number;
  /** Open connections from one site. Not applied behind a proxy. */
  connectionsOfSite: number;
  /**
   * Behind a proxy: incomplete requests. Webhooks and others are counted separately, so that neither can keep the other
   * out. Each holds a connection.
   */
  incomplete: { webhooks: Shares; others: Shares };
  /**
   * Without a proxy, only a connection this old makes way, unless a site has more than its share (see
   * `boundConnections`). Behind one, an incomplete request this old makes way for another: a real one arrives within
   * milliseconds. With or without one, a request that takes longer than this no longer counts as under way; the
   * time that it waits for a place does not count.
   */
  patienceMs: number;
  /** Once its answer is being sent, a request counts as under way for this much longer at most. */
  sendingMs: number;
  /**
   * Refuse a network's connections after this many had to be cut off. This and the next two also apply to a home
   * and a site, at several times the number (`countByClient`). Not applied behind a proxy.
   */
  cutOffsOfNetwork: number;
  /** Refuse a network's connections after this many beyond `connectionsOfNetwork`. Not applied behind a proxy. */
  refusalsOfNetwork: number;
  /**
   * Refuse a network's connections after this many were closed before the answer to their request was sent in full,
   * or within `patienceMs` without having sent a request. Not applied behind a proxy.
   */
  abandonedOfNetwork: number;
  /** How long each of these is counted, from the first one, and how long the network is refused after the last one. */
  shutOutMs: number;
  /**
   * Requests under way, except webhooks, and how many more of one site (`siteOf`) may wait. There is no limit on how
   * many wait in all: refused clients come back at once, which costs more than letting them wait. `inAll` counts those
   * that only read, and those with a body or a password to hash until their body is read. `changing` counts all others,
   * and those with a body once it has arrived, except those that hash a password. Each counts for at most `forMs`.
   * Those that report the server's state are counted separately.
   */
  requests: {
    ofSite: number;
    inAll: number;
    changing: { inAll: number; forMs: number };
    waitingOfSite: number;
  };
  /** Requests that hash a password, once their bodies have arrived, and how many more of all sites may wait. */
  hashing: { ofSite: number; inAll: number; waitingInAll: number };
  /** Headers of a request. */
  headers: number;
  /**
   * Deadline for all headers of a request. A new connection must send its first headers in this time as well.
   */
  headersMs: number;
  /** Deadline for a whole request, body included. */
  requestMs: number;
  /** Keep-alive timeout between two requests, for a proxy and for others. */
  idleMs: { proxy: number; direct: number };
  /** Inactivity timeout in the middle of a request or its answer. */
  stalledMs: number;
  /** A large answer may take this long, plus its size divided by `answerBytesPerSecond`. */
  answerMs: number;
  /** Of an answer before compression. */
  answerBytesPerSecond: number;
  /** How often to check for requests that exceed their deadline. */
  checkEveryMs: number;
  /** Webhook bodies held before their signature can be checked, bytes. */
  webhookBodies: Shares;
  /** Bodies of backups held until their requests are answered, bytes. */
  backupBodies: Shares;
  /** Restores of backups, each held in memory until its client has read it. `ofNetwork` counts those of a site. */
  restores: Shares;
}

/** How much of something one network, and all together, can hold. */
export interface Shares {
  ofNetwork: number;
  inAll: number;
}

const MIB = 1024 * 1024;

export const BOUNDS: Bounds = {
  delayMs: 1_000,
  connections: 2_000,
  connectionsOfNetwork: 200,
  connectionsOfSite: 500,
  incomplete: {
    webhooks: { ofNetwork: 500, inAll: 1_000 },
    others: { ofNetwork: 100, inAll: 700 },
  },
  patienceMs: 1_000,
  sendingMs: 50,
  cutOffsOfNetwork: 10,
  refusalsOfNetwork: 100,
  abandonedOfNetwork: 500,
  shutOutMs: 60_000,
  requests: { ofSite: 12, inAll: 16, changing: { inAll: 6, forMs: 250 }, waitingOfSite: 1_000 },
  // Under way: a few for each thread, so that none is idle between two requests, and no more, because sites do not take
  // turns for the threads.
  // A login under way counts as failed until its password is compared (`tryPassword`): with four of a site, on two servers,
  // people behind one address do not lock each other out.
  hashing: { ofSite: 4, inAll: 4 * HASHES_AT_ONCE, waitingInAll: 500 },
  // Apache's default. Browsers and proxies together send some thirty. https://httpd.apache.org/docs/2.4/mod/core.html
  headers: 100,
  headersMs: 10_000,
  requestMs: 30_000,
  // For a proxy, ours is longer than the proxy's own keep-alive (nginx: 60 s). Otherwise it could send a request on a
  // connection that we are about to close. Without a proxy, it stays at Node's short default, because idle connections
  // could keep everybody else out.
  idleMs: { proxy: 72_000, direct: 5_000 },
  stalledMs: 120_000,
  answerMs: 120_000,
  answerBytesPerSecond: 16 * 1024,
  checkEveryMs: 5_000,
  webhookBodies: { ofNetwork: 8 * MIB, inAll: 64 * MIB },
  backupBodies: { ofNetwork: 2 * MIB, inAll: 16 * MIB },
  restores: { ofNetwork: 8, inAll: 64 },
};
