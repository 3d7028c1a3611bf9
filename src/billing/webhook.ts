import { isUtf8 } from 'node:buffer';

import type { FastifyError, FastifyInstance } from 'fastify';

import { isRefused, isUnreachable } from '../db/transaction.ts';
import { events } from '../metrics.ts';
import type { AppContext } from '../web/context.ts';
import { HttpError } from '../web/errors.ts';
import { eventContextOf, handleEvent } from './handle-event.ts';
import { readEvent, whyNoEvent } from './stripe-shapes/event.ts';
import { isSigned } from './signature.ts';

const BODY_LIMIT_BYTES = 1024 * 1024;

/** So much of a body that is too large is still read, bytes: who is writing it would not see the answer otherwise. */
const DRAIN_LIMIT_BYTES = 16 * BODY_LIMIT_BYTES;

/** So many events are handled at a time. More would wait too long for the database: Stripe sends them again. */
const HANDLED_AT_A_TIME = 256;

/** When a refused one is worth sending again. */
const RETRY_AFTER_SECONDS = '1';

const TOO_MANY = new HttpError(503, 'busy', 'too many events are being handled: send it again');

/**
 * `POST /api/stripe/webhook`: verifies, reads, and hands the event on. No rate limit stands before it: Stripe sends
 * bursts from few addresses. Past a bounded number of events at a time it refuses at once, before it reads the body.
 * https://docs.stripe.com/webhooks
 *
 * @param app a scope of its own, at that address: with and without a slash at its end; bodies are read raw
 * @param context what the server is built from
 */
export function webhookRoute(app: FastifyInstance, context: AppContext): void {
  const { webhookSecrets } = context.config.stripe;
  const eventContext = eventContextOf(context);

  // The signature is over the bytes as they came, whatever they are called: one parser for every type leaves them so. Without
  // a type it takes those, too, whose name Fastify would refuse.
  app.removeAllContentTypeParsers();
  app.addHook('onRequest', function ignoreContentType({ raw }, _reply, done) {
    delete raw.headers['content-type'];
    done();
  });
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => {
    done(null, body);
  });

  app.setErrorHandler(async (error: FastifyError | HttpError, request, reply) => {
    const status = error.statusCode ?? (isRefused(error) ? 503 : 500);
    if (status === 413) await drain(request.raw);
    if (status === 503) void reply.header('retry-after', RETRY_AFTER_SECONDS);
    if (status >= 500 && error !== TOO_MANY) {
      request.log[status === 503 ? 'warn' : 'error'](
        { err: error.cause ?? error },
        'handling a Stripe event failed',
      );
    }
    const told = status < 500 || error instanceof HttpError ? error.message : inWords(error);
    return reply.status(status).send({ error: told });
  });

  // Only an event whose signature is good holds a place: nobody but Stripe can fill them.
  let handling = 0;

  function refused(): HttpError {
    events.inc({ type: 'unknown', outcome: 'refused' });
    return TOO_MANY;
  }

  app.addHook('onRequest', function refuseTooMany(_request, _reply, done) {
    done(handling < HANDLED_AT_A_TIME ? undefined : refused());
  });

  const options = {
    bodyLimit: BODY_LIMIT_BYTES,
    config: { pressureHandler: () => Promise.reject(refused()) },
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
    const json = isUtf8(body) ? parseJson(payload) : undefined;
    const event = readEvent(json, now);
    if (!event) return reply.status(400).send({ error: whyNoEvent(json) });

    // From here on every line of this request's log names the event.
    request.log = request.log.child({ eventId: event.id, type: event.type });
    if (handling >= HANDLED_AT_A_TIME) throw refused();
    handling += 1;
    try {
      const outcome = await handleEvent(eventContext, event, payload, now);
      request.log.info({ outcome: outcome.status }, 'Stripe event');
      return outcome;
    } catch (error) {
      throw isRefused(error) ? error : failed(error);
    } finally {
      handling -= 1;
    }
  });
}

/** What is told of an event that could not be handled. */
function failed(error: unknown): HttpError {
  const message =
    error instanceof AggregateError
      ? 'handling the event failed, and it could not even be recorded; nothing was changed'
      : 'handling the event failed; it is recorded, and nothing else was changed';
  return new HttpError(500, 'event_failed', message, { cause: error });
}

function inWords(error: unknown): string {
  if (isUnreachable(error)) return 'the database cannot be reached: send it again';
  if (isRefused(error)) return 'the database is busy: send it again';
  return 'something went wrong on our side; the event was neither handled nor recorded: send it again';
}

async function drain(body: AsyncIterable<Buffer>): Promise<void> {
  let read = 0;
  for await (const chunk of body) {
    read += chunk.length;
    if (read > DRAIN_LIMIT_BYTES) return;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
