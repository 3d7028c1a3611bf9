import type { ValidateFunction } from 'ajv';
import addFormats from 'ajv-formats';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify';
import { expect } from 'vitest';

interface Described {
  responses?: Record<string, { content?: Record<string, unknown> }>;
}

/** The part of the OpenAPI document that answers are checked against. */
interface ApiDocument {
  paths: Record<string, Record<string, Described>>;
}

/** The document and its compiled schemas, shared because every server of a process has the same. */
let known: { document: ApiDocument; ajv: Ajv2020; compiled: Map<string, ValidateFunction> } | null = null;

function describedBy(app: FastifyInstance) {
  if (known) return known;
  const document = app.swagger() as unknown as ApiDocument;
  const ajv = new Ajv2020({ strict: false });
  addFormats.default(ajv);
  ajv.addSchema(document, 'api');
  return (known = { document, ajv, compiled: new Map<string, ValidateFunction>() });
}

/** Compares every answer under /api/ in a test with the OpenAPI document. */
export function compareWithDescription(app: FastifyInstance): void {
  const inject = app.inject.bind(app) as (options: InjectOptions | string) => Promise<LightMyRequestResponse>;
  const compared = async (options: InjectOptions | string): Promise<LightMyRequestResponse> => {
    const answer = await inject(options);
    const { method = 'GET', url } = typeof options === 'string' ? { url: options } : options;
    if (typeof url === 'string' && url.startsWith('/api/')) {
      const problem = differenceFrom(app, method.toLowerCase(), url.split('?')[0] ?? '', answer);
      expect(problem, `${method} ${url} answered ${answer.statusCode}: ${answer.body.slice(0, 500)}`).toBe(
        null,
      );
    }
    return answer;
  };
  app.inject = compared as unknown as FastifyInstance['inject'];
}

/** How an answer differs from the document; null when it does not. */
export function differenceFrom(
  app: FastifyInstance,
  method: string,
  url: string,
  { statusCode, headers, body }: Pick<LightMyRequestResponse, 'statusCode' | 'headers' | 'body'>,
): string | null {
  const { document, ajv, compiled } = describedBy(app);
  const path = Object.keys(document.paths).find((template) => matches(template, url));
  const operation = path === undefined ? undefined : document.paths[path]?.[method];
  const type = headers['content-type']?.toString().split(';')[0];
  if (path === undefined || !operation) {
    // The document does not list this path or method, so only an error is right.
    return statusCode >= 400 ? null : 'The document has no such path.';
  }
  const described = operation.responses?.[statusCode];
  if (!described) return `The document has no ${statusCode} there.`;
  if (!described.content) return body === '' ? null : 'The document says that there is no body.';
  if (type === undefined || !(type in described.content))
    return `The document has no ${type ?? 'body without a type'}.`;
  if (type !== 'application/json') return null;

  const place = ['paths', path, method, 'responses', String(statusCode), 'content', type, 'schema'];
  const pointer = place.map((part) => part.replaceAll('~', '~0').replaceAll('/', '~1')).join('/');
  const validate = compiled.get(pointer) ?? ajv.compile({ $ref: `api#/${encodeURI(pointer)}` });
  compiled.set(pointer, validate);
  return validate(JSON.parse(body)) ? null : ajv.errorsText(validate.errors);
}

function matches(template: string, url: string): boolean {
  const pattern = template.replaceAll(/\{\w+\}/g, '[^/]+');
  return new RegExp(`^${pattern}/?$`).test(url);
}
