import type { Mail } from './compose.ts';
import type { Outcome } from './items.ts';

/**
 * Sends one mail.
 *
 * @throws Error only when something is wrong with us: what the mail server answers is an outcome
 */
export type SendMail = (mail: Mail, signal: AbortSignal) => Promise<Outcome>;

/** How long a mail server may take for each step: to connect, to greet, to answer a command, ms. */
const STEP_MS = 15_000;

/** What nodemailer's errors carry. https://nodemailer.com/errors */
interface SmtpError {
  code?: string;
  /** The command that was refused. */
  command?: string;
  responseCode?: number;
  response?: string;
}

/**
 * @param smtpUrl SMTP_URL: `smtps://` is encrypted from the start; `smtp://` as soon as the server offers it, and always
 *   before a password is sent to another machine
 * @param publicUrl PUBLIC_URL: its host is who we say we are
 * @param stepMs how long a mail server may take for each step, ms
 * @returns sends one mail, over a connection of its own
 */
export async function smtpSender(smtpUrl: string, publicUrl: string, stepMs = STEP_MS): Promise<SendMail> {
  const { createTransport } = await import('nodemailer');
  const { hostname, protocol, username } = new URL(smtpUrl);
  const isLocal = /^(localhost|127\.|\[::1\])/.test(hostname);
  const transport = createTransport({
    url: smtpUrl,
    name: new URL(publicUrl).hostname,
    requireTLS: protocol === 'smtp:' && username !== '' && !isLocal,
    connectionTimeout: stepMs,
    greetingTimeout: stepMs,
    socketTimeout: stepMs,
    dnsTimeout: stepMs,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  return async ({ messageId, from, to, replyTo, subject, text, html, unsubscribe }, signal) => {
    try {
      await transport.sendMail({
        messageId,
        from,
        // As an object it is one address, whatever it looks like.
        to: { name: '', address: to },
        ...(replyTo !== null && { replyTo }),
        subject,
        text,
        html,
        headers: {
          // RFC 3834: no out-of-office reply.
          'Auto-Submitted': 'auto-generated',
          ...(unsubscribe !== null && {
            'List-Unsubscribe': `<${unsubscribe}>`,
            'List-Unsubscribe-Post': 'List-Unsubscribe=One-Click',
          }),
        },
        signal,
      });
      return { status: 'done' };
    } catch (error) {
      return outcomeOf(error as SmtpError);
    }
  };
}

/** Nothing of what the server wrote but its codes: it likes to repeat the address. */
function outcomeOf({ code = 'unknown', command, responseCode, response }: SmtpError): Outcome {
  if (responseCode === undefined) {
    // The address itself cannot be used, whatever the server.
    const status = code === 'EENVELOPE' ? 'failed' : 'again';
    return {
      status,
      why: `${status === 'failed' ? 'The address cannot be used' : 'No mail server took it'}: ${code}.`,
    };
  }
  const enhanced = /^\d{3}[ -](\d\.\d{1,3}\.\d{1,3})\b/.exec(response ?? '')?.[1];
  const codes = [responseCode, enhanced].filter((one) => one !== undefined).join(' ');
  const isRecipient = command === 'RCPT TO';
  const why = `The mail server refused ${isRecipient ? 'the recipient' : (command ?? 'it')}: ${codes}.`;
  return { status: isRecipient && responseCode >= 500 ? 'failed' : 'again', why };
}
