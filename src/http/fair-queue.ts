/** Serves networks in turn, and the entries of each network in the order in which they came. */
export interface FairQueue<Entry> {
  push: (network: string, entry: Entry) => void;
  /**
   * Takes the next entry.
   *
   * @param mayServe whether it is a network's turn; without it, every network's
   */
  shift: (mayServe?: (network: string) => boolean) => Entry | undefined;
  /** How many entries of a network wait. */
  waitingOf: (network: string) => number;
  isEmpty: () => boolean;
}

/** Otherwise a few networks with many requests each would make everybody else wait for all of them. */
export function createFairQueue<Entry>(): FairQueue<Entry> {
  /** The network that was served longest ago comes first. */
  const queues = new Map<string, Entry[]>();
  return {
    push(network, entry) {
      const queue = queues.get(network);
      if (queue) queue.push(entry);
      else queues.set(network, [entry]);
    },
    shift(mayServe = () => true) {
      for (const [network, queue] of queues) {
        if (!mayServe(network)) continue;
        const entry = queue.shift();
        queues.delete(network);
        if (queue.length > 0) queues.set(network, queue);
        return entry;
      }
      return undefined;
    },
    waitingOf: (network) => queues.get(network)?.length ?? 0,
    isEmpty: () => queues.size === 0,
  };
}
