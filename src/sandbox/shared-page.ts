import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { Eta } from 'eta';
import type { FastifyError, FastifyInstance, FastifyReply } from 'fastify';

import { ROOT } from '../root.ts';
import { StripeApiError } from './api-error.ts';
import { causeAt } from './events.ts';
import type { Cause } from './events.ts';
import { formatMoney } from './money.ts';
import type { Context } from './sandbox-context.ts';
import { toEpoch } from './time.ts';
import type { Price } from './types.ts';

/** How long a page waits for webhooks before it redirects the browser, ms. */
const PATIENCE = 1500;

const views = join(ROOT, 'src/sandbox/views');
const stylesheet = readFileSync(`${views}/sandbox.css`, 'utf8');
const eta = new Eta({ views, cache: true });

/** Serves what all pages share: the stylesheet, and what they say when something goes wrong. */
export function serveShared(app: FastifyInstance, context: Context): void {
  app.get('/sandbox.css', (_request, reply) => reply.type('text/css; charset=utf-8').send(stylesheet));

  app.setNotFoundHandler((_request, reply) => sendMessage(reply, 404, 'There is nothing at this address.'));

  app.setErrorHandler<FastifyError | StripeApiError>((error, _request, reply) => {
    const status = error instanceof StripeApiError ? error.status : (error.statusCode ?? 500);
    if (status >= 500) {
      context.options.log(`sandbox: ${error.stack ?? error.message}`);
    }
    return sendMessage(
      reply,
      status,
      status < 500 ? error.message : "Something went wrong in the sandbox. The server's log says what.",
    );
  });
}

/** An action on a page has no API request behind it, so its events name none. */
export function byPerson(context: Context): Cause {
  return causeAt(toEpoch(context.now()));
}

/**
 * Waits for webhooks so that the next page shows their effect, but does not wait for a receiver that hangs.
 */
export async function inTime(delivered: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, PATIENCE);
  });
  await Promise.race([delivered, patience]);
  clearTimeout(timer);
}

export function describePrice(price: Price): string {
  return `${formatMoney(price.unit_amount, price.currency)} a ${price.recurring.interval}`;
}

/** @param epoch epoch seconds */
export function day(epoch: number): string {
  return new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeZone: 'UTC' }).format(epoch * 1000);
}

export function moment(at: Date): string {
  const format = new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' });
  return `${format.format(at)} UTC`;
}

/** Sends a page with one sentence. */
export function sendMessage(reply: FastifyReply, status: number, message: string): FastifyReply {
  return sendPage(reply, status, 'message', [], { title: 'Sandbox', message });
}

/**
 * @param targets addresses that the page's forms may redirect to; browsers check redirects against the CSP
 *   too
 */
export function sendPage(
  reply: FastifyReply,
  status: number,
  view: string,
  targets: readonly string[],
  data: object,
): FastifyReply {
  const origins = targets.map((url) => new URL(url).origin);
  const policy = [
    "default-src 'none'",
    "style-src 'self'",
    "frame-src 'self'",
    `form-action ${["'self'", ...new Set(origins)].join(' ')}`,
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ];
  return reply
    .code(status)
    .type('text/html; charset=utf-8')
    .headers(securityHeaders(policy))
    .send(eta.render(`./${view}`, data));
}

/** @param policy the directives of the Content-Security-Policy */
export function securityHeaders(policy: readonly string[]): Record<string, string> {
  return {
    'content-security-policy': policy.join('; '),
    'cache-control': 'no-store',
    // The address grants access, so the next site must not see it.
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
  };
}
