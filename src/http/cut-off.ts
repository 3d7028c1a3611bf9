import type { Socket } from 'node:net';

const listeners = new WeakMap<Socket, () => void>();

/** Calls `listener` once, synchronously, when a client does something costly that no browser or proxy does. */
export function onAbuse(socket: Socket, listener: () => void): void {
  listeners.set(socket, listener);
}

/** Reports abuse on a connection that will be closed after its answer. Node hands over none of its further requests. */
export function noteAbuse(socket: Socket): void {
  stopParser(socket);
  const listener = listeners.get(socket);
  listeners.delete(socket);
  listener?.();
}

/** Reports abuse on a connection and closes it. */
export function cutOff(socket: Socket): void {
  noteAbuse(socket);
  socket.destroy();
}

/** Returned by `onIncoming`, this stops Node's parser: the message has no body, and the connection is upgraded. */
const NO_MORE = 2;

/**
 * Node reads 64 KiB at a time and hands over thousands of requests in it, even once the connection is destroyed. That
 * takes 0.1 s. Node itself stops like this at an upgrade, but does not document it: if `parser` is missing, nothing
 * happens.
 * https://github.com/nodejs/node/blob/v20.20.2/lib/_http_common.js
 */
function stopParser(socket: Socket & { parser?: { onIncoming?: () => number } | null }): void {
  if (socket.parser) socket.parser.onIncoming = () => NO_MORE;
}
