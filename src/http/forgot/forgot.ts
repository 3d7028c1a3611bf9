import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import pLimit from 'p-limit';
import * as z from 'zod';

import { emailAddress } from '../../accounts/email.ts';
import { mailResetLink } from '../../accounts/reset-link.ts';
import type { AppContext } from '../context.ts';
import { BAD_EMAIL, errorsFor, typedText } from '../forms.ts';
import { giveBackResetMail, takeForNetwork, takeForResetMail, TOO_MANY_ATTEMPTS } from '../limits.ts';
import { sendPage } from '../page.ts';
import { whenAnswered } from '../when-answered.ts';

/** How long a reset link waits for the answer to be sent, ms. */
const LATEST_MS = 1_000;

/**
 * Links queued at the same time: work done after the answer does not count as a request under way, so those limits do
 * not cover it.
 */
const QUEUED_AT_ONCE = 4;

/**
 * Forgotten password. The answer is the same whether or not the account exists, and it does not wait for the
 * mail to be queued, so neither its text nor its timing reveals an account. (Once an address has reached its limit of links,
 * the timing could: on PostgreSQL, giving back the refused try takes a query.)
 */
export function forgotRoutes(app: FastifyInstance, context: AppContext): void {
  const { config, db, sessionSecret, now } = context;
  const mailing = new Set<Promise<void>>();
  const queueing = pLimit(QUEUED_AT_ONCE);

  app.get('/forgot', (request, reply) => forgotPage(request, reply, {}));

  app.post('/forgot', async (request, reply) => {
    if (config.mail === null) return forgotPage(request, reply, {});
    if (!(await takeForNetwork(request, reply, 'forgottenOfNetwork')))
      return forgotPage(request, reply.status(429), { errors: { email: TOO_MANY_ATTEMPTS } });
    const form = z.object({ email: emailAddress }).safeParse(request.body ?? {});
    if (!form.success)
      return forgotPage(request, reply.status(400), { errors: errorsFor(form.error, { email: BAD_EMAIL }) });
    const { email } = form.data;
    if (await takeForResetMail(request, email)) mailSoon(request, reply, email);
    return forgotPage(request, reply, { sentTo: email });
  });

  /**
   * Mails the link after the answer, or a second later if the client does not read it: the email is already counted
   * against the limit, so it must be sent.
   */
  function mailSoon(request: FastifyRequest, reply: FastifyReply, email: string): void {
    let isDone = false;
    const mail = (): void => {
      if (!isDone) mailLink(request, email);
      isDone = true;
    };
    whenAnswered(request, reply, mail);
    setTimeout(mail, LATEST_MS).unref();
  }

  function mailLink(request: FastifyRequest, email: string): void {
    const mailed = queueing(() => queueLink(request, email))
      .catch((error: unknown) => {
        request.log.error({ err: error }, 'a reset link could not be queued');
      })
      .finally(() => mailing.delete(mailed));
    mailing.add(mailed);
  }

  async function queueLink(request: FastifyRequest, email: string): Promise<void> {
    let isQueued = false;
    try {
      isQueued = await mailResetLink(db, sessionSecret, email, now());
    } finally {
      if (!isQueued) await giveBackResetMail(request, email);
    }
  }

  app.addHook('onClose', async () => {
    await Promise.all(mailing);
  });

  function forgotPage(
    request: FastifyRequest,
    reply: FastifyReply,
    { sentTo = null, errors = {} }: { sentTo?: string | null; errors?: { email?: string } },
  ): FastifyReply {
    return sendPage(request, reply, 'forgot', {
      title: 'Forgotten password',
      mailOn: config.mail !== null,
      sentTo,
      values: { email: typedText(request.body, 'email') },
      errors,
    });
  }
}
