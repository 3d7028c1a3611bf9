import { Agent, request } from 'node:http';
import type { OutgoingHttpHeaders } from 'node:http';

/** One request of the load. */
export interface Shot {
  method: 'GET' | 'POST';
  path: string;
  headers: OutgoingHttpHeaders;
  body: string;
  /** What the answer's body must contain. */
  expected: string;
}

export interface Measured {
  perSecond: number;
  /** Of each request, ms. */
  latencies: number[];
}

/**
 * Sends every shot once, over so many connections: each sends its next one when it has the answer to its last.
 *
 * @throws Error when an answer is not the expected one: what was measured would be something else
 */
export async function fire(port: number, shots: readonly Shot[], connections: number): Promise<Measured> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const latencies: number[] = [];
  let next = 0;

  async function oneConnection(): Promise<void> {
    for (let shot = shots[next++]; shot; shot = shots[next++]) {
      const start = performance.now();
      const { status, body } = await send(agent, port, shot);
      latencies.push(performance.now() - start);
      if (status !== 200 || !body.includes(shot.expected)) {
        throw new Error(
          `${shot.method} ${shot.path} wants ${shot.expected}, and got ${status}: ${body.slice(0, 200)}`,
        );
      }
    }
  }

  const start = performance.now();
  await Promise.all(Array.from({ length: connections }, oneConnection));
  const seconds = (performance.now() - start) / 1000;
  agent.destroy();
  return { perSecond: shots.length / seconds, latencies };
}

function send(agent: Agent, port: number, shot: Shot): Promise<{ status: number; body: string }> {
  const { method, path, headers } = shot;
  return new Promise((resolve, reject) => {
    const sent = request({ agent, port, host: '127.0.0.1', method, path, headers }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (body += chunk));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, body });
      });
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end(shot.body);
  });
}

/** The value below which that share of the values lies, 0 to 1. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}
