import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

import type { FastifyReply, FastifyRequest } from 'fastify';

const LISTENERS = 30;

/**
 * Calls `then` once, as soon as a request's answer has been sent or its client has gone. Fastify's `onResponse` does
 * not run for a client that leaves first.
 *
 * @param then `wasSent`: whether the answer was sent; otherwise the client left first
 */
export function whenAnswered(
  { raw: request }: FastifyRequest,
  { raw: answer }: FastifyReply,
  then: (wasSent: boolean) => void,
): void {
  const { socket } = request;
  // For an export, a dozen listeners wait for the end of the request. Node would warn of a leak.
  socket.setMaxListeners(LISTENERS);
  answer.setMaxListeners(LISTENERS);
  let hasEnded = false;
  function end(wasSent: boolean): void {
    if (hasEnded) return;
    hasEnded = true;
    answer.off('finish', sent);
    socket.off('close', left);
    then(wasSent);
  }
  const sent = (): void => {
    end(wasSentInFull(request));
  };
  const left = (): void => {
    end(false);
  };
  answer.once('finish', sent);
  socket.once('close', left);
  // A connection that is closed already emits no further events.
  if (socket.destroyed) setImmediate(left);
}

/**
 * Whether an answer was sent in full. Call it when the answer emits 'finish', which it also does if the client left in
 * the middle of it.
 */
export function wasSentInFull({ socket }: IncomingMessage): boolean {
  return !socket.destroyed;
}

/** Whether a client has closed its connection, so that nobody would read an answer. */
export function hasLeft(socket: Socket): boolean {
  return socket.destroyed || socket.readableEnded;
}
