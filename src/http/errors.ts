import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { HashingBusy } from '../accounts/passwords.ts';
import { isRefused, isUnreachable } from '../db/transaction.ts';
import { sendPage } from './page.ts';

/**
 * An error that is the answer to a request: its message is told as it is. Its cause is for the log alone.
 */
export class HttpError extends Error {
  override name = 'HttpError';
  readonly statusCode: number;
  readonly code: string;
  constructor(statusCode: number, code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.statusCode = statusCode;
    this.code = code;
  }
}

/**
 * Answers what goes wrong in the words of the place: JSON under /api/, a page elsewhere. A fault of ours is logged with
 * its stack, and told without it.
 *
 * @param app the whole server
 */
export function answerErrors(app: FastifyInstance): void {
  app.setErrorHandler((thrown: FastifyError | HttpError, request, reply) => {
    const error =
      thrown instanceof HashingBusy ? busy(thrown) : isRefused(thrown) ? databaseUnavailable(thrown) : thrown;
    const status = error.statusCode ?? 500;
    // The request's own line tells of a server that is busy: a line more for each would make it busier.
    if (status >= 500 && error.code !== BUSY)
      request.log.error({ err: error.cause ?? error }, 'a request failed');
    if (status === 503) void reply.header('retry-after', RETRY_AFTER_SECONDS);
    const told = status < 500 || error instanceof HttpError ? error : OUR_FAULT;
    return answer(request, reply, status, told.code, told.message);
  });
}

/**
 * Answers an address at which there is nothing with 404. In the people's scope, so that its page knows its visitor.
 *
 * @param app the people's scope
 */
export function answerUnknownAddresses(app: FastifyInstance): void {
  app.setNotFoundHandler((request) => {
    throw new HttpError(404, 'not_found', `There is nothing at ${request.url.split('?')[0] ?? '/'}.`);
  });
}

/** The code of refusals because there is too much to do. */
export const BUSY = 'busy';

/** When it is worth trying again. */
const RETRY_AFTER_SECONDS = '5';

function databaseUnavailable(cause: Error): HttpError {
  if (isUnreachable(cause)) {
    const message = 'Our database does not answer right now. Please try again in a moment.';
    return new HttpError(503, 'database_unavailable', message, { cause });
  }
  const message = 'Our database has too much to do right now. Please try again in a moment.';
  return new HttpError(503, 'database_busy', message, { cause });
}

function busy(cause: Error): HttpError {
  const message = 'Too many people are logging in or signing up right now. Please try again in a moment.';
  return new HttpError(503, BUSY, message, { cause });
}

const OUR_FAULT = {
  code: 'internal_error',
  message: 'Something went wrong on our side, and nothing was changed. Please try again in a moment.',
};

const HEADINGS: Readonly<Record<number, string>> = {
  403: 'This did not come from our site',
  404: 'This page does not exist',
  429: 'Too many requests',
  503: 'Not available right now',
};

function answer(
  request: FastifyRequest,
  reply: FastifyReply,
  status: number,
  code: string,
  message: string,
): FastifyReply {
  void reply.status(status);
  if (request.url.startsWith('/api/') && !isBrowsersForm(request))
    return reply.send({ error: { code: code.toLowerCase(), message } });
  const heading = HEADINGS[status] ?? (status < 500 ? 'This request does not work' : 'Something went wrong');
  return sendPage(request, reply, 'error', { title: heading, status, heading, text: message });
}

/** A form that a browser sends shows its answer as a page; scripts ask for JSON. */
function isBrowsersForm({ headers }: FastifyRequest): boolean {
  const isForm = headers['content-type']?.startsWith('application/x-www-form-urlencoded') ?? false;
  return isForm && (headers.accept?.includes('text/html') ?? false);
}

/** Logged of one message, characters. */
const MAX_LOGGED = 2_000;

/** Whatever could be an address of a person. */
const WORD = /[^\s"'`<>(),;:=]+/g;
const ADDRESS_HIDDEN = '(an address)';

/**
 * A message without the addresses of people, and not too long. It can hold whatever somebody sent us: a search that
 * backtracks would take hours on a long one.
 */
function forLog(message: string): string {
  return message.replaceAll(WORD, (word) => (/.@./.test(word) ? ADDRESS_HIDDEN : word)).slice(0, MAX_LOGGED);
}

/**
 * What a log line says of an error. Not what else hangs on it: an error of Stripe's carries the request and its answer,
 * one of Prisma's the driver's error with the row in question.
 *
 * @param error what was thrown
 * @returns its name, code, message without addresses, place, and the same of what it was caused by
 */
export function errorForLog(error: unknown): unknown {
  if (!(error instanceof Error)) return { message: forLog(String(error)) };
  const { name, message, stack, cause } = error;
  const { code, requestId } = error as { code?: unknown; requestId?: unknown };
  return {
    type: name,
    ...(typeof code === 'string' && { code }),
    ...(typeof requestId === 'string' && { requestId }),
    message: forLog(message),
    // Its first lines are the message once more.
    stack: stack
      ?.split('\n')
      .filter((line) => /^\s+at /.test(line))
      .join('\n'),
    ...(cause instanceof Error && { cause: errorForLog(cause) }),
    ...(error instanceof AggregateError && { errors: error.errors.map(errorForLog) }),
  };
}
