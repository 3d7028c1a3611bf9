import type { Shares } from './bounds.ts';

interface Slot {
  network: string;
  /** When it was taken, by a monotonic clock, ms. */
  since: number;
  /** Closes the connection. */
  drop: () => void;
}

/**
 * Takes a slot for a network. Returns the function that gives it back, or null when the network, or the server as a
 * whole, has none left.
 */
type Take = (network: string, drop: () => void) => (() => void) | null;

/**
 * Limits how many slots are taken. When none is left, the oldest one makes way if it was taken more than `patienceMs`
 * ago: a real request arrives within milliseconds, so slow ones cannot keep it out.
 */
export function createTaker({ ofNetwork, inAll }: Shares, patienceMs: number): Take {
  // The oldest comes first.
  const taken = new Set<Slot>();
  const takenBy = new Map<string, number>();

  function giveBack(slot: Slot): void {
    if (!taken.delete(slot)) return;
    const left = (takenBy.get(slot.network) ?? 1) - 1;
    if (left === 0) takenBy.delete(slot.network);
    else takenBy.set(slot.network, left);
  }

  return (network, drop) => {
    const now = performance.now();
    const isNetworkFull = (takenBy.get(network) ?? 0) >= ofNetwork;
    if (isNetworkFull || taken.size >= inAll) {
      const oldest = [...taken].find((slot) => !isNetworkFull || slot.network === network);
      if (!oldest || now - oldest.since < patienceMs) return null;
      giveBack(oldest);
      oldest.drop();
    }
    const slot = { network, since: now, drop };
    taken.add(slot);
    takenBy.set(network, (takenBy.get(network) ?? 0) + 1);
    return () => {
      giveBack(slot);
    };
  };
}
