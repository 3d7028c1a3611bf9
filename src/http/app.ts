import type { Socket } from 'node:net';
import { join } from 'node:path';

import compress from '@fastify/compress';
import cookie from '@fastify/cookie';
import formbody from '@fastify/formbody';
import serveStatic from '@fastify/static';
import underPressure from '@fastify/under-pressure';
import view from '@fastify/view';
import { Eta } from 'eta';
import Fastify, { LogController } from 'fastify';
import type { FastifyBaseLogger, FastifyInstance, FastifyRequest } from 'fastify';
import helmet from 'helmet';

import { ROOT } from '../root.ts';
import { describeApi } from './api.ts';
import { billingRoutes } from './billing/billing.ts';
import { BOUNDS } from './bounds.ts';
import type { Bounds } from './bounds.ts';
import type { AppContext } from './context.ts';
import { READ_COOKIES } from './cookies.ts';
import { docsPage, documentRoute } from './docs/docs.ts';
import { answerErrors, answerNotFound, BUSY, errorForLog, HttpError } from './errors.ts';
import { forgotRoutes } from './forgot/forgot.ts';
import { healthRoutes } from './health.ts';
import { invitationRoute } from './invitation.ts';
import { declareLimits, limitUnknownPaths } from './limits.ts';
import { logInRoutes } from './login/login.ts';
import { meRoute } from './me.ts';
import { metricsRoute } from './metrics-page.ts';
import { siteOf } from './network.ts';
import { tellCreditNews } from './news.ts';
import { boundIncompleteRequests, boundOneClient, refuseManyHeaders } from './one-client.ts';
import { comesFromUs } from './origin-check.ts';
import { sendPage } from './page.ts';
import type { SiteInfo } from './page.ts';
import { tellPaymentTrouble } from './payment-trouble.ts';
import { portfolioRoutes } from './portfolio/portfolio.ts';
import { pricingRoute } from './pricing/pricing.ts';
import { closeUnreadBodies, collectBodies } from './read-body.ts';
import { readablePath } from './readable-path.ts';
import { boundHashing, boundRequestsUnderWay } from './requests-under-way.ts';
import type { TakeTurn } from './requests-under-way.ts';
import { resetRoutes } from './reset/reset.ts';
import { exportRoute } from './settings/export-route.ts';
import { settingsRoutes } from './settings/settings.ts';
import { signUpRoutes } from './signup/signup.ts';
import { createTurns } from './turns.ts';
import { unsubscribeRoutes } from './unsubscribe/unsubscribe.ts';
import { verifyRoutes } from './verify/verify.ts';
import { declareVisitor, recogniseVisitors } from './visitor.ts';
import { WEBHOOK_PATH } from './webhook-path.ts';
import { webhookRoute } from './webhook.ts';
import { hasLeft, whenAnswered } from './when-answered.ts';

/**
 * The billing forms redirect here, unless the Stripe account has a custom domain (docs/running.md). Browsers apply the
 * page's form-action to such redirects too.
 */
const STRIPE_PAGES = ['https://checkout.stripe.com', 'https://billing.stripe.com'];

/** More than `readablePath` lets through, so that a code or token that is too long is handled as an unknown one. */
const MAX_PARAM_LENGTH = 4 * 1024;

/** Long enough that a single pause, such as a suspended machine, is not taken for overload, ms. */
const PRESSURE_SPAN_MS = 3_000;

/** Time budget for starting requests in one turn of the event loop, ms: a few pages. */
const TURN_MS = 5;

const TOO_MUCH_TO_DO = new HttpError(
  503,
  BUSY,
  'This server is too busy right now. Please try again in a moment.',
);

const FROM_ANOTHER_SITE = new HttpError(
  403,
  'other_origin',
  'This form was submitted from another site. Open the page on this site and submit it there.',
);

/** Builds the server without listening. */
export async function buildApp(
  context: AppContext,
  logger: FastifyBaseLogger,
  bounds = BOUNDS,
): Promise<FastifyInstance> {
  const { config, sandboxUrl } = context;
  const app = Fastify({
    loggerInstance: logger.child({}, { serializers: { err: errorForLog } }),
    trustProxy: config.trustProxy.length > 0 && config.trustProxy,
    // Our largest form, with two passwords, is at most 4 KB. Hundreds of requests can wait with their bodies parsed,
    // and 8 KiB of JSON becomes 150 KB in memory.
    bodyLimit: 8 * 1024,
    connectionTimeout: bounds.stalledMs,
    keepAliveTimeout: config.trustProxy.length > 0 ? bounds.idleMs.proxy : bounds.idleMs.direct,
    requestTimeout: bounds.requestMs,
    http: {
      // Fastify sets this too, but only after Node has checked that headersTimeout does not exceed it.
      requestTimeout: bounds.requestMs,
      headersTimeout: bounds.headersMs,
      connectionsCheckingInterval: bounds.checkEveryMs,
      // Node would answer 400 itself and report no request: see `refusePipelining`.
      requireHostHeader: false,
    },
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    rewriteUrl: (request) => readablePath(request.url ?? '/'),
    // One log line per request instead of Fastify's two: see the hook below.
    logController: new LogController({ disableRequestLogging: true }),
  });
  const https = config.publicUrl.startsWith('https:');
  app.decorate('secureCookies', https);
  app.decorate('site', siteInfo(context));
  await describeApi(app);

  // Registered first, so that refused requests are logged too.
  app.addHook('onRequest', function logRequest(request, reply, done) {
    whenAnswered(request, reply, (wasSent) => {
      const { statusCode, elapsedTime } = reply;
      const outcome = wasSent ? { statusCode } : { clientLeft: true };
      request.log.info({ ...describeRequest(request), ...outcome, ms: Math.round(elapsedTime) }, 'request');
    });
    done();
  });

  const standIns = [sandboxUrl, config.stripe.apiBase].filter((url) => url !== null);
  // Plain helmet: Fastify's helmet plugin builds the headers again for each request.
  const setSecurityHeaders = helmet(securityPolicy(https, standIns));
  app.addHook('onRequest', function securityHeaders({ raw: request }, { raw: reply }, done) {
    setSecurityHeaders(request, reply, (error) => {
      done(error as Error | undefined);
    });
  });
  boundOneClient(app, bounds, config.trustProxy.length > 0);
  closeUnreadBodies(app);
  const turns = createTurns(TURN_MS, () => performance.now());
  app.server.on('connection', ({ destroyed: isRefused }: Socket) => {
    if (!isRefused) turns.accepted();
  });
  // Registered before anything that queries the database.
  await app.register(underPressure, {
    maxEventLoopDelay: bounds.delayMs,
    sampleInterval: PRESSURE_SPAN_MS,
    healthCheck: () => Promise.resolve(turns.shortestWait() < bounds.delayMs),
    healthCheckInterval: PRESSURE_SPAN_MS,
    pressureHandler: () => Promise.reject(TOO_MUCH_TO_DO),
  });
  const takeTurn: TakeTurn = ({ ip, raw: { socket } }, done, left) => {
    turns.begin(siteOf(ip), () => {
      if (!hasLeft(socket)) done();
      else left?.();
    });
  };
  // Registered after the overload refusals above, which are cheap.
  boundRequestsUnderWay(app, bounds, takeTurn);
  app.addHook('onRequest', function waitForTurn(request, _reply, done) {
    takeTurn(request, done);
  });
  if (config.trustProxy.length > 0) {
    refuseManyHeaders(app, bounds, true);
    boundIncompleteRequests(app, bounds);
  }

  await app.register(
    (scope, _options, done) => {
      webhookRoute(scope, context, bounds.webhookBodies, takeTurn);
      done();
    },
    { prefix: WEBHOOK_PATH },
  );

  // Compression is safe from BREACH: no page holds a secret beside text that an attacker can choose. Many concurrent
  // Brotli encoders leave gigabytes of fragmented memory behind, so there is only gzip.
  await app.register(compress, { globalDecompression: false, encodings: ['gzip', 'identity'] });
  // No view reads `locals`. Without this line the plugin would reset them in a hook on every route, the
  // webhook included.
  app.decorateReply('locals', undefined);
  await app.register(view, {
    engine: { eta: new Eta({ views: join(ROOT, 'views') }) },
    // Caches the templates. `npm run dev` restarts when one changes.
    production: true,
    root: join(ROOT, 'views'),
    viewExt: 'eta',
  });
  declareVisitor(app);
  declareLimits(app, context);
  answerErrors(app);
  await app.register(serveStatic, { root: join(ROOT, 'public'), prefix: '/public/', maxAge: '1h' });
  healthRoutes(app, context);
  metricsRoute(app);
  documentRoute(app);

  await app.register((scope) => unsubscribeRoutes(scope, context));
  await app.register((scope) => {
    boundHashing(scope, bounds, takeTurn);
    return peopleRoutes(scope, context, bounds);
  });
  return app;
}

/**
 * The routes for browsers, with the hooks that only they need: cookies, forms, the origin check and the visitor.
 * They have a scope of their own because Fastify runs a root hook on every route, even in scopes registered
 * earlier. https://fastify.dev/docs/latest/Reference/Encapsulation/
 */
async function peopleRoutes(people: FastifyInstance, context: AppContext, bounds: Bounds): Promise<void> {
  await people.register(cookie, READ_COOKIES);
  collectBodies(people);
  await people.register(formbody);
  people.addHook('onRequest', function checkOrigin(request, reply, done) {
    // Answers here can be personal. The static files set their own header.
    void reply.header('cache-control', 'no-store');
    done(comesFromUs(request, context.config.publicUrl) ? undefined : FROM_ANOTHER_SITE);
  });
  people.addHook('onRequest', limitUnknownPaths);
  recogniseVisitors(people, context);
  answerNotFound(people);

  tellCreditNews(people, context);
  tellPaymentTrouble(people, context);
  people.get('/', (request, reply) => sendPage(request, reply, 'landing', { title: context.config.brand }));
  invitationRoute(people, context);
  signUpRoutes(people, context);
  logInRoutes(people, context);
  forgotRoutes(people, context);
  resetRoutes(people, context);
  verifyRoutes(people, context);
  pricingRoute(people, context);
  settingsRoutes(people, context);
  exportRoute(people, context);
  billingRoutes(people, context);
  portfolioRoutes(people, context, bounds);
  meRoute(people, context);
  docsPage(people);
}

function siteInfo({ config, sandboxUrl, now }: AppContext): SiteInfo {
  const { brand, publicUrl, contactEmail, termsUrl, privacyUrl, mail } = config;
  return {
    brand,
    publicUrl,
    contactEmail,
    termsUrl,
    privacyUrl,
    sendsMail: mail !== null,
    sandboxUrl,
    now,
    mailboxUrl: sandboxUrl !== null && mail?.smtpUrl === null ? `${sandboxUrl}/mail` : null,
  };
}

function securityPolicy(https: boolean, standIns: string[]) {
  return {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        styleSrc: ["'self'"],
        scriptSrc: ["'self'"],
        imgSrc: ["'self'"],
        connectSrc: ["'self'"],
        formAction: ["'self'", ...STRIPE_PAGES, ...standIns],
        baseUri: ["'none'"],
        frameAncestors: ["'none'"],
      },
    },
    strictTransportSecurity: https,
    // Without the path, which can hold the token of a mailed link: a proxy may log this header.
    referrerPolicy: { policy: 'strict-origin' as const },
  };
}

/**
 * What a log line says about a request. It leaves out the client's address, which is personal data, and the
 * path and query, which can carry a code or a token.
 */
function describeRequest(request: FastifyRequest): { method: string; route: string } {
  return { method: request.method, route: request.routeOptions.url ?? '(none)' };
}
