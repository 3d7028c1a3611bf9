import { BlockList } from 'node:net';

import type { FastifyInstance, FastifyRequest } from 'fastify';
import { collectDefaultMetrics } from 'prom-client';

import { bareHost } from '../bare-host.ts';
import { isLoopback } from '../config.ts';
import { registry } from '../metrics.ts';
import { EVEN_UNDER_PRESSURE } from './health.ts';

/** Headers that a proxy sets or passes on. */
const FORWARDED = /^(via|forwarded|x-forwarded.*|x-original-.*|x-real-ip|.*client-ip|.*connecting-ip)$/;

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

// Process metrics: event loop, memory, garbage collection. They keep the names that dashboards know.
collectDefaultMetrics({ register: registry });

/** `GET /metrics`, for Prometheus on this machine. Everyone else gets 404. */
export function metricsRoute(app: FastifyInstance): void {
  app.get('/metrics', EVEN_UNDER_PRESSURE, async (request, reply) => {
    if (!comesFromThisMachine(request)) {
      reply.callNotFound();
      return reply;
    }
    return reply.type(registry.contentType).send(await registry.metrics());
  });
}

/**
 * A local proxy also connects from loopback, so refuse requests with a header that proxies set, and requests whose Host
 * is not this machine. TRUST_PROXY is ignored: even a trusted proxy can pass on an address that its client made up.
 * nginx with its default headers cannot be told from a local client: it sets no such header and sends the upstream's
 * address as Host. docs/running.md therefore blocks the path in the proxy as well.
 */
function comesFromThisMachine({ headers, socket }: FastifyRequest): boolean {
  if (Object.keys(headers).some((name) => FORWARDED.test(name))) return false;
  return isLoopbackAddress(socket.remoteAddress ?? '') && isThisMachine(headers.host ?? '');
}

function isThisMachine(host: string): boolean {
  const url = `http://${host}`;
  if (!URL.canParse(url)) return false;
  return isLoopback(bareHost(url));
}

function isLoopbackAddress(address: string): boolean {
  return LOOPBACK.check(address, address.includes(':') ? 'ipv6' : 'ipv4');
}
