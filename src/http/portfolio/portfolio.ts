import type { FastifyInstance, FastifyReply, FastifyRequest, FastifySchemaValidationError } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import * as z from 'zod';

import { accessOf } from '../../access/access.ts';
import { anyLiveAndKnown } from '../../access/live.ts';
import { BACKUPS_KEPT, deleteBackup, keepBackup, listBackups, readBackup } from '../../backups/backups.ts';
import { MAX_DOCUMENT_KB, portfolioDocument } from '../../backups/document.ts';
import { inTransaction } from '../../db/transaction.ts';
import { isoText } from '../../instants.ts';
import { answers, json, nothing } from '../api.ts';
import type { AppContext } from '../context.ts';
import { setFlash } from '../cookies.ts';
import { HttpError } from '../errors.ts';
import { limitedByAccount } from '../limits.ts';
import { redirectToLogIn, sendToLogIn } from '../log-in-first.ts';
import { sendPage } from '../page.ts';
import { readSubscriptions } from '../subscriptions.ts';

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
export function portfolioRoutes(app: FastifyInstance, context: AppContext): void {
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

  typed.post(
    '/api/backups',
    {
      schema: MAKE,
      attachValidation: true,
      bodyLimit: MAX_DOCUMENT_KB * 1024,
      errorHandler: explainTooLarge,
      onRequest: [limited.onRequest, refuseWithoutAccess],
    },
    async (request, reply) => {
      const { user } = request;
      if (!user) return sendToLogIn(request, reply);
      if (request.validationError) throw badDocument(request.validationError);
      const document = JSON.stringify(request.body);
      const backup = await inTransaction(db, now(), (tx) => keepBackup(tx, user, document));
      if (backup === 'session-ended') return sendToLogIn(request, reply);
      // Access ended in the meantime.
      if (!backup) throw ACCESS_NEEDED;
      return reply.status(201).send(backup);
    },
  );

  typed.post('/api/backups/:id/restore', { ...limited, schema: RESTORE }, async (request, reply) => {
    const { user, params } = request;
    if (!user) return sendToLogIn(request, reply);
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

function badDocument({ validation }: { validation?: unknown }): HttpError {
  const [issue] = validation as FastifySchemaValidationError[];
  const place = issue?.instancePath.slice(1).replaceAll('/', '.') ?? '';
  const problem = `${place === '' ? 'the document' : place}: ${issue?.message ?? 'wrong'}`;
  return new HttpError(400, 'bad_document', `This portfolio cannot be backed up: ${problem}.`);
}

function noSuchBackup(): HttpError {
  return new HttpError(
    404,
    'not_found',
    'There is no such backup in your account. It may have been deleted already.',
  );
}

/** Replaces Fastify's message, which does not name the size limit. */
function explainTooLarge(error: Error & { statusCode?: number }): void {
  if (error.statusCode !== 413) throw error;
  throw new HttpError(
    413,
    'too_large',
    `This portfolio is too large for a backup: the limit is ${MAX_DOCUMENT_KB} KB.`,
  );
}
