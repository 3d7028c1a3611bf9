import { BlockList } from 'node:net';

import type { FastifyInstance, FastifyRequest } from 'fastify';
import { collectDefaultMetrics } from 'prom-client';

import { registry } from '../metrics.ts';
import type { AppContext } from '../web/context.ts';
import { EVEN_UNDER_PRESSURE } from './health.ts';

/** What a proxy says of whom it stands in for. */
const FORWARDING_HEADERS = ['x-forwarded-for', 'x-forwarded-host', 'x-real-ip', 'forwarded', 'via'];

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

// The process itself: event loop, memory, garbage collection. They keep the names that dashboards know.
collectDefaultMetrics({ register: registry });

/**
 * `GET /metrics`, for Prometheus on this machine. To anybody else there is nothing here.
 *
 * @param app the whole server
 * @param context what the server is built from
 */
export function metricsRoute(app: FastifyInstance, { config }: AppContext): void {
  app.get('/metrics', EVEN_UNDER_PRESSURE, async (request, reply) => {
    if (!comesFromThisMachine(request, config.trustProxy.length > 0)) {
      reply.callNotFound();
      return reply;
    }
    return reply.type(registry.contentType).send(await registry.metrics());
  });
}

/** A proxy on this machine connects from it, too: what it forwards counts only if TRUST_PROXY says whom to believe. */
function comesFromThisMachine(request: FastifyRequest, proxyTrusted: boolean): boolean {
  const { headers, ip, socket } = request;
  const forwarded = FORWARDING_HEADERS.some((name) => headers[name] !== undefined);
  const believed = proxyTrusted && headers['x-forwarded-for'] !== undefined;
  return isLoopback(socket.remoteAddress ?? '') && isLoopback(ip) && (!forwarded || believed);
}

function isLoopback(address: string): boolean {
  return LOOPBACK.check(address, address.includes(':') ? 'ipv6' : 'ipv4');
}
