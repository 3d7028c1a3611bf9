/** Serves sites (`siteOf`) in turn, and the entries of each site in the order in which they came. */
export interface FairQueue<Entry> {
  push: (site: string, entry: Entry) => void;
  /**
   * Takes the next entry.
   *
   * @param mayServe whether a site may be served now; without it, each may
   */
  shift: (mayServe?: (site: string) => boolean) => Entry | undefined;
  /** How many entries of a site wait. */
  waitingOf: (site: string) => number;
  isEmpty: () => boolean;
}

/** Otherwise a few sites with many requests each would make everybody else wait for all of them. */
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
        if (!mayServe(site)) continue;
        const entry = queue.shift();
        queues.delete(site);
        if (queue.length > 0) queues.set(site, queue);
        return entry;
      }
      return undefined;
    },
    waitingOf: (site) => queues.get(site)?.length ?? 0,
    isEmpty: () => queues.size === 0,
  };
}
