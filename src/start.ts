import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

import { rehashAddresses } from './accounts/rehash-addresses.ts';
import { prolongSessions } from './accounts/sessions.ts';
import { checkConfig, readConfig, SANDBOX_PRICES } from './config.ts';
import type { Config, StripeConfig } from './config.ts';
import { openDatabase } from './db/open.ts';
import { inTransaction } from './db/transaction.ts';
import { buildApp } from './http/app.ts';
import { closeConnectionsWithServer } from './http/close-connections.ts';
import { openLog } from './log.ts';
import type { Announcement } from './log.ts';
import { examine, summarise } from './operator/doctor.ts';
import { letterheadOf } from './outbox/compose.ts';
import { startHourly } from './outbox/hourly.ts';
import type { Hourly } from './outbox/hourly.ts';
import { performerOf } from './outbox/perform.ts';
import { startSender } from './outbox/sender.ts';
import type { Sender } from './outbox/sender.ts';
import { smtpSender } from './outbox/smtp.ts';
import type { SendMail } from './outbox/smtp.ts';
import { PlainError } from './plain-error.ts';
import { sandboxFile } from './sandbox-file.ts';
import type { Sandbox } from './sandbox/sandbox.ts';
import { sessionSecretOf } from './session-secret.ts';
import { createStripe } from './stripe/client.ts';
import { sentence } from './wording.ts';

export interface RunningServer {
  /** Where it can be reached. */
  announcement: Announcement;
  /** Refuses new requests, finishes those in flight (for a few seconds at most) and closes the database. */
  close: () => Promise<void>;
}

/**
 * Starts everything: configuration, database, the sandbox if it is on, and the server.
 *
 * @param realNow the clock; in the sandbox people can move it forward
 * @throws PlainError when something is wrong that a person can fix
 */
export async function startServer(env: NodeJS.ProcessEnv, realNow: () => Date): Promise<RunningServer> {
  const config = readConfig(env);
  const logger = openLog(config.logLevel);
  for (const { says } of checkConfig(env).warnings) logger.warn(says);
  const { db, migrations } = await openDatabase(config.databaseUrl);
  if (migrations.length > 0) {
    logger.info({ count: migrations.length, newest: migrations.at(-1) }, 'applied database migrations');
  }

  // Declared before the sandbox opens: its clock can move before these two have started.
  let sender: Sender | null = null;
  let hourly: Hourly | null = null;

  const sessionSecret = await sessionSecretOf(config);
  const sandbox = config.sandbox
    ? await openSandbox(config, realNow, timePassed, (line) => {
        logger.warn(line);
      })
    : null;
  const now = sandbox?.running.now ?? realNow;
  await rehashAddresses(db, now());
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

  closeConnectionsWithServer(app);

  /** Does whatever fell due when the sandbox's clock moved, without logging anybody out. */
  async function timePassed(): Promise<void> {
    await inTransaction(db, now(), prolongSessions);
    await hourly?.run();
    await sender?.wake();
  }

  async function close(): Promise<void> {
    await Promise.all([app.close(), sender?.close(), hourly?.close()]);
    // A request in flight may need the sandbox.
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
  if (mailer) {
    hourly = startHourly({
      db,
      operatorEmail: config.operatorEmail,
      examine: async (signal) =>
        summarise(await examine(db, { clawbackDays: config.clawbackDays, now: now(), signal })),
      logger,
      now,
    });
  }
  const { publicUrl: url, sandboxUrl, mailboxUrl } = app.site;
  return { announcement: { url, sandboxUrl, mailboxUrl }, close };
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

interface OpenSandbox {
  running: Sandbox;
  stripe: StripeConfig;
}

async function openSandbox(
  config: Config,
  now: () => Date,
  timePassed: () => Promise<void>,
  log: (line: string) => void,
): Promise<OpenSandbox> {
  // The sandbox saves its file when it starts. If the port is already in use, it would overwrite the running server's file.
  await checkPort(config);
  const apiKey = `sk_test_sandbox_${randomBytes(12).toString('hex')}`;
  const webhookSecret = `whsec_${randomBytes(24).toString('base64url')}`;
  const options = {
    host: config.host,
    publicHost: new URL(config.publicUrl).hostname,
    localHost: reachable(config.host),
    seller: config.brand,
    apiKey,
    webhookSecret,
    webhookUrl: () => `http://${reachable(config.host)}:${config.port}/api/stripe/webhook`,
    prices: SANDBOX_PRICES,
    now,
    timePassed,
    stateFile: sandboxFile(config),
    log,
  };
  // Loaded on demand, because only the sandbox mode needs it.
  const { startSandbox } = await import('./sandbox/sandbox.ts');
  // A fixed port keeps open checkout pages working across a restart. If it is taken, any other port will do.
  const running = await startSandbox({ ...options, port: config.port + 1 })
    .catch(() => startSandbox({ ...options, port: 0 }))
    .catch((error: unknown) => {
      const explained = explainListen(error, config);
      if (explained instanceof PlainError) throw explained;
      throw new PlainError(
        `The sandbox cannot start: ${sentence(error instanceof Error ? error.message : String(error))}`,
      );
    });
  return {
    running,
    stripe: {
      ...config.stripe,
      apiKey,
      apiBase: running.apiBase,
      webhookSecrets: [webhookSecret],
    },
  };
}

/** @throws PlainError when the server cannot listen on its port */
async function checkPort(config: Config): Promise<void> {
  // A client that connects in this moment must not keep the port in use.
  const probe = createServer((socket) => socket.destroy());
  try {
    await once(probe.listen(config.port, config.host), 'listening');
  } catch (error) {
    throw explainListen(error, config);
  }
  probe.close();
  await once(probe, 'close');
}

/** The address at which this machine reaches a server listening on `host`. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}

function explainListen(error: unknown, { host, port }: Config): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') {
    return new PlainError(
      `Port ${port} is already in use. Stop the program that uses it, or set PORT to another port.`,
    );
  }
  if (code === 'EACCES')
    return new PlainError(`This user may not listen on port ${port}. Set PORT to a port above 1023.`);
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') {
    return new PlainError(
      `HOST ${host} is not an address of this machine. Set HOST to one of its addresses.`,
    );
  }
  return error;
}
