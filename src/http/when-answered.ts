import type { Socket } from 'node:net';

import type { FastifyReply, FastifyRequest } from 'fastify';

/**
 * Calls `then` once, as soon as a request's answer has been sent or its client has gone. Fastify's `onResponse` does
 * not run for a client that leaves first.
 *
 * @param then `wasSent`: whether the answer was sent; otherwise the client left first
 */
export function whenAnswered(
  { raw: { socket } }: FastifyRequest,
  { raw: answer }: FastifyReply,
  then: (wasSent: boolean) => void,
): void {
  let hasEnded = false;
  function end(wasSent: boolean): void {
    if (hasEnded) return;
    hasEnded = true;
    answer.off('finish', sent);
    socket.off('close', left);
    then(wasSent);
  }
  const sent = (): void => {
    // An answer that was only partly sent when the client left finishes, too.
    end(!socket.destroyed);
  };
  const left = (): void => {
    end(false);
  };
  answer.once('finish', sent);
  socket.once('close', left);
  // A connection that is closed already emits no further events.
  if (socket.destroyed) setImmediate(left);
}

/** Whether a client has closed its connection, so that nobody would read an answer. */
export function hasLeft(socket: Socket): boolean {
  return socket.destroyed || socket.readableEnded;
}
