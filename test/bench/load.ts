import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** One request of the load, as sent over the wire. */
export interface Shot {
  bytes: Buffer;
  /** What the answer's body must contain. */
  expected: string;
}

export interface Measured {
  perSecond: number;
  /** Latency of each request, ms. */
  latencies: number[];
  /** The share of the time in which this process was busy, 0 to 1. Near 1, the benchmark measures itself. */
  busy: number;
  /** Requests refused for the moment and sent again. */
  refused: number;
  /** Requests on the least-served connection, as a share of an equal division. */
  leastShare: number;
}

interface Answer {
  status: number;
  body: Buffer;
}

/** Sends one request over its own connection and resolves to the answer. */
type Send = (bytes: Buffer) => Promise<Answer>;

/**
 * A request, prepared before the clock starts.
 *
 * @param line method and path
 * @param headers all except the length
 * @param body empty for none
 * @param expected what the answer's body must contain
 */
export function shotOf(
  line: `${'GET' | 'POST'} /${string}`,
  headers: Readonly<Record<string, string>>,
  body: string,
  expected: string,
): Shot {
  const length = body === '' ? {} : { 'content-length': String(Buffer.byteLength(body)) };
  const fields = Object.entries({ host: '127.0.0.1', ...headers, ...length });
  const head = [`${line} HTTP/1.1`, ...fields.map(([name, value]) => `${name}: ${value}`)].join('\r\n');
  return { bytes: Buffer.from(`${head}\r\n\r\n${body}`), expected };
}

/** Retry delay after a refusal, ms: the webhook's Retry-After. Pages ask for 5 s. */
const RETRY_MS = 1_000;

/**
 * Sends every shot once over this many connections, opened at the same time; each connection sends its next request
 * after the answer to the last. It uses bare sockets because an HTTP client would need more processor time than the
 * servers it measures. A refused request is sent again, and the wait counts as latency.
 *
 * @throws Error when an answer is not the expected one, because something else would be measured
 */
export async function fire(port: number, shots: readonly Shot[], connections: number): Promise<Measured> {
  const latencies: number[] = [];
  let next = 0;
  const opened = await Promise.all(Array.from({ length: connections }, () => open(port)));
  const counts = opened.map(() => 0);
  let refused = 0;

  async function useUp(send: Send, connection: number): Promise<void> {
    for (let shot = shots[next++]; shot; shot = shots[next++]) {
      counts[connection] = (counts[connection] ?? 0) + 1;
      const start = performance.now();
      let answer = await send(shot.bytes);
      while (answer.status === 503) {
        refused += 1;
        await pause(RETRY_MS);
        answer = await send(shot.bytes);
      }
      const { status, body } = answer;
      latencies.push(performance.now() - start);
      if (status !== 200 || !body.includes(shot.expected)) {
        const [line = ''] = shot.bytes.toString().split('\r\n', 1);
        throw new Error(
          `${line} wants ${shot.expected}, and got ${status}: ${body.toString().slice(0, 300)}`,
        );
      }
    }
  }

  const cpu = process.cpuUsage();
  const start = performance.now();
  try {
    await Promise.all(opened.map(({ send }, connection) => useUp(send, connection)));
  } finally {
    opened.forEach(({ close }) => {
      close();
    });
  }
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return {
    perSecond: shots.length / seconds,
    latencies,
    busy: (user + system) / 1e6 / seconds,
    refused,
    leastShare: (Math.min(...counts) * connections) / shots.length,
  };
}

async function open(port: number): Promise<{ send: Send; close: () => void }> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  let received: Buffer = Buffer.alloc(0);
  let waiting: {
    resolve: (answer: Answer) => void;
    reject: (error: Error) => void;
  } | null = null;

  socket.on('data', (chunk) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    try {
      const answer = readAnswer(received);
      if (!answer) return;
      received = Buffer.alloc(0);
      waiting?.resolve(answer);
    } catch (error) {
      waiting?.reject(error as Error);
    }
  });
  socket.on('error', (error) => waiting?.reject(error));
  socket.on('close', () => waiting?.reject(new Error('The server closed a connection without an answer.')));
  await once(socket, 'connect');

  const send: Send = (bytes) =>
    new Promise((resolve, reject) => {
      waiting = { resolve, reject };
      socket.write(bytes);
    });
  return { send, close: () => void socket.destroy() };
}

/** Null while incomplete. */
function readAnswer(received: Buffer): Answer | null {
  const end = received.indexOf('\r\n\r\n');
  if (end === -1) return null;
  const head = received.toString('latin1', 0, end);
  const length = /^content-length: *(\d+)/im.exec(head)?.[1];
  if (length === undefined) throw new Error(`An answer has no length:\n${head}`);
  const body = received.subarray(end + 4);
  return body.length < Number(length) ? null : { status: Number(head.slice(9, 12)), body };
}

/** The value below which the given share (0 to 1) of the values lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}
