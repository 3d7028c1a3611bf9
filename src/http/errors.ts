import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { isBusyOrUnreachable, isUnreachable } from '../db/transaction.ts';
import { readableStack } from '../readable-stack.ts';
import { sendPage } from './page.ts';

/** An error that is the answer to a request. Its message is shown to the client; its cause is only logged. */
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
 * Answers errors as a page, and as JSON under /api/ unless a browser's form sent the request. Server errors are logged
 * with their stack; the client does not see it.
 */
export function answerErrors(app: FastifyInstance): void {
  app.setErrorHandler((thrown: FastifyError | HttpError, request, reply) => {
    const error = isBusyOrUnreachable(thrown) ? databaseUnavailable(thrown) : thrown;
    const status = error.statusCode ?? 500;
    // A refusal for overload already has its line in the log. A second one would add to the load.
    if (status >= 500 && error.code !== BUSY)
      request.log.error({ err: errorToLog(error) }, 'a request failed');
    if (status === 503 && error.code !== NOT_SET_UP) void reply.header('retry-after', RETRY_AFTER_SECONDS);
    const isOurs = error instanceof HttpError;
    const code = isOurs ? error.code : (CODES[status] ?? (status < 500 ? 'bad_request' : 'internal_error'));
    return answer(request, reply, status, code, isOurs || status < 500 ? error.message : OUR_FAULT);
  });
}

/** The error to log: what caused an HttpError, or else the error itself. */
export function errorToLog(error: unknown): unknown {
  return error instanceof HttpError ? (error.cause ?? error) : error;
}

/** Answers unknown paths with 404. Register it in the scope of `peopleRoutes`, so that the page knows its visitor. */
export function answerNotFound(app: FastifyInstance): void {
  // The message does not repeat the path: otherwise anybody could put words on our page with a link.
  app.setNotFoundHandler(() => {
    throw new HttpError(404, 'not_found', 'There is nothing at this address.');
  });
}

/** Error code of refusals for overload. */
export const BUSY = 'busy';

/** Error code of refusals until an operator sets a variable; trying again does not help. */
export const NOT_SET_UP = 'not_set_up';

/** Value of Retry-After. */
const RETRY_AFTER_SECONDS = '5';

function databaseUnavailable(cause: Error): HttpError {
  if (isUnreachable(cause)) {
    const message = 'Our database is not answering right now. Please try again in a moment.';
    return new HttpError(503, 'database_unavailable', message, { cause });
  }
  const message = 'Our database is too busy right now. Please try again in a moment.';
  return new HttpError(503, 'database_busy', message, { cause });
}

const OUR_FAULT = 'Something went wrong on our side. Please try again in a moment.';

/**
 * Our codes for Fastify's errors, whose own codes may change. Any other status gets `bad_request` below 500 and
 * `internal_error` from 500.
 */
const CODES: Readonly<Record<number, string>> = {
  413: 'too_large',
  415: 'unsupported_media_type',
};

const HEADINGS: Readonly<Record<number, string>> = {
  403: 'Request refused',
  404: 'Not found',
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
  // Nobody is left to read a page, and thousands of bodies can be broken off at the same instant.
  if (request.raw.socket.destroyed) return reply.send();
  if (request.url.startsWith('/api/') && !isBrowsersForm(request))
    return reply.send({ error: { code, message } });
  const heading = HEADINGS[status] ?? (status < 500 ? 'That did not work' : 'Something went wrong');
  return sendPage(request, reply, 'error', { title: heading, status, heading, text: message });
}

/** A browser that submits a form gets a page as the answer; scripts ask for JSON. */
function isBrowsersForm({ headers }: FastifyRequest): boolean {
  const isForm = headers['content-type']?.startsWith('application/x-www-form-urlencoded') ?? false;
  return isForm && (headers.accept?.includes('text/html') ?? false);
}

/** Maximum length of a logged message, characters. */
const MAX_LOGGED = 2_000;

/** A word. One with an @ inside counts as an email address. */
const WORD = /[^\s"'`<>(),;:=]+/g;
const ADDRESS_HIDDEN = '(an address)';

/**
 * Removes email addresses from a message and shortens it. The message can contain anything a client sent, so
 * the regular expressions must not backtrack: a long message would block for hours.
 */
function forLog(message: string): string {
  return message.replaceAll(WORD, (word) => (/.@./.test(word) ? ADDRESS_HIDDEN : word)).slice(0, MAX_LOGGED);
}

function textOf(thrown: unknown): string {
  const isObject = typeof thrown === 'object' && thrown !== null;
  return String(isObject && 'message' in thrown ? thrown.message : thrown);
}

/**
 * What a log line says about an error: name, code, Stripe's request id, message without addresses, stack, and the same
 * for its cause and for each error of an AggregateError. Other properties are left out: a Stripe error carries the
 * request and response, and a Prisma error carries the driver's error with the row in question.
 */
export function errorForLog(error: unknown): unknown {
  if (!(error instanceof Error)) return { message: forLog(textOf(error)) };
  const { name, message, cause } = error;
  const { code, requestId } = error as { code?: unknown; requestId?: unknown };
  return {
    type: name,
    ...(typeof code === 'string' && { code }),
    ...(typeof requestId === 'string' && { requestId }),
    message: forLog(message),
    // The first lines of a stack repeat the message.
    stack: readableStack(error)
      .split('\n')
      .filter((line) => /^\s+at /.test(line))
      .join('\n'),
    ...(cause instanceof Error && { cause: errorForLog(cause) }),
    ...(error instanceof AggregateError && { errors: error.errors.map(errorForLog) }),
  };
}
