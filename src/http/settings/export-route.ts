import type { Socket } from 'node:net';

import type { FastifyInstance } from 'fastify';

import { overviewConfigOf } from '../../access/overview.ts';
import { addSeconds } from '../../instants.ts';
import type { AppContext } from '../context.ts';
import { BUSY, HttpError } from '../errors.ts';
import { takeReturnable, tooManyRequests } from '../limits.ts';
import { redirectToLogIn } from '../log-in-first.ts';
import { siteOf } from '../network.ts';
import { whenAnswered } from '../when-answered.ts';
import { exportAccount } from './export.ts';

const EXPORT_UNDER_WAY = new HttpError(
  429,
  'too_many_requests',
  'An export of your data is already running. Wait until that download has finished, then try again.',
);
/** Each can hold some 20 MB until its client has read it. */
const EXPORTS_AT_ONCE = 10;
/** Of these, for one IPv4 address or one /48 of IPv6. */
const EXPORTS_OF_SITE = 2;
/** An export keeps its place until it is sent if it is larger than this, bytes: less fits into a connection's buffers. */
const LARGE = 64 * 1024;
/** An export that has taken this long is cut off when another one needs its place. */
const EXPORT_SECONDS = 20;
const TOO_MANY_EXPORTS = new HttpError(
  503,
  BUSY,
  'Too many people are exporting their data right now. Please try again in a moment.',
);

interface Export {
  since: Date;
  site: string;
  socket: Socket;
}

/**
 * `GET /settings/export`. An export can hold megabytes of memory until it is sent, so an account can run one at a time,
 * a site EXPORTS_OF_SITE, and the server EXPORTS_AT_ONCE.
 */
export function exportRoute(app: FastifyInstance, { config, db, now }: AppContext): void {
  const overviewConfig = overviewConfigOf(config);
  // The oldest comes first.
  const exporting = new Map<string, Export>();

  /** Gives an account's export a place, cutting off an old export if need be. Otherwise returns why there is no place. */
  function makeRoom(id: string, own: Export): HttpError | null {
    if (exporting.has(id)) return EXPORT_UNDER_WAY;
    const ofSite = [...exporting].filter(([, { site }]) => site === own.site);
    const [oldest] =
      ofSite.length >= EXPORTS_OF_SITE ? ofSite : exporting.size >= EXPORTS_AT_ONCE ? exporting : [];
    if (oldest) {
      const [account, { since, socket }] = oldest;
      if (addSeconds(since, EXPORT_SECONDS) > own.since) return TOO_MANY_EXPORTS;
      exporting.delete(account);
      socket.destroy();
    }
    exporting.set(id, own);
    return null;
  }

  app.get('/settings/export', async (request, reply) => {
    if (!request.user) return redirectToLogIn(request, reply);
    const { id } = request.user;
    const giveBack = await takeReturnable(request, reply, 'exportsOfAccount', id);
    if (!giveBack) throw tooManyRequests();
    const own = { since: now(), site: siteOf(request.ip), socket: request.raw.socket };
    const refusal = makeRoom(id, own);
    if (refusal) {
      // A refusal because of others must not use up one's own tries.
      await giveBack();
      if (refusal === EXPORT_UNDER_WAY) void reply.header('retry-after', '10');
      throw refusal;
    }
    const release = (): void => {
      // It may have been cut off to make room, and the account may have started another export since.
      if (exporting.get(id) === own) exporting.delete(id);
    };
    // The place is given back once the answer is sent or the client has left, but not before the export is written:
    // that work goes on even if the client leaves.
    let isWritten = false;
    let isAnswered = false;
    const end = (): void => {
      if (isWritten && isAnswered) release();
    };
    whenAnswered(request, reply, () => {
      isAnswered = true;
      end();
    });
    let body;
    try {
      body = Buffer.from(await exportAccount(db, request.user, overviewConfig, now()));
    } catch (error) {
      await giveBack();
      throw error;
    } finally {
      isWritten = true;
      end();
    }
    // Without backups, which need paid access, an export is rarely larger, and so keeps nobody else waiting.
    if (body.length < LARGE) release();
    return reply
      .header('cache-control', 'no-store')
      .header('content-disposition', 'attachment; filename="tandem-data.json"')
      .type('application/json')
      .send(body);
  });
}
