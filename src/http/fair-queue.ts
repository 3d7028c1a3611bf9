/** Serves sites (`siteOf`) in turn, and the entries of each site in the order in which they came. */
export interface FairQueue<Entry> {
  push: (site: string, entry: Entry) => void;
  /**
   * Takes the next entry.
   *
   * @param mayServe whether a site's next entry may be served now; without it, each may
   */
  shift: (mayServe?: (entry: Entry) => boolean) => Entry | undefined;
  /**
   * Removes and returns the newest entry of the site that has the most, if that has more than `count`.
   */
  popOfLargest: (count: number) => Entry | undefined;
  /** How many entries of a site wait. */
  waitingOf: (site: string) => number;
  /** How many entries wait in all. */
  size: () => number;
}

/** Without turns, everybody would wait behind all the requests of a few busy sites. */
export function createFairQueue<Entry>(): FairQueue<Entry> {
  /** The site that was served longest ago comes first. */
  const queues = new Map<string, Entry[]>();
  let size = 0;
  return {
    push(site, entry) {
      size += 1;
      const queue = queues.get(site);
      if (queue) queue.push(entry);
      else queues.set(site, [entry]);
    },
    shift(mayServe = () => true) {
      for (const [site, queue] of queues) {
        const [next] = queue;
        if (next === undefined || !mayServe(next)) continue;
        size -= 1;
        queue.shift();
        queues.delete(site);
        if (queue.length > 0) queues.set(site, queue);
        return next;
      }
      return undefined;
    },
    popOfLargest(count) {
      let largest: Entry[] = [];
      for (const queue of queues.values()) if (queue.length > largest.length) largest = queue;
      if (largest.length <= count) return undefined;
      size -= 1;
      return largest.pop();
    },
    waitingOf: (site) => queues.get(site)?.length ?? 0,
    size: () => size,
  };
}
