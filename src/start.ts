import { randomBytes } from 'node:crypto';
import type { Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { join } from 'node:path';

import { pino } from 'pino';

import { rehashAddresses } from './accounts/rehash-addresses.ts';
import { buildApp } from './http/app.ts';
import { checkConfig, readConfig, SANDBOX_PRICES } from './config.ts';
import type { Config, StripeConfig } from './config.ts';
import { dataFolder, openDatabase } from './db/open.ts';
import { letterheadOf } from './outbox/compose.ts';
import { startHourly } from './outbox/hourly.ts';
import { performerOf } from './outbox/perform.ts';
import { startSender } from './outbox/sender.ts';
import type { Sender } from './outbox/sender.ts';
import { smtpSender } from './outbox/smtp.ts';
import type { SendMail } from './outbox/smtp.ts';
import { PlainError } from './plain-error.ts';
import type { Sandbox } from './sandbox/sandbox.ts';
import { sessionSecretOf } from './session-secret.ts';
import { createStripe } from './stripe/client.ts';

/** So long requests in flight may take to be answered once the server closes, ms; then their connections are cut. */
const ANSWER_MS = 7_000;

export interface RunningServer {
  /** What a person at the terminal wants to know. */
  banner: string;
  /** Refuses new requests, finishes those in flight (within 7 s, or they are cut off), and closes the database. */
  close: () => Promise<void>;
}

/**
 * Starts everything: configuration, database, sandbox if it is on, server.
 *
 * @param env the environment
 * @param now the clock
 * @returns the running server
 * @throws PlainError of one line when something that a person can mend is wrong
 */
export async function startServer(env: NodeJS.ProcessEnv, now: () => Date): Promise<RunningServer> {
  const config = readConfig(env);
  const logger = pino({ level: config.logLevel });
  for (const { says } of checkConfig(env).warnings) logger.warn(says);
  const { db, migrations } = await openDatabase(config.databaseUrl);
  if (migrations.length > 0) logger.info({ migrations }, 'the database was brought up to date');
  await rehashAddresses(db, now());

  const sessionSecret = await sessionSecretOf(config);
  const sandbox = config.sandbox
    ? await openSandbox(config, now, (line) => {
        logger.warn(line);
      })
    : null;
  const stripe = sandbox?.stripe ?? config.stripe;
  const stripeClient = createStripe(stripe);
  const app = await buildApp(
    {
      config: { ...config, stripe },
      db,
      stripe: stripeClient,
      sessionSecret,
      sandboxUrl: sandbox?.running.url ?? null,
      now,
    },
    logger,
  );

  const endConnections = watchConnections(app.server);
  // Just before it stops to listen: nobody comes in between.
  app.addHook('preClose', (done) => {
    endConnections();
    done();
  });

  let sender: Sender | null = null;
  let endHourly: (() => Promise<void>) | null = null;
  async function close(): Promise<void> {
    await Promise.all([app.close(), sender?.close(), endHourly?.()]);
    // A request in flight may wait for the sandbox.
    await sandbox?.running.close();
    await db.$disconnect();
  }
  try {
    await app.listen({ host: config.host, port: config.port });
  } catch (error) {
    await close();
    throw explainListen(error, config);
  }
  const send = await mailSender(config, sandbox?.running ?? null);
  const mailer = send && {
    db,
    letterhead: letterheadOf(config),
    secret: sessionSecret,
    send,
    now,
  };
  const perform = performerOf({ db, stripe: stripeClient, mailer, now });
  sender = startSender({ db, perform, logger, now });
  if (mailer) endHourly = startHourly({ db, operatorEmail: config.operatorEmail, logger, now });
  return { banner: banner(config, sandbox?.running ?? null), close };
}

/** Null when no mail is sent. */
async function mailSender({ mail, publicUrl }: Config, sandbox: Sandbox | null): Promise<SendMail | null> {
  if (mail === null) return null;
  if (mail.smtpUrl !== null) return smtpSender(mail.smtpUrl, publicUrl);
  return (one) => {
    sandbox?.takeMail(one);
    return Promise.resolve({ status: 'done' });
  };
}

/**
 * Lets connections end with the server. Node ends only those that had a request and have none now, and then waits for
 * the others: for a browser that connected in advance, and for a proxy that keeps the connection after its answer.
 * https://nodejs.org/docs/latest-v20.x/api/http.html#serverclosecallback
 *
 * @param server the server, before it listens
 * @returns ends them: at once where no request is in flight, the others with their answer, or after ANSWER_MS
 */
function watchConnections(server: Server): () => void {
  const connections = new Set<Socket>();
  const answers = new Map<Socket, ServerResponse>();
  server.on('connection', (socket: Socket) => {
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
  });
  server.prependListener('request', ({ socket }, answer) => {
    answers.set(socket, answer);
    answer.once('close', () => answers.delete(socket));
  });
  return () => {
    for (const socket of connections) {
      const answer = answers.get(socket);
      if (!answer) socket.destroy();
      else if (!answer.headersSent) answer.setHeader('connection', 'close');
    }
    const cut = setTimeout(() => {
      server.closeAllConnections();
    }, ANSWER_MS);
    server.once('close', () => {
      clearTimeout(cut);
    });
  };
}

interface OpenSandbox {
  running: Sandbox;
  stripe: StripeConfig;
}

async function openSandbox(
  config: Config,
  now: () => Date,
  log: (line: string) => void,
): Promise<OpenSandbox> {
  const apiKey = `sk_test_sandbox_${randomBytes(12).toString('hex')}`;
  const webhookSecret = `whsec_${randomBytes(24).toString('base64url')}`;
  const options = {
    host: config.host,
    publicHost: new URL(config.publicUrl).hostname,
    apiKey,
    webhookSecret,
    webhookUrl: () => `http://${reachable(config.host)}:${config.port}/api/stripe/webhook`,
    prices: SANDBOX_PRICES,
    now,
    stateFile: join(dataFolder(config.databaseUrl), 'sandbox.json'),
    log,
  };
  // Loaded only when it is on: it is a third of the code.
  const { startSandbox } = await import('./sandbox/sandbox.ts');
  // The next port keeps open checkout pages where they were after a restart; any other does, too.
  const running = await startSandbox({ ...options, port: config.port + 1 })
    .catch(() => startSandbox({ ...options, port: 0 }))
    .catch((error: unknown) => {
      throw new PlainError(
        `The sandbox cannot start: ${error instanceof Error ? error.message : String(error)}`,
      );
    });
  return {
    running,
    stripe: {
      ...config.stripe,
      apiKey,
      apiBase: `http://${reachable(config.host)}:${running.apiPort}`,
      webhookSecrets: [webhookSecret],
    },
  };
}

/** Where this machine reaches an address that it listens on. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}

function explainListen(error: unknown, { host, port }: Config): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') {
    return new PlainError(`Port ${port} is in use already. Stop what uses it, or set PORT to another one.`);
  }
  if (code === 'EACCES')
    return new PlainError(`Port ${port} may not be used by this account. Set PORT to one above 1023.`);
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') {
    return new PlainError(`HOST ${host} is no address of this machine.`);
  }
  return error;
}

function banner(config: Config, sandbox: Sandbox | null): string {
  const lines = [`Tandem is at ${config.publicUrl}`];
  if (sandbox) {
    lines.push(
      `The sandbox is on: a stand-in for Stripe runs at ${sandbox.url}, and no real money moves.`,
      ...(config.mail?.smtpUrl === null ? [`Mail is not sent: read it at ${sandbox.url}/mail`] : []),
      'Sign up, open your own referral link in a second browser, and press Upgrade there.',
    );
  }
  return lines.join('\n');
}
