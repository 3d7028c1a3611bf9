import { createHash } from 'node:crypto';

import type { FastifyInstance } from 'fastify';

import type { Context } from './context.ts';
import { sendMessage, sendPage } from './pages.ts';
import { asParams, readText } from './params.ts';
import type { Mail } from './types.ts';

/** The newest of them are kept. */
const KEPT = 200;

/** A mail as the server hands it over. */
export type HandedMail = Omit<Mail, 'id' | 'at'>;

/**
 * Takes a mail that would leave the machine otherwise. One that comes again is recognised by its Message-ID.
 *
 * @param context what keeps it
 * @param mail the mail
 */
export function takeMail({ state, options, save }: Context, mail: HandedMail): void {
  const id = `mail_${createHash('sha256').update(mail.messageId).digest('hex').slice(0, 24)}`;
  if (state.mails.has(id)) {
    return;
  }
  state.mails.set(id, { id, at: options.now().toISOString(), ...mail });
  for (const oldest of [...state.mails.keys()].slice(0, -KEPT)) {
    state.mails.delete(oldest);
  }
  save();
}

/**
 * Serves the mailbox of everybody: all mail that the server has sent, as text and as HTML.
 *
 * @param app a Fastify scope
 * @param context what the routes work with
 */
export function serveMailbox(app: FastifyInstance, { state }: Context): void {
  app.get('/mail', (request, reply) => {
    const to = readText(asParams(request.query), 'to');
    const mails = [...state.mails.values()].filter((mail) => to === undefined || mail.to === to).reverse();
    return sendPage(reply, 200, 'mails', [], { title: 'Mail', mails: mails.map(describe), to });
  });

  app.get<{ Params: { id: string } }>('/mail/:id', (request, reply) => {
    const mail = state.mails.get(request.params.id);
    return mail === undefined
      ? sendMessage(reply, 404, 'This mail is not kept any more.')
      : sendPage(reply, 200, 'mail', [], {
          title: mail.subject,
          mail: describe(mail),
          parts: withLinks(mail.text),
        });
  });

  app.get<{ Params: { id: string } }>('/mail/:id/html', (request, reply) => {
    const mail = state.mails.get(request.params.id);
    if (mail === undefined) {
      return sendMessage(reply, 404, 'This mail is not kept any more.');
    }
    // In a frame, as mail programs show it: no script, no picture, and links lead out of it.
    const policy = [
      "default-src 'none'",
      "style-src 'unsafe-inline'",
      "frame-ancestors 'self'",
      'sandbox allow-popups allow-popups-to-escape-sandbox allow-top-navigation-by-user-activation',
    ];
    return reply
      .type('text/html; charset=utf-8')
      .headers({
        'content-security-policy': policy.join('; '),
        'cache-control': 'no-store',
        'referrer-policy': 'no-referrer',
        'x-content-type-options': 'nosniff',
      })
      .send(mail.html.replace('<head>', '<head><base target="_top">'));
  });
}

function describe(mail: Mail): object {
  const at = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'short', timeZone: 'UTC' });
  return { ...mail, at: `${at.format(new Date(mail.at))} UTC` };
}

/** A text in pieces, those that are addresses of the web told apart. */
function withLinks(text: string): { text: string; isLink: boolean }[] {
  return text
    .split(/(https?:\/\/[^\s<>"]+)/)
    .map((piece, index) => ({ text: piece, isLink: index % 2 === 1 }));
}
