import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

import type { FastifyInstance } from 'fastify';

/** Shutdown grace period for requests in flight, ms. */
const ANSWER_MS = 7_000;

/**
 * Makes open connections close when the server does: at once if no request is in flight, the others after their answer
 * or ANSWER_MS. Node itself closes only idle ones that had a request before, and waits for all others: browsers connect
 * in advance, and proxies keep connections open.
 * https://nodejs.org/docs/latest-v20.x/api/http.html#serverclosecallback
 *
 * @param app must not listen yet
 */
export function closeConnectionsWithServer(app: FastifyInstance): void {
  const { server } = app;
  const connections = new Set<Socket>();
  // Weak, because an answer whose client leaves before its turn emits no 'close'.
  const answers = new WeakMap<Socket, ServerResponse>();
  server.on('connection', (socket: Socket) => {
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
  });
  server.prependListener('request', ({ socket }, answer) => {
    answers.set(socket, answer);
    answer.once('close', () => {
      // A client may have sent a further request on the connection.
      if (answers.get(socket) === answer) answers.delete(socket);
    });
  });
  // Runs right before the server stops listening, so no connection slips in between.
  app.addHook('preClose', (done) => {
    for (const socket of connections) {
      const answer = answers.get(socket);
      if (!answer) socket.destroy();
      else if (!answer.headersSent) answer.setHeader('connection', 'close');
    }
    const cut = setTimeout(() => {
      server.closeAllConnections();
    }, ANSWER_MS);
    server.once('close', () => {
      clearTimeout(cut);
    });
    done();
  });
}
