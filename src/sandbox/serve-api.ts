import type { FastifyError, FastifyInstance, FastifyRequest } from 'fastify';

import { StripeApiError } from './api-error.ts';
import { expand } from './expand.ts';
import { answerOnce } from './idempotency.ts';
import { asParams, readText } from './params.ts';
import type { Call, Routes } from './routes/routes.ts';
import { serveCheckout } from './routes/serve-checkout.ts';
import { serveCustomers } from './routes/serve-customers.ts';
import { serveEvents } from './routes/serve-events.ts';
import { servePayments } from './routes/serve-payments.ts';
import { serveSubscriptions } from './routes/serve-subscriptions.ts';
import type { Context } from './sandbox-context.ts';
import { toEpoch } from './time.ts';

/**
 * Serves the part of Stripe's API that a subscription business needs. It checks the parameters it knows and
 * ignores all others. See https://docs.stripe.com/api
 *
 * @param app a Fastify scope mounted at `/v1`, with bodies and queries parsed by qs
 */
export function serveApi(app: FastifyInstance, context: Context): void {
  const { options, state, now } = context;

  app.addHook('onRequest', (request, reply, done) => {
    reply.header('request-id', request.id);
    const version = request.headers['stripe-version'];
    if (version !== undefined) {
      reply.header('stripe-version', version);
    }
    if (!isAuthorized(request.headers.authorization, options.apiKey)) {
      throw new StripeApiError(401, {
        type: 'invalid_request_error',
        message: 'Invalid API Key provided. The sandbox accepts only the key it was started with.',
      });
    }
    done();
  });

  app.setErrorHandler<FastifyError | StripeApiError>((error, _request, reply) => {
    if (error instanceof StripeApiError) {
      return reply.code(error.status).send({ error: error.details });
    }
    const status = error.statusCode ?? 500;
    if (status >= 500) {
      options.log(`sandbox: ${error.stack ?? error.message}`);
    }
    const type = status < 500 ? 'invalid_request_error' : 'api_error';
    return reply.code(status).send({ error: { type, message: error.message } });
  });

  app.setNotFoundHandler((request) => {
    throw new StripeApiError(404, {
      type: 'invalid_request_error',
      message: `Unrecognized request URL (${request.method}: ${request.url}).`,
    });
  });

  function call(request: FastifyRequest): Call {
    const key = request.headers['idempotency-key'];
    return {
      id: readText(asParams(request.params), 'id') ?? '',
      params: asParams(request.method === 'POST' ? request.body : request.query),
      cause: {
        at: toEpoch(now()),
        requestId: request.id,
        idempotencyKey: typeof key === 'string' && request.method === 'POST' ? key : null,
      },
    };
  }

  const routes: Routes = {
    get(path, answer) {
      app.get(path, (request) => {
        const one = call(request);
        return Promise.resolve(expand(state, answer(one), one.params));
      });
    },
    del(path, answer) {
      app.delete(path, (request) => {
        const one = call(request);
        return Promise.resolve(expand(state, answer(one), one.params));
      });
    },
    post(path, act) {
      app.post(path, (request, reply) => {
        const one = call(request);
        const { at, idempotencyKey } = one.cause;
        if (idempotencyKey === null) {
          return reply.send(expand(state, act(one), one.params));
        }
        const keyed = { key: idempotencyKey, path: request.url, params: one.params, at };
        const { body, replayed } = answerOnce(state, keyed, () => expand(state, act(one), one.params));
        context.save();
        if (replayed) {
          reply.header('idempotent-replayed', 'true');
        }
        return reply.header('idempotency-key', idempotencyKey).send(body);
      });
    },
  };

  serveCustomers(routes, context);
  serveCheckout(routes, context);
  serveSubscriptions(routes, context);
  servePayments(routes, context);
  serveEvents(routes, context);
}

/** Accepts Bearer, or Basic with the key as the user name: https://docs.stripe.com/api/authentication */
function isAuthorized(header: string | undefined, apiKey: string): boolean {
  const basic = Buffer.from(`${apiKey}:`).toString('base64');
  return header === `Bearer ${apiKey}` || header === `Basic ${basic}`;
}
