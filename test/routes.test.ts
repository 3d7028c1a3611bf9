import { describe, expect, test } from 'vitest';

import { daysAfter, sign, signUp, START, startTestServer } from './support/server.ts';
import type { TestServer } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

/** The first anonymous `onRequest` hook is back-pressure; the second and `onSend` are compression. */
const MACHINES = [
  'onRequest: logRequest, securityHeaders, refuseIfManyHeaders, onRequest, waitForPlaceOfSite, waitForPlace, waitForTurn, onRequest',
  'onSend: boundLargeAnswer, closeUnreadBody, giveBackPlacesSoon, onSend',
];

/** The hooks of routes for browsers; a route's own hooks come after the one that identifies the visitor. */
function people(...own: string[]): string[] {
  const first = [
    'logRequest',
    'securityHeaders',
    'refuseIfManyHeaders',
    'onRequest',
    'waitForPlaceOfSite',
    'waitForPlace',
    'waitForTurn',
    'fastifyCookieHandler',
    'checkOrigin',
    'limitUnknownPaths',
  ];
  return [
    `onRequest: ${[...first, 'recogniseVisitor', ...own, 'onRequest'].join(', ')}`,
    'preParsing: collectBody',
    'preHandler: waitToHash, recogniseAgain, readNews, readTrouble',
    'onSend: boundLargeAnswer, closeUnreadBody, giveBackPlacesSoon, fastifyCookieOnSendHandler, markNewsSeen, onSend',
  ];
}

const WEBHOOK = [
  'onRequest: logRequest, securityHeaders, refuseIfManyHeaders, onRequest, waitForPlaceOfSite, waitForPlace, waitForTurn, ignoreContentType, refuseTooMany',
  'onSend: boundLargeAnswer, closeUnreadBody, giveBackPlacesSoon',
];

/** Without checkOrigin: mail providers send these requests from other origins. */
const UNSUBSCRIBE = [
  'onRequest: logRequest, securityHeaders, refuseIfManyHeaders, onRequest, waitForPlaceOfSite, waitForPlace, waitForTurn, fastifyCookieHandler, recogniseVisitor, onRequest',
  'preParsing: collectBody',
  'preHandler: recogniseAgain',
  'onSend: boundLargeAnswer, closeUnreadBody, giveBackPlacesSoon, fastifyCookieOnSendHandler, onSend',
];

const ROUTES: readonly [hooks: string[], routes: string[]][] = [
  [WEBHOOK, ['POST /api/stripe/webhook', 'POST /api/stripe/webhook/']],
  [MACHINES, ['GET /healthz', 'GET /metrics', 'GET /public/*', 'GET /readyz', 'GET /docs/openapi.json']],
  [UNSUBSCRIBE, ['GET /unsubscribe/:token', 'POST /unsubscribe/:token']],
  [
    people(),
    [
      'GET /forgot',
      'POST /forgot',
      'GET /verify/:token',
      'POST /verify/:token',
      'GET /',
      'GET /docs',
      'GET /pricing',
      'GET /r/*',
      'GET /signup',
      'POST /signup',
      'GET /login',
      'POST /login',
      'POST /logout',
      'GET /reset/:token',
      'POST /reset/:token',
      'GET /settings',
      'GET /settings/:form',
      'POST /settings/address',
      'POST /settings/password',
      'GET /portfolio',
      'GET /settings/export',
      'GET /api/me',
    ],
  ],
  [
    people('limitAccount'),
    [
      'POST /settings/mail',
      'POST /settings/log-out-elsewhere',
      'POST /settings/verify',
      'POST /settings/delete',
      'POST /portfolio/backups/:id/delete',
      'POST /api/billing/checkout',
      'POST /api/billing/portal',
      'GET /api/backups',
      'POST /api/backups/:id/restore',
      'DELETE /api/backups/:id',
    ],
  ],
  [people('limitAccount', 'refuseWithoutAccess', 'refuseSecondUpload'), ['POST /api/backups']],
];

/** Fastify's own list of routes, as `METHOD path` with the hooks of each. HEAD is left out: it comes with each GET. */
function hooksOfRoutes({ app }: TestServer): Record<string, string[]> {
  const routes: Record<string, string[]> = {};
  /** The part of the path at each depth of the tree. */
  const path: string[] = [];
  let current: string[][] = [];
  for (const line of app.printRoutes({ includeHooks: true }).split('\n')) {
    const [, indent = '', text = ''] = /^([│├└─ ]*)(.*)$/.exec(line) ?? [];
    const hooks = /^• \((\w+)\) (.*)$/.exec(text);
    if (hooks) {
      const names = (JSON.parse(hooks[2] ?? '') as string[]).map((name) => name.replace('()', ''));
      for (const route of current) route.push(`${hooks[1] ?? ''}: ${names.join(', ')}`);
      continue;
    }
    const [, part = '', methods] = /^(\S*)(?: \((.*)\))?$/.exec(text) ?? [];
    const depth = indent.length / 4 - 1;
    path.splice(depth, path.length, part);
    const known = (methods?.split(', ') ?? []).filter((method) => method !== 'HEAD');
    current = known.map((method) => (routes[`${method} ${path.join('')}`] = []));
  }
  return routes;
}

test('each route runs the hooks it needs, and hooks for browsers run on no other route', async () => {
  const server = await startTestServer();
  await server.app.ready();
  const expected = ROUTES.flatMap(([hooks, routes]) => routes.map((route) => [route, hooks] as const));
  expect(hooksOfRoutes(server)).toEqual(Object.fromEntries(expected));
});

test('every route under /api/ is in the OpenAPI document', async () => {
  const server = await startTestServer();
  const { paths } = server.app.swagger();
  const routes = Object.keys(hooksOfRoutes(server)).filter((route) => route.includes(' /api/'));
  expect(routes.length).toBeGreaterThan(5);
  for (const route of routes) {
    const [method = '', path = ''] = route.split(' ');
    const template = path.replace(/\/$/, '').replaceAll(/:(\w+)/g, '{$1}');
    expect(Object.keys(paths?.[template] ?? {}), route).toContain(method.toLowerCase());
  }
});

describe('hooks for browsers', () => {
  /** Everything that another site's page can send: a session, an invitation, and its origin. */
  async function visit() {
    const server = await startTestServer();
    const person = await signUp(server, 'person@example.com');
    const headers = {
      origin: 'https://elsewhere.example',
      'sec-fetch-site': 'cross-site',
      cookie: `${person.cookie}; tandem_ref=whatever; tandem_flash=address-changed`,
    };
    return { server, person, headers };
  }

  test.each(['/api/stripe/webhook', '/api/stripe/webhook/'])(
    '%s ignores origin, cookies and invitation, and sets no cookie',
    async (path) => {
      const { server, person, headers } = await visit();
      const payload = JSON.stringify(buyer().created());
      for (const cookie of [headers.cookie, 'tandem_session=made-up', '']) {
        const answer = await server.app.inject({
          method: 'POST',
          url: `${path}?ref=${person.code}`,
          headers: { ...headers, cookie, 'stripe-signature': sign(payload, START) },
          payload,
        });
        expect(answer.statusCode).toBe(200);
        expect(answer.headers).not.toHaveProperty('set-cookie');
      }
    },
  );

  test.each(['/public/style.css', '/public/no-such-file', '/healthz', '/readyz', '/metrics'])(
    '%s ignores session and invitation, and sets no cookie',
    async (path) => {
      const { server, person, headers } = await visit();
      // At this time, a visit would extend the session.
      server.clock.now = daysAfter(2);
      const before = await server.db.session.findMany();
      for (const cookie of [headers.cookie, 'tandem_session=made-up', '']) {
        const answer = await server.app.inject({
          url: `${path}?ref=${person.code}`,
          headers: { ...headers, cookie },
        });
        expect(answer.headers).not.toHaveProperty('set-cookie');
      }
      expect(await server.db.session.findMany()).toEqual(before);
    },
  );

  test('the page for an unknown path knows its visitor', async () => {
    const { server, person } = await visit();
    const answer = await server.app.inject({ url: '/no-such-page', headers: { cookie: person.cookie } });
    expect(answer.statusCode).toBe(404);
    expect(answer.body).toContain('Logged in as person@example.com');
  });
});
