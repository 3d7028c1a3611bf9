/** Serves sites (`siteOf`) in turn, and the entries of each site in the order in which they came. */
export interface FairQueue<Entry> {
  push: (site: string, entry: Entry) => void;
  /**
   * Takes the next entry.
   *
   * @param mayServe whether a site's next entry may be served now; without it, each may
   */
  shift: (mayServe?: (entry: Entry) => boolean) => Entry | undefined;
  /** How many entries of a site wait. */
  waitingOf: (site: string) => number;
  isEmpty: () => boolean;
}

/** Without turns, everybody would wait behind all the requests of a few busy sites. */
export function createFairQueue<Entry>(): FairQueue<Entry> {
  /** The site that was served longest ago comes first. */
  const queues = new Map<string, Entry[]>();
  return {
    push(site, entry) {
      const queue = queues.get(site);
      if (queue) queue.push(entry);
      else queues.set(site, [entry]);
    },
    shift(mayServe = () => true) {
      for (const [site, queue] of queues) {
        const [next] = queue;
        if (next === undefined || !mayServe(next)) continue;
        queue.shift();
        queues.delete(site);
        if (queue.length > 0) queues.set(site, queue);
        return next;
      }
      return undefined;
    },
    waitingOf: (site) => queues.get(site)?.length ?? 0,
    isEmpty: () => queues.size === 0,
  };
}
