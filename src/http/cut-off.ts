import type { Socket } from 'node:net';

const listeners = new WeakMap<Socket, () => void>();

/** Calls `listener` once, synchronously, when a client does something costly that no browser or proxy does. */
export function onAbuse(socket: Socket, listener: () => void): void {
  listeners.set(socket, listener);
}

/**
 * Reports abuse on a connection that will be closed after its answer. Node hands over none of its further requests, and
 * nothing more of the body that it is reading.
 */
export function noteAbuse(socket: Socket): void {
  skipBodies(socket);
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

/** The parts of Node's parser that we need. They are not documented: if one is missing, nothing happens. */
interface WithParser {
  parser?:
    | ({ onIncoming?: () => number; constructor: { kOnBody?: number } } & Record<number, unknown>)
    | null;
}

/**
 * Node reads 64 KiB at a time and hands over thousands of requests in it, even once the connection is destroyed. That
 * takes 0.1 s. Node itself stops like this at an upgrade.
 * https://github.com/nodejs/node/blob/v20.20.2/lib/_http_common.js
 */
function stopParser(socket: Socket & WithParser): void {
  if (socket.parser) socket.parser.onIncoming = () => NO_MORE;
}

/**
 * Likewise, Node hands over thousands of pieces of a body in 64 KiB, which takes 30 ms. Without its callback the parser
 * passes over them.
 */
function skipBodies({ parser }: Socket & WithParser): void {
  const { kOnBody } = parser?.constructor ?? {};
  if (!parser || kOnBody === undefined || parser[kOnBody] === undefined) return;
  const handOver = parser[kOnBody];
  parser[kOnBody] = undefined;
  // By then, what was read is parsed. Node uses the parser again for later connections.
  setImmediate(() => {
    parser[kOnBody] = handOver;
  });
}
