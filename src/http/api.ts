import swagger from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import { jsonSchemaTransform, jsonSchemaTransformObject, validatorCompiler } from 'fastify-type-provider-zod';
import * as z from 'zod';

import { readVersion } from '../version.ts';
import { sessionCookieName } from './cookies.ts';

const DESCRIPTION = `Accounts, billing and referrals of a subscription app.

Log in at /login to get the session cookie, which authenticates each request. Instants are ISO 8601 in UTC.

An error is {"error": {"code", "message"}}. The code is for programs and does not change; the message is for people. A
browser's form gets a page instead, and Stripe's webhook gets {"error": "…"}.`;

const apiError = z
  .object({
    error: z.object({
      code: z.string().meta({ description: 'For programs: it does not change.' }),
      message: z.string().meta({ description: 'For people: what happened, and what to do.' }),
    }),
  })
  .meta({ id: 'Error' });

const page = z.string();

/** Default description of each error status, for routes that give none of their own. */
const ERRORS: Readonly<Record<number, string>> = {
  400: 'The request cannot be read, or something in it is wrong.',
  401: 'Not logged in.',
  403: 'The request came from another site.',
  404: 'Not found.',
  413: 'The body is too large.',
  415: 'The content type of the body is not supported.',
  429: 'Too many requests. Retry-After says how many seconds to wait.',
  431: 'The request has too many headers.',
  500: 'Something went wrong on our side.',
  503: 'Not possible right now. If there is a Retry-After header, wait that many seconds, then try again.',
};

/** Errors that any page or API route can answer with. */
const ANYWHERE = [400, 403, 413, 415, 429, 431, 500, 503];

/** An answer without a body. */
export function nothing(description: string): z.ZodType {
  return z.null().meta({ description });
}

/** A JSON answer. */
export function json(description: string, schema: z.ZodType): unknown {
  return { description, content: { 'application/json': { schema } } };
}

/**
 * Builds the documented answers of one route.
 *
 * @param own the successful answers, by status
 * @param errors further errors of this route, with a description where the default does not fit
 */
export function answers(
  own: Record<number, unknown>,
  errors: Readonly<Record<number, string | null>> = {},
): Record<number, unknown> {
  const statuses = [...ANYWHERE, ...Object.keys(errors).map(Number)];
  const failures = statuses.map((status) => [
    status,
    {
      description: errors[status] ?? ERRORS[status],
      content: { 'application/json': { schema: apiError }, 'text/html': { schema: page } },
    },
  ]);
  return { ...own, ...Object.fromEntries(failures) } as Record<number, unknown>;
}

/**
 * Describes the API. Every route under /api/ registered after this call appears in `app.swagger()`.
 * The schemas validate requests. Answers are sent without validation or serialisation by schema, so
 * describing them costs nothing at run time; the tests compare every answer with the document.
 */
export async function describeApi(app: FastifyInstance): Promise<void> {
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(() => (answer) => JSON.stringify(answer));
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Tandem', version: readVersion(), description: DESCRIPTION },
      tags: [
        { name: 'Account', description: 'Who is logged in, and what they have.' },
        { name: 'Billing', description: "Redirects to Stripe's pages." },
        { name: 'Backups', description: 'Cloud backups of the portfolio.' },
        { name: 'Stripe', description: 'The webhook that Stripe calls.' },
      ],
      components: {
        securitySchemes: {
          session: {
            type: 'apiKey',
            in: 'cookie',
            name: sessionCookieName(app),
          },
        },
      },
    },
    transform: (route) => {
      if (!route.url.startsWith('/api/')) return { schema: { hide: true }, url: route.url };
      // The root route of a scope is registered with and without a trailing slash; document it once.
      const url = route.url.replace(/\/$/, '');
      return jsonSchemaTransform({ ...route, url });
    },
    transformObject: jsonSchemaTransformObject,
  });
}
