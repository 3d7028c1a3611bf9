import { once } from 'node:events';
import type { AddressInfo } from 'node:net';

import { SMTPServer } from 'smtp-server';
import type { SMTPServerOptions } from 'smtp-server';
import { onTestFinished } from 'vitest';

/** An email as it reached the mail server. */
export interface ReceivedMail {
  to: string;
  /** Names in lower case. */
  headers: Map<string, string>;
  text: string;
  html: string;
  /** The connection was encrypted. */
  secure: boolean;
  /** Who was logged in. */
  user: string | null;
}

/** A refusal, as the mail server answers it. */
export interface Refusal {
  code: number;
  text: string;
}

export interface MailServer {
  /** SMTP_URL, without a user. */
  url: string;
  port: number;
  /** What was accepted, in order. */
  mails: ReceivedMail[];
  /** Connections so far. */
  connections: () => number;
  /** Asked for each recipient; null accepts. */
  refuse: (address: string) => Refusal | null;
  /** Asked before an email is accepted: it can wait, and breaks the connection off when it returns false. */
  accept: (mail: ReceivedMail) => Promise<boolean>;
  /** Asked before a connection is greeted: it can wait. */
  greet: () => Promise<void>;
  stop: () => Promise<void>;
}

export interface MailServerOptions {
  /** TLS from the start. */
  secure?: boolean;
  /** STARTTLS is offered. */
  startTls?: boolean;
  /** Required login. */
  login?: { user: string; password: string };
  port?: number;
}

/** Starts a real SMTP server in this process. It is stopped after the test. */
export async function startMailServer({
  secure = false,
  startTls = false,
  login,
  port = 0,
}: MailServerOptions = {}): Promise<MailServer> {
  let connections = 0;
  const options: SMTPServerOptions = {
    secure,
    disabledCommands: [...(login ? [] : ['AUTH' as const]), ...(startTls ? [] : ['STARTTLS' as const])],
    authOptional: !login,
    allowInsecureAuth: true,
    disableReverseLookup: true,
    closeTimeout: 100,
    // Without this, smtp-server warns that the key of its built-in certificate is public.
    logger: false,
    onConnect: (_session, done) => {
      connections += 1;
      void mailServer.greet().then(() => {
        done();
      });
    },
    onAuth: ({ username, password }, _session, done) => {
      const isRight = username === login?.user && password === login?.password;
      done(isRight ? null : new Error('wrong password'), isRight ? { user: username } : undefined);
    },
    onRcptTo: ({ address }, _session, done) => {
      const refusal = mailServer.refuse(address);
      done(refusal && Object.assign(new Error(refusal.text), { responseCode: refusal.code }));
    },
    onData: (stream, session, done) => {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('end', () => {
        const mail: ReceivedMail = {
          ...parse(Buffer.concat(chunks).toString()),
          to: session.envelope.rcptTo[0]?.address ?? '',
          secure: session.secure,
          user: typeof session.user === 'string' ? session.user : null,
        };
        void mailServer.accept(mail).then((isAccepted) => {
          if (isAccepted) {
            mailServer.mails.push(mail);
            done();
          } else {
            breakOff();
          }
        });
      });
    },
  };
  const server = new SMTPServer(options);
  // A client that goes away is no failure of the test.
  server.on('error', () => undefined);
  server.listen(port, '127.0.0.1');
  await once(server.server, 'listening');
  const { port: actual } = server.server.address() as AddressInfo;

  function breakOff(): void {
    for (const connection of server.connections) connection._socket.destroy();
  }
  let stopped: Promise<void> | null = null;
  const mailServer: MailServer = {
    url: `${secure ? 'smtps' : 'smtp'}://127.0.0.1:${actual}`,
    port: actual,
    mails: [],
    connections: () => connections,
    refuse: () => null,
    accept: () => Promise.resolve(true),
    greet: () => Promise.resolve(),
    stop: () => {
      stopped ??= new Promise((resolve) => {
        breakOff();
        server.close(() => {
          resolve();
        });
      });
      return stopped;
    },
  };
  onTestFinished(mailServer.stop);
  return mailServer;
}

/** Parses a message made by nodemailer: two parts, each quoted-printable, base64 or plain. */
function parse(message: string): Pick<ReceivedMail, 'headers' | 'text' | 'html'> {
  const { headers, body } = split(message);
  const boundary = /boundary="([^"]+)"/.exec(headers.get('content-type') ?? '')?.[1] ?? '';
  const parts = body.split(`--${boundary}`).map((part) => split(part.replace(/^\r\n/, '')));
  const of = (type: string): string => {
    const part = parts.find((one) => one.headers.get('content-type')?.startsWith(type));
    return part ? decode(part.body, part.headers.get('content-transfer-encoding') ?? '') : '';
  };
  return { headers, text: of('text/plain'), html: of('text/html') };
}

function split(entity: string): { headers: Map<string, string>; body: string } {
  const end = entity.indexOf('\r\n\r\n');
  const head = end === -1 ? '' : entity.slice(0, end);
  const lines = head.replaceAll(/\r\n[ \t]+/g, ' ').split('\r\n');
  const headers = new Map(
    lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), decodeWords(line.slice(colon + 1).trim())] as const;
    }),
  );
  return { headers, body: end === -1 ? '' : entity.slice(end + 4) };
}

function decode(body: string, encoding: string): string {
  const text =
    encoding === 'quoted-printable'
      ? fromQuotedPrintable(body.replaceAll('=\r\n', ''))
      : encoding === 'base64'
        ? Buffer.from(body, 'base64').toString()
        : body;
  return text.replaceAll('\r\n', '\n').trim();
}

function decodeWords(value: string): string {
  return value
    .replaceAll(/\?=\s+=\?/g, '?==?')
    .replaceAll(/=\?UTF-8\?([QB])\?([^?]*)\?=/gi, (_all, way: string, text: string) =>
      way.toUpperCase() === 'B'
        ? Buffer.from(text, 'base64').toString()
        : fromQuotedPrintable(text.replaceAll('_', ' ')),
    );
}

function fromQuotedPrintable(text: string): string {
  const bytes = text.replaceAll(/=([0-9A-F]{2})/gi, (_all, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return Buffer.from(bytes, 'latin1').toString();
}
