import type { IncomingMessage } from 'node:http';

import type { FastifyError, FastifyInstance, FastifyRequest } from 'fastify';
import * as z from 'zod';

import { isBusyOrUnreachable, isUnreachable } from '../db/transaction.ts';
import { events } from '../metrics.ts';
import { eventContextOf, handleEvent } from '../stripe/handle-event.ts';
import { readEvent, whyNotAnEvent } from '../stripe/objects/event.ts';
import { isSigned } from '../stripe/signature.ts';
import { json } from './api.ts';
import type { Shares } from './bounds.ts';
import type { AppContext } from './context.ts';
import { BUSY, errorToLog, HttpError } from './errors.ts';
import { createBodyReader } from './held-bodies.ts';
import { networkOf } from './network.ts';
import { drainBody } from './read-body.ts';
import type { TakeTurn } from './requests-under-way.ts';

/** Drain this much of a refused body before answering, bytes; otherwise the client never sees the answer. */
const DRAIN_LIMIT_BYTES = 16 * 1024 * 1024;

/** Stripe's events are far smaller. */
const BODY_LIMIT_BYTES = 1024 * 1024;

/** Concurrent events. More would wait too long for the database; they are refused and Stripe retries them. */
const HANDLED_AT_A_TIME = 256;

/** Value of Retry-After. */
const RETRY_AFTER_SECONDS = '1';

const TOO_LARGE = new HttpError(413, 'too_large', 'the body is larger than 1 MiB');
const TOO_MANY = new HttpError(503, BUSY, 'too many events are being handled: send this event again');
const OVERLOADED = new HttpError(503, BUSY, 'the server is overloaded: send this event again');
const TOO_MUCH = new HttpError(503, BUSY, 'too many event bodies are being received: send this event again');

const webhookError = z.object({ error: z.string() }).meta({ id: 'WebhookError' });

const WEBHOOK = {
  tags: ['Stripe'],
  summary: "Stripe's webhook",
  description:
    'Takes a signed event. The path may end with a slash. It answers 200 once the event is on disk. After ' +
    'any other answer, Stripe sends the event again.',
  headers: z.object({ 'stripe-signature': z.string().meta({ description: 'At most 300 s old.' }) }),
  body: z
    .looseObject({
      id: z.string(),
      type: z.string(),
      created: z.int().optional().meta({ description: 'Seconds since 1970.' }),
      livemode: z.boolean().optional(),
      data: z.looseObject({ object: z.looseObject({}) }),
    })
    .meta({ description: 'A Stripe event.' }),
  response: {
    200: json(
      'Applied now, applied before, or ignored because it changes nothing.',
      z.union([
        z.object({ status: z.enum(['ok', 'duplicate']) }),
        z.object({ status: z.literal('ignored'), reason: z.string() }),
      ]),
    ),
    400: json('The signature is missing, wrong or too old, or the body is not an event.', webhookError),
    413: json('The body is larger than 1 MiB.', webhookError),
    431: json('The request has too many headers.', webhookError),
    500: json(
      'Handling the event failed. Nothing is kept except, if possible, the event and its error.',
      webhookError,
    ),
    503: json(
      'No secret is set, the database is not available, or there is too much to do. If there is a Retry-After header, send the event again after that many seconds.',
      webhookError,
    ),
  },
};

/**
 * `POST /api/stripe/webhook`: reads the body, verifies the signature and hands the event on.
 * There is no rate limit: Stripe sends bursts from few addresses. Instead, concurrent events and the memory
 * for unverified bodies are bounded. When too many events are in progress it refuses at once, before reading
 * the body.
 * https://docs.stripe.com/webhooks
 *
 * @param app a scope of its own at that path, with and without a trailing slash; bodies are read raw
 * @param takeTurn called once the body has arrived, so that many bodies completed at the same instant are not all verified
 *   in one turn
 */
export function webhookRoute(
  app: FastifyInstance,
  context: AppContext,
  bodyBounds: Shares,
  takeTurn: TakeTurn,
): void {
  const { webhookSecrets } = context.config.stripe;
  const eventContext = eventContextOf(context);

  // The signature covers the raw bytes, whatever their content type, so one parser takes every type
  // unchanged. The header is removed because Fastify would refuse a malformed one.
  app.removeAllContentTypeParsers();
  app.addHook('onRequest', function ignoreContentType({ raw }, _reply, done) {
    delete raw.headers['content-type'];
    done();
  });
  const readBody = createBodyReader(bodyBounds, { bytes: BODY_LIMIT_BYTES, error: TOO_LARGE }, TOO_MUCH);
  app.addContentTypeParser('*', async (request: FastifyRequest, payload: IncomingMessage) => {
    const { body, release } = await readBody(networkOf(request.ip), payload);
    await new Promise<void>((resolve) => {
      takeTurn(request, resolve, resolve);
    });
    release();
    return body;
  });

  app.setErrorHandler(async (error: FastifyError | HttpError, request, reply) => {
    const status = error.statusCode ?? (isBusyOrUnreachable(error) ? 503 : 500);
    if (status === 413 || error === TOO_MUCH) await drainBody(request.raw, DRAIN_LIMIT_BYTES);
    if (status === 503) void reply.header('retry-after', RETRY_AFTER_SECONDS);
    if (error.code === BUSY) events.inc({ type: 'unknown', outcome: 'refused' });
    // A refusal for overload already has its request line.
    if (status >= 500 && error.code !== BUSY) {
      request.log[status === 503 ? 'warn' : 'error'](
        { err: errorToLog(error) },
        'handling a Stripe event failed',
      );
    }
    const told = status < 500 || error instanceof HttpError ? error.message : inWords(error);
    return reply.status(status).send({ error: told });
  });

  // Only an event with a valid signature takes a slot, so nobody but Stripe can fill them.
  let handling = 0;

  app.addHook('onRequest', function refuseTooMany(_request, _reply, done) {
    done(handling < HANDLED_AT_A_TIME ? undefined : TOO_MANY);
  });

  const options = {
    schema: WEBHOOK,
    // The schema is documentation only: the body is checked after its signature is verified.
    validatorCompiler: () => () => true,
    config: { pressureHandler: () => Promise.reject(OVERLOADED) },
  };
  app.post('/', options, async (request, reply) => {
    if (webhookSecrets.length === 0)
      return reply.status(503).send({ error: 'STRIPE_WEBHOOK_SECRET is not set' });
    const now = context.now();
    const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
    if (!isSigned(body, request.headers['stripe-signature'], webhookSecrets, now)) {
      return reply.status(400).send({ error: 'the signature is missing, wrong or older than 300 s' });
    }
    const payload = body.toString('utf8');
    const parsed = parseJson(payload);
    const event = readEvent(parsed, now);
    if (!event) return reply.status(400).send({ error: whyNotAnEvent(parsed) });

    // From here on every log line of this request names the event.
    request.log = request.log.child({ eventId: event.id, type: event.type });
    if (handling >= HANDLED_AT_A_TIME) throw TOO_MANY;
    handling += 1;
    try {
      const outcome = await handleEvent(eventContext, event, payload, now);
      request.log.info({ outcome: outcome.status }, 'Stripe event');
      return outcome;
    } catch (error) {
      throw isBusyOrUnreachable(error) ? error : failed(error);
    } finally {
      handling -= 1;
    }
  });
}

/** The answer for an event that could not be handled. */
function failed(error: unknown): HttpError {
  const message =
    error instanceof AggregateError
      ? 'handling the event failed, and it could not even be recorded; nothing was changed'
      : 'handling the event failed; it is recorded, and nothing else was changed';
  return new HttpError(500, 'event_failed', message, { cause: error });
}

function inWords(error: unknown): string {
  if (isUnreachable(error)) return 'the database cannot be reached: send this event again';
  if (isBusyOrUnreachable(error)) return 'the database is busy: send this event again';
  return 'something went wrong on our side; the event was neither handled nor recorded: send this event again';
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
