import { createHash } from 'node:crypto';

import type { FastifyInstance } from 'fastify';

import { asParams, readText } from './params.ts';
import type { Context } from './sandbox-context.ts';
import { moment, securityHeaders, sendMessage, sendPage } from './shared-page.ts';
import type { Mail } from './types.ts';

/** How many of the newest emails are kept. */
const KEPT = 200;

const NO_SUCH_MAIL = `There is no such email. Only the newest ${KEPT} are kept.`;

/** An email as the server hands it over. */
export type HandedMail = Omit<Mail, 'id' | 'at'>;

/** Stores an email that would otherwise leave the machine. A duplicate is recognised by its Message-ID. */
export function takeMail({ state, now, save }: Context, mail: HandedMail): void {
  const id = `mail_${createHash('sha256').update(mail.messageId).digest('hex').slice(0, 24)}`;
  if (state.mails.has(id)) {
    return;
  }
  state.mails.set(id, { id, at: now().toISOString(), ...mail });
  for (const oldest of [...state.mails.keys()].slice(0, -KEPT)) {
    state.mails.delete(oldest);
  }
  save();
}

/** Serves one mailbox for all recipients, with the newest emails that the server handed over, as text and as HTML. */
export function serveMailbox(app: FastifyInstance, { state }: Context): void {
  app.get('/mail', (request, reply) => {
    const to = readText(asParams(request.query), 'to');
    const mails = [...state.mails.values()].filter((mail) => to === undefined || mail.to === to).reverse();
    return sendPage(reply, 200, 'mails', [], { title: 'Mail', mails: mails.map(describe), to });
  });

  app.get<{ Params: { id: string } }>('/mail/:id', (request, reply) => {
    const mail = state.mails.get(request.params.id);
    return mail === undefined
      ? sendMessage(reply, 404, NO_SUCH_MAIL)
      : sendPage(reply, 200, 'mail', [], {
          title: mail.subject,
          mail: describe(mail),
          parts: withLinks(mail.text),
        });
  });

  app.get<{ Params: { id: string } }>('/mail/:id/html', (request, reply) => {
    const mail = state.mails.get(request.params.id);
    if (mail === undefined) {
      return sendMessage(reply, 404, NO_SUCH_MAIL);
    }
    // The page is shown in a frame, with the limits of a mail program: no scripts, no pictures, and links
    // open outside it.
    const policy = [
      "default-src 'none'",
      "style-src 'unsafe-inline'",
      "frame-ancestors 'self'",
      'sandbox allow-popups allow-popups-to-escape-sandbox allow-top-navigation-by-user-activation',
    ];
    return reply
      .type('text/html; charset=utf-8')
      .headers(securityHeaders(policy))
      .send(mail.html.replace('<head>', '<head><base target="_top">'));
  });
}

function describe(mail: Mail): object {
  return { ...mail, at: moment(new Date(mail.at)) };
}

/** Splits a text so that web addresses are separate pieces. */
function withLinks(text: string): { text: string; isLink: boolean }[] {
  return text
    .split(/(https?:\/\/[^\s<>"]+)/)
    .map((piece, index) => ({ text: piece, isLink: index % 2 === 1 }));
}
