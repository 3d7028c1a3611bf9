import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import * as z from 'zod';

import { accessOf } from '../../access/access.ts';
import { anyLiveAndKnown } from '../../access/live.ts';
import { BACKUPS_KEPT, deleteBackup, keepBackup, listBackups, readBackup } from '../../backups/backups.ts';
import { MAX_DOCUMENT_KB, portfolioDocument, readDocument } from '../../backups/document.ts';
import { inTransaction } from '../../db/transaction.ts';
import { isoText } from '../../instants.ts';
import { answers, json, nothing } from '../api.ts';
import type { Bounds } from '../bounds.ts';
import type { AppContext } from '../context.ts';
import { setFlash } from '../cookies.ts';
import { BUSY, HttpError } from '../errors.ts';
import { createBodyReader } from '../held-bodies.ts';
import { limitedByAccount } from '../limits.ts';
import { redirectToLogIn, sendToLogIn } from '../log-in-first.ts';
import { siteOf } from '../network.ts';
import { sendPage } from '../page.ts';
import { createTaker } from '../shares.ts';
import { readSubscriptions } from '../subscriptions.ts';
import { whenAnswered } from '../when-answered.ts';

const ofOne = z.object({ id: z.string().meta({ description: "The backup's id." }) });

const backupView = z.object({ id: z.string(), createdAt: z.date(), bytes: z.int() }).meta({ id: 'Backup' });

const common = { tags: ['Backups'], security: [{ session: [] }] };
const TO_LOG_IN = nothing('A redirect to /login: nobody is logged in, and the client accepts HTML.');
const NO_SUCH_BACKUP = 'There is no such backup in this account.';

const ACCESS_NEEDED = new HttpError(
  402,
  'access_needed',
  'A new backup needs paid access: see Settings, or invite a friend. You can still use your existing backups.',
);

const UPLOAD_UNDER_WAY = new HttpError(
  429,
  'too_many_requests',
  'Another backup of this account is still being made. Wait until it has finished, then try again.',
);

const TOO_LARGE = new HttpError(
  413,
  'too_large',
  `This portfolio is too large for a backup: the limit is ${MAX_DOCUMENT_KB} KB.`,
);

const TOO_MANY_RESTORES = new HttpError(
  503,
  BUSY,
  'Too many backups are being restored right now. Please try again in a moment.',
);
/** A restore that has taken this long is cut off when another one needs its place. */
const RESTORE_MS = 20_000;

const TOO_MANY_UPLOADS = new HttpError(
  503,
  BUSY,
  'Too many backups are being uploaded right now. Please try again in a moment.',
);

const LIST = {
  ...common,
  summary: 'List the backups',
  response: answers(
    {
      200: json('The backups, newest first.', z.object({ backups: z.array(backupView) })),
      303: TO_LOG_IN,
    },
    { 401: null },
  ),
};

const MAKE = {
  ...common,
  summary: 'Make a backup',
  description: `Needs access. ${BACKUPS_KEPT} are kept; each further one replaces the oldest.`,
  body: portfolioDocument,
  response: answers(
    { 201: json('The backup was made.', backupView), 303: TO_LOG_IN },
    {
      401: null,
      402: 'The account has no access.',
      413: `The document is larger than ${MAX_DOCUMENT_KB} KB.`,
      429: 'Too many requests, or another backup of the account is still being made. Retry-After says how many seconds to wait.',
    },
  ),
};

const RESTORE = {
  ...common,
  summary: 'Get a backup',
  params: ofOne,
  response: answers(
    { 200: json('The document as it was backed up.', portfolioDocument), 303: TO_LOG_IN },
    { 401: null, 404: NO_SUCH_BACKUP },
  ),
};

const DELETE = {
  ...common,
  summary: 'Delete a backup',
  params: ofOne,
  response: answers(
    { 204: nothing('The backup was deleted.'), 303: TO_LOG_IN },
    { 401: null, 404: NO_SUCH_BACKUP },
  ),
};

/**
 * The portfolio page and its cloud backups. The portfolio itself stays in the browser. Only a new backup
 * needs access: owners can list, restore and delete existing ones for ever.
 */
export function portfolioRoutes(
  app: FastifyInstance,
  context: AppContext,
  { backupBodies, restores }: Pick<Bounds, 'backupBodies' | 'restores'>,
): void {
  const { db, now } = context;
  const typed = app.withTypeProvider<ZodTypeProvider>();
  const limited = { onRequest: limitedByAccount('backupsOfAccount') };

  /**
   * Runs before the body is read. A backup may be far larger than any form, so only users with access may send one.
   */
  async function refuseWithoutAccess(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    if (!request.user) await sendToLogIn(request, reply);
    else if (!accessOf(request.user, null, now()).granted) throw ACCESS_NEEDED;
  }

  /** The new backup of each account that is being received or stored. */
  const uploads = new Map<string, FastifyRequest>();
  const storing = new WeakSet<FastifyRequest>();

  function endUpload(request: FastifyRequest, userId: string): void {
    if (uploads.get(userId) === request) uploads.delete(userId);
  }

  /**
   * Runs before the body is read: an account makes one backup at a time. Handling a large one takes some 30 ms of the
   * event loop, and many of them would otherwise be held at once.
   */
  function refuseSecondUpload(
    request: FastifyRequest,
    reply: FastifyReply,
    done: (error?: Error) => void,
  ): void {
    const { user } = request;
    if (!user) {
      done();
      return;
    }
    if (uploads.has(user.id)) {
      void reply.header('retry-after', '5');
      done(UPLOAD_UNDER_WAY);
      return;
    }
    uploads.set(user.id, request);
    whenAnswered(request, reply, () => {
      // The document is stored even if the client leaves meanwhile.
      if (!storing.has(request)) endUpload(request, user.id);
    });
    done();
  }

  app.get('/portfolio', async (request, reply) => {
    const { user } = request;
    return sendPage(request, reply, 'portfolio', {
      title: 'Portfolio',
      granted: user !== null && accessOf(user, null, now()).granted,
      hasPlan: user !== null && anyLiveAndKnown(await readSubscriptions(context, request, user)),
      backups: user ? await listBackups(db, user.id) : [],
      kept: BACKUPS_KEPT,
    });
  });

  // For browsers without JavaScript, whose forms cannot send DELETE.
  typed.post(
    '/portfolio/backups/:id/delete',
    { ...limited, schema: { params: ofOne } },
    async (request, reply) => {
      const { user, params } = request;
      if (!user) return redirectToLogIn(request, reply);
      const done = await inTransaction(db, now(), (tx) => deleteBackup(tx, user, params.id));
      if (done === 'session-ended') return redirectToLogIn(request, reply);
      if (!done) throw noSuchBackup();
      setFlash(request, reply, 'backup-deleted');
      return reply.redirect('/portfolio', 303);
    },
  );

  app.get('/api/backups', { ...limited, schema: LIST }, async (request, reply) => {
    if (!request.user) return sendToLogIn(request, reply);
    return { backups: await listBackups(db, request.user.id) };
  });

  const bodyLimit = MAX_DOCUMENT_KB * 1024;
  typed.post(
    '/api/backups',
    {
      schema: MAKE,
      // The schema is documentation only: `readDocument` stops at the first wrong holding.
      validatorCompiler: () => () => true,
      bodyLimit,
      onRequest: [limited.onRequest, refuseWithoutAccess, refuseSecondUpload],
      config: {
        holdBody: createBodyReader(backupBodies, { bytes: bodyLimit, error: TOO_LARGE }, TOO_MANY_UPLOADS),
      },
    },
    async (request, reply) => {
      const { user } = request;
      if (!user) return sendToLogIn(request, reply);
      storing.add(request);
      let backup;
      try {
        const read = readDocument(request.body);
        if ('problem' in read) throw badDocument(read.problem);
        const document = JSON.stringify(read.document);
        backup = await inTransaction(db, now(), (tx) => keepBackup(tx, user, document));
      } finally {
        endUpload(request, user.id);
      }
      if (backup === 'session-ended') return sendToLogIn(request, reply);
      // Access ended in the meantime.
      if (!backup) throw ACCESS_NEEDED;
      return reply.status(201).send(backup);
    },
  );

  const takeForRestore = createTaker(restores, RESTORE_MS);
  typed.post('/api/backups/:id/restore', { ...limited, schema: RESTORE }, async (request, reply) => {
    const { user, params } = request;
    if (!user) return sendToLogIn(request, reply);
    const giveBack = takeForRestore(siteOf(request.ip), () => request.raw.socket.destroy());
    if (!giveBack) throw TOO_MANY_RESTORES;
    whenAnswered(request, reply, giveBack);
    const backup = await readBackup(db, user.id, params.id);
    if (!backup) throw noSuchBackup();
    const day = isoText(backup.createdAt).slice(0, 10);
    return (
      reply
        .type('application/json')
        .header('cache-control', 'no-store')
        // A browser without JavaScript saves it as a file.
        .header('content-disposition', `attachment; filename="portfolio-${day}.json"`)
        .send(backup.document)
    );
  });

  typed.delete('/api/backups/:id', { ...limited, schema: DELETE }, async (request, reply) => {
    const { user, params } = request;
    if (!user) return sendToLogIn(request, reply);
    const done = await inTransaction(db, now(), (tx) => deleteBackup(tx, user, params.id));
    if (done === 'session-ended') return sendToLogIn(request, reply);
    if (!done) throw noSuchBackup();
    return reply.status(204).send();
  });
}

function badDocument(problem: string): HttpError {
  return new HttpError(400, 'bad_document', `This portfolio cannot be backed up: ${problem}.`);
}

function noSuchBackup(): HttpError {
  return new HttpError(
    404,
    'not_found',
    'There is no such backup in your account. It may have been deleted already.',
  );
}
