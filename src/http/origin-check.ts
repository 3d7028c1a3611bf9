import type { FastifyRequest } from 'fastify';

const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * Whether a request that changes something comes from one of our own pages. A browser says so in Sec-Fetch-Site, an
 * older one in Origin; what sends neither is no browser, and brings no cookie that it was not given on purpose.
 * https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
 *
 * @param request the request
 * @param publicUrl our own origin
 * @returns false when another site's page sent it
 */
export function comesFromUs(request: FastifyRequest, publicUrl: string): boolean {
  if (SAFE_METHODS.has(request.method)) return true;
  const site = request.headers['sec-fetch-site'];
  if (site !== undefined) return site === 'same-origin' || site === 'none';
  const { origin } = request.headers;
  if (origin === undefined) return true;
  if (!URL.canParse(origin)) return false;
  const { host, protocol } = new URL(origin);
  const ours = new URL(publicUrl);
  // Whoever can change what is sent over http must not act on the https site.
  if (ours.protocol === 'https:' && protocol !== 'https:') return false;
  return host === request.headers.host || host === ours.host;
}
