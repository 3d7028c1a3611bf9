import cookie from '@fastify/cookie';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { setMailOff } from '../../accounts/mail-off.ts';
import type { User } from '../../db/generated/client.ts';
import { lockUser } from '../../db/lock-user.ts';
import type { Tx } from '../../db/transaction.ts';
import { unsubscribes, unsubscribingUser } from '../../outbox/links.ts';
import type { AppContext } from '../context.ts';
import { READ_COOKIES } from '../cookies.ts';
import { sendPage } from '../page.ts';
import { collectBodies } from '../read-body.ts';
import { recogniseVisitors } from '../visitor.ts';

type WithToken = FastifyRequest<{ Params: { token: string } }>;

/**
 * One-click unsubscribe from mail about credit and payments, without a login. It has a scope of its own
 * without the origin check: mail providers send the POST from their servers, without cookies and without
 * following redirects. https://www.rfc-editor.org/rfc/rfc8058#section-3.1
 */
export async function unsubscribeRoutes(app: FastifyInstance, context: AppContext): Promise<void> {
  const { db, sessionSecret, now } = context;
  await app.register(cookie, READ_COOKIES);
  recogniseVisitors(app, context);
  collectBodies(app);
  // The body, multipart or a form, adds nothing to the POST itself, so ignore it.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, _body, done) => {
    done(null);
  });

  app.get<{ Params: { token: string } }>('/unsubscribe/:token', async (request, reply) => {
    const user = await unsubscribedUser(request.params.token);
    return unsubscribePage(request, reply, user ? 'ask' : 'unknown');
  });

  app.post<{ Params: { token: string } }>('/unsubscribe/:token', async (request, reply) => {
    const found = await unsubscribedUser(request.params.token);
    if (!found) return unsubscribePage(request, reply, 'unknown');
    // Only the first request writes. The link has no limit of its own, and other writes wait for each one.
    if (found.mailOff) return unsubscribePage(request, reply, 'done');
    const { token } = request.params;
    const lock = async (tx: Tx): Promise<User | null> => {
      const user = await lockUser(tx, found.id);
      return user && unsubscribes(sessionSecret, token, user) ? user : null;
    };
    const done = await setMailOff(db, lock, true, now());
    return unsubscribePage(request, reply, done ? 'done' : 'unknown');
  });

  /** Returns the account whose mail a link turns off; null when the link does not work. */
  async function unsubscribedUser(token: string): Promise<User | null> {
    const id = unsubscribingUser(token);
    const user = id === null ? null : await db.user.findUnique({ where: { id } });
    return user && unsubscribes(sessionSecret, token, user) ? user : null;
  }
}

function unsubscribePage(
  request: WithToken,
  reply: FastifyReply,
  state: 'ask' | 'done' | 'unknown',
): FastifyReply {
  return sendPage(request, reply.status(state === 'unknown' ? 404 : 200), 'unsubscribe', {
    title: 'Mail about free days and payments',
    token: request.params.token,
    state,
  });
}
