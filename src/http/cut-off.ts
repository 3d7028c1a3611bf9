import type { Socket } from 'node:net';

const listeners = new WeakMap<Socket, () => void>();

/** Calls `listener` once, synchronously, when a client does something costly that no browser or proxy does. */
export function onAbuse(socket: Socket, listener: () => void): void {
  listeners.set(socket, listener);
}

/** Reports abuse on a connection that will be closed after its answer. */
export function noteAbuse(socket: Socket): void {
  const listener = listeners.get(socket);
  listeners.delete(socket);
  listener?.();
}

/** Reports abuse on a connection and closes it. */
export function cutOff(socket: Socket): void {
  noteAbuse(socket);
  socket.destroy();
}
