const listeners = new Set<() => void>();

/**
 * Registers a listener that runs after each commit that queued something in the outbox.
 *
 * @returns a function that removes the listener
 */
export function onQueued(listener: () => void): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** Wakes the senders of this process. Senders in other processes find new items when they next poll. */
export function tellQueued(): void {
  for (const listener of listeners) listener();
}
