/** The senders of this process. */
const listeners = new Set<() => void>();

/**
 * @param listener called after each commit that queued something in the outbox
 * @returns ends that
 */
export function onQueued(listener: () => void): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** Tells the senders of this process that something was queued. Those of other processes find it when they next look. */
export function tellQueued(): void {
  for (const listener of listeners) listener();
}
