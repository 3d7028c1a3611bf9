import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import swagger from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import { jsonSchemaTransform, jsonSchemaTransformObject, validatorCompiler } from 'fastify-type-provider-zod';
import * as z from 'zod';

import { ROOT } from '../root.ts';

const DESCRIPTION = `Accounts, billing and referrals of a subscription app.

The session cookie, which logging in at /login sets, says whose request it is. Instants are ISO 8601 in UTC.

An error is {"error": {"code", "message"}}. The code is for programs and does not change; the message is for people. A
browser's form gets a page instead.`;

const apiError = z
  .object({
    error: z.object({
      code: z.string().meta({ description: 'For programs: it stays as it is.' }),
      message: z.string().meta({ description: 'For people: what happened, and what to do.' }),
    }),
  })
  .meta({ id: 'Error' });

const page = z.string();

/** What an error of a route of people means, where the route does not say it in its own words. */
const ERRORS: Readonly<Record<number, string>> = {
  400: 'The request cannot be read, or something in it is wrong.',
  401: 'Nobody is logged in.',
  403: 'A page of another site sent this.',
  404: 'There is no such thing.',
  413: 'The body is too large.',
  415: 'The body is of a type that is not read here.',
  429: 'Asked for too often. Retry-After says how many seconds to wait.',
  500: 'Something went wrong on our side, and nothing was changed.',
  503: 'Not possible right now. Try again after the seconds in Retry-After, where there is one.',
};

/** What any route of people can answer. */
const ANYWHERE = [400, 403, 413, 415, 429, 500, 503];

/** An answer without a body. */
export function nothing(description: string): z.ZodType {
  return z.null().meta({ description });
}

/** An answer that is a JSON document. */
export function json(description: string, schema: z.ZodType): unknown {
  return { description, content: { 'application/json': { schema } } };
}

/**
 * The answers of a route of people.
 *
 * @param own those that are no errors, by their status
 * @param errors the errors that not every route has, with what each means where it is special
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
 * Describes the API: from here on every route under /api/ is in the document that `app.swagger()` returns, as its schemas
 * say. Requests are checked by them; answers are sent as they are, so that a description costs nothing and changes nothing.
 * The tests compare every answer with the document.
 *
 * @param app the whole server, before its routes
 */
export async function describeApi(app: FastifyInstance): Promise<void> {
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(() => (answer) => JSON.stringify(answer));
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Tandem', version, description: DESCRIPTION },
      tags: [
        { name: 'Account', description: 'Who is logged in, and what they have.' },
        { name: 'Billing', description: "The ways to Stripe's pages." },
        { name: 'Backups', description: 'Cloud backups of the portfolio.' },
        { name: 'Stripe', description: 'What Stripe calls.' },
      ],
      components: {
        securitySchemes: {
          session: {
            type: 'apiKey',
            in: 'cookie',
            name: app.secureCookies ? '__Host-tandem_session' : 'tandem_session',
          },
        },
      },
    },
    transform: (route) => {
      if (!route.url.startsWith('/api/')) return { schema: { hide: true }, url: route.url };
      // A scope's own address is with and without a slash at its end, and stands here once.
      const url = route.url.replace(/\/$/, '');
      return jsonSchemaTransform({ ...route, url });
    },
    transformObject: jsonSchemaTransformObject,
  });
}
