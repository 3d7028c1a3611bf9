import type { ServerResponse } from 'node:http';

import type { FastifyReply, FastifyRequest } from 'fastify';

/** @param wasSent whether the answer was sent; otherwise the client left first */
type Then = (wasSent: boolean) => void;

const waiting = new WeakMap<ServerResponse, Then[]>();

/**
 * Calls `then` once, as soon as a request's answer has been sent or its client has gone. Fastify's `onResponse` does not
 * run for a client that leaves first, and a pipelined answer may never get the connection. Call it before the answer has
 * ended. All calls for one answer share a pair of listeners: pipelined answers share a socket, and Node warns of a leak
 * from the eleventh listener on.
 */
export function whenAnswered(
  { raw: { socket } }: FastifyRequest,
  { raw: answer }: FastifyReply,
  then: Then,
): void {
  const others = waiting.get(answer);
  if (others) {
    others.push(then);
    return;
  }
  waiting.set(answer, [then]);
  function end(wasSent: boolean): void {
    answer.off('finish', sent);
    socket.off('close', left);
    const all = waiting.get(answer) ?? [];
    waiting.delete(answer);
    for (const one of all) one(wasSent);
  }
  const sent = (): void => {
    end(true);
  };
  const left = (): void => {
    end(false);
  };
  answer.once('finish', sent);
  socket.once('close', left);
  // A connection that is closed already emits no further events.
  if (socket.destroyed) setImmediate(left);
}
