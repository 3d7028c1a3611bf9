import { describe, expect, test } from 'vitest';

import { differenceFrom } from './support/described.ts';
import { signUp, startTestServer } from './support/server.ts';

interface Operation {
  summary?: string;
  responses: Record<string, { description?: string; content?: Record<string, { schema?: unknown }> }>;
}

interface Document {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
}

async function theDocument(): Promise<Document> {
  const { app } = await startTestServer();
  const answer = await app.inject({ url: '/docs/openapi.json' });
  expect(answer.statusCode).toBe(200);
  expect(answer.headers['content-type']).toMatch(/^application\/json/);
  return answer.json();
}

describe('the OpenAPI document', () => {
  test('is version 3.1 and covers exactly the routes under /api/', async () => {
    const document = await theDocument();
    expect(document.openapi).toBe('3.1.0');
    const described = Object.entries(document.paths).flatMap(([path, item]) =>
      Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(described.sort()).toEqual([
      'DELETE /api/backups/{id}',
      'GET /api/backups',
      'GET /api/me',
      'POST /api/backups',
      'POST /api/backups/{id}/restore',
      'POST /api/billing/checkout',
      'POST /api/billing/portal',
      'POST /api/stripe/webhook',
    ]);
  });

  test('says what every answer means, and describes every body', async () => {
    const { paths } = await theDocument();
    for (const item of Object.values(paths)) {
      for (const { summary, responses } of Object.values(item)) {
        expect(summary).toMatch(/^[A-Z]/);
        expect(Object.keys(responses)).toEqual(expect.arrayContaining(['503']));
        for (const { description, content } of Object.values(responses)) {
          expect(description).toMatch(/^[A-Z].*\.$/);
          for (const media of Object.values(content ?? {})) expect(media.schema).toBeTypeOf('object');
        }
      }
    }
  });

  test('answers are checked against it: an undocumented status, content type, field or shape is reported', async () => {
    const { app } = await startTestServer();
    const answer = (statusCode: number, body: unknown, type = 'application/json; charset=utf-8') => ({
      statusCode,
      headers: { 'content-type': type },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
    const error = { error: { code: 'unauthorized', message: 'Log in first.' } };
    const difference = (...given: Parameters<typeof answer>) =>
      differenceFrom(app, 'get', '/api/me', answer(...given));
    expect(difference(401, error)).toBe(null);
    expect(difference(418, error)).toContain('418');
    expect(difference(401, { error: 'Log in first.' })).toContain('must be object');
    expect(difference(401, { error: { code: 'unauthorized' } })).toContain('message');
    expect(difference(401, { ...error, more: 1 })).toContain('additional');
    expect(difference(401, 'Log in first.', 'text/plain')).toContain('text/plain');
    expect(difference(200, error)).toContain('required');
    const webhook = (status: number, body: unknown) =>
      differenceFrom(app, 'post', '/api/stripe/webhook/', answer(status, body));
    expect(webhook(200, { status: 'ignored', reason: 'x' })).toBe(null);
    expect(webhook(200, { status: 'ignored' })).not.toBe(null);
    expect(webhook(400, error)).not.toBe(null);
  });
});

describe('GET /docs', () => {
  test('GET /docs shows every operation, without scripts or third-party resources', async () => {
    const { app } = await startTestServer();
    const answer = await app.inject({ url: '/docs' });
    expect(answer.statusCode).toBe(200);
    expect(answer.headers['content-type']).toMatch(/^text\/html/);
    expect(answer.headers['content-security-policy']).toContain("script-src 'self'");
    const { paths } = await theDocument();
    for (const [path, item] of Object.entries(paths)) {
      for (const [method, { responses }] of Object.entries(item)) {
        expect(answer.body).toContain(`id="${method.toUpperCase()}-${path}"`);
        for (const status of Object.keys(responses)) expect(answer.body).toContain(`>${status}<`);
      }
    }
    for (const field of ['creditHeld', 'activeCredits', 'cancelAtPeriodEnd', 'createdAt', 'holdings'])
      expect(answer.body).toContain(`&quot;${field}&quot;`);
    expect(answer.body).not.toContain('<script');
    const [, ...addresses] = answer.body.split(/(?:src|href)="/);
    for (const address of addresses) expect(address).toMatch(/^[/#]/);
    expect(answer.body).not.toContain('style=');
    expect(answer.body).not.toMatch(/undefined|\[object/);
  });

  test('shows who is logged in, as every page does; the document does not', async () => {
    const server = await startTestServer();
    const { cookie } = await signUp(server, 'ann@example.com');
    const page = await server.app.inject({ url: '/docs', headers: { cookie } });
    expect(page.body).toContain('Logged in as ann@example.com');
    const document = await server.app.inject({ url: '/docs/openapi.json', headers: { cookie } });
    expect(document.headers).not.toHaveProperty('set-cookie');
  });
});

test('a request with more than 100 headers gets 431, as the document says', async () => {
  const { app } = await startTestServer();
  const headers = Object.fromEntries(Array.from({ length: 101 }, (_, n) => [`x-${n}`, 'x']));
  const page = await app.inject({ url: '/api/me', headers });
  expect([page.statusCode, page.json()]).toEqual([
    431,
    { error: { code: 'too_many_headers', message: 'This request has too many headers.' } },
  ]);
  const event = await app.inject({ method: 'POST', url: '/api/stripe/webhook', headers, payload: '{}' });
  expect([event.statusCode, event.json()]).toEqual([431, { error: 'This request has too many headers.' }]);
});
