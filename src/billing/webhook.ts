import type { FastifyInstance } from 'fastify';

import { isRefused } from '../db/transaction.ts';
import type { AppContext } from '../web/context.ts';
import { eventContextOf, handleEvent } from './handle-event.ts';
import { readEvent } from './stripe-shapes/event.ts';
import { isSigned } from './signature.ts';

const BODY_LIMIT_BYTES = 1024 * 1024;

/** So much of a body that is too large is still read, bytes: who is writing it would not see the answer otherwise. */
const DRAIN_LIMIT_BYTES = 16 * BODY_LIMIT_BYTES;

/**
 * `POST /api/stripe/webhook`: verifies, reads, and hands the event on. No rate limit stands before it: Stripe sends
 * bursts from few addresses. https://docs.stripe.com/webhooks
 *
 * @param app a scope of its own: its bodies are read raw
 * @param context what the server is built from
 */
export function webhookRoute(app: FastifyInstance, context: AppContext): void {
  const { webhookSecrets } = context.config.stripe;
  const eventContext = eventContextOf(context);

  // The signature is over the bytes as they came; a parser for every type leaves them so.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => {
    done(null, body);
  });

  app.setErrorHandler(async (error: { statusCode?: number; message: string }, request, reply) => {
    const status = error.statusCode ?? 500;
    if (status === 413) await drain(request.raw);
    if (status < 500) return reply.status(status).send({ error: error.message });
    request.log.error({ err: error }, 'handling a Stripe event failed');
    if (isRefused(error))
      return reply.status(503).header('retry-after', '1').send({ error: 'busy, send it again' });
    return reply
      .status(500)
      .send({ error: 'handling the event failed; it is recorded, and nothing else was changed' });
  });

  app.post('/api/stripe/webhook', { bodyLimit: BODY_LIMIT_BYTES }, async (request, reply) => {
    if (webhookSecrets.length === 0)
      return reply.status(503).send({ error: 'STRIPE_WEBHOOK_SECRET is not set' });
    const now = context.now();
    const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
    if (!isSigned(body, request.headers['stripe-signature'], webhookSecrets, now)) {
      return reply.status(400).send({ error: 'the signature is missing, wrong or older than 300 s' });
    }
    const payload = body.toString('utf8');
    const event = readEvent(parseJson(payload), now);
    if (!event)
      return reply
        .status(400)
        .send({ error: 'the body is no event: it wants an id, a type and data.object' });

    const outcome = await handleEvent(eventContext, event, payload, now);
    request.log.info({ eventId: event.id, type: event.type, outcome: outcome.status }, 'Stripe event');
    return outcome;
  });
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
