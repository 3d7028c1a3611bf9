import type { FastifyInstance } from 'fastify';
import type { OpenAPIV3_1 } from 'openapi-types';

import { sendPage } from '../page.ts';

type Document = OpenAPIV3_1.Document;
type Schema = OpenAPIV3_1.SchemaObject | OpenAPIV3_1.ReferenceObject;
type Operation = OpenAPIV3_1.OperationObject;

/** A schema written out like the JSON it describes. */
interface Shape {
  contentType: string;
  lines: string;
}

interface DescribedOperation {
  method: string;
  path: string;
  summary: string;
  description: string;
  session: boolean;
  body: Shape[];
  answers: { status: string; description: string; shapes: Shape[] }[];
  errors: { status: string; description: string }[];
}

/**
 * `GET /docs/openapi.json`: the API as an OpenAPI 3.1 document. It is for programs, so it does not look up
 * the visitor.
 */
export function documentRoute(app: FastifyInstance): void {
  app.get('/docs/openapi.json', () => app.swagger());
}

/** `GET /docs`: the same document as a page. */
export function docsPage(app: FastifyInstance): void {
  // Complete once all routes are registered, and the same from then on.
  let page: ReturnType<typeof pageOf> | undefined;
  app.get('/docs', (request, reply) => {
    page ??= pageOf(app.swagger() as Document);
    return sendPage(request, reply, 'docs', page);
  });
}

function pageOf(document: Document) {
  return {
    title: 'The API',
    about: (document.info.description ?? '').split('\n\n'),
    groups: (document.tags ?? []).map(({ name, description }) => ({
      name,
      description,
      operations: operationsOf(document, name),
    })),
  };
}

function operationsOf(document: Document, tag: string): DescribedOperation[] {
  return Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
    (['get', 'post', 'delete'] as const).flatMap((method) => {
      const operation = item?.[method];
      return operation?.tags?.includes(tag)
        ? [describeOperation(document, method.toUpperCase(), path, operation)]
        : [];
    }),
  );
}

function describeOperation(
  document: Document,
  method: string,
  path: string,
  operation: Operation,
): DescribedOperation {
  const responses = Object.entries(operation.responses ?? {}).map(([status, response]) => {
    const { description, content } = response as OpenAPIV3_1.ResponseObject;
    return { status, description, shapes: shapesOf(document, content) };
  });
  const body = operation.requestBody as OpenAPIV3_1.RequestBodyObject | undefined;
  return {
    method,
    path,
    summary: operation.summary ?? '',
    description: operation.description ?? '',
    session: operation.security !== undefined,
    body: shapesOf(document, body?.content),
    answers: responses.filter(({ status }) => status < '400'),
    errors: responses.filter(({ status }) => status >= '400'),
  };
}

function shapesOf(
  document: Document,
  content: Record<string, OpenAPIV3_1.MediaTypeObject> | undefined,
): Shape[] {
  return Object.entries(content ?? {}).map(([contentType, { schema }]) => ({
    contentType,
    lines: shapeOf(document, schema ?? {}, ''),
  }));
}

/** Writes out a schema like the JSON it describes, with the description of each field after it. */
function shapeOf(document: Document, given: Schema, indent: string): string {
  const schema = resolve(document, given);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map((choice) => shapeOf(document, choice, indent)).join(' or ');
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(' or ');
  if (schema.type === 'array') return `[ ${shapeOf(document, schema.items, indent)}, … ]`;
  if (schema.type !== 'object') return schema.format ?? [schema.type ?? 'anything'].flat().join(' or ');

  const fields = Object.entries(schema.properties ?? {}).map(([name, field]) => {
    const shape = shapeOf(document, field, `${indent}  `);
    const optional = schema.required?.includes(name) ? '' : ' (optional)';
    const said = resolve(document, field).description;
    // After a multi-line object the comment would be far from the field's name.
    const comment = said === undefined ? '' : ` // ${said}`;
    return shape.includes('\n')
      ? `${indent}  "${name}"${optional}:${comment}\n${indent}  ${shape}`
      : `${indent}  "${name}"${optional}: ${shape}${comment}`;
  });
  return fields.length === 0 ? '{ … }' : `{\n${fields.join('\n')}\n${indent}}`;
}

function resolve(document: Document, schema: Schema): OpenAPIV3_1.SchemaObject {
  if (!('$ref' in schema)) return schema;
  const name = schema.$ref.split('/').at(-1) ?? '';
  return document.components?.schemas?.[name] ?? {};
}
