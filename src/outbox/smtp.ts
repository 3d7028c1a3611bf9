import { bareHost } from '../bare-host.ts';
import { isLoopback } from '../config.ts';
import type { Mail } from './compose.ts';
import type { Outcome } from './items.ts';

/**
 * Sends one email. The mail server's answer is an outcome, not an error.
 *
 * @returns `again` when the signal ended the attempt, among other cases
 * @throws Error when it fails without an SMTP error: something is wrong on our side
 */
export type SendMail = (mail: Mail, signal: AbortSignal) => Promise<Outcome>;

/** Timeout of each SMTP step (connect, greeting, command), ms. */
const STEP_MS = 15_000;

/** How the outcome begins when the server refuses the recipient. */
export const RECIPIENT_REFUSED = 'The mail server refused the recipient';

/** The fields of nodemailer's errors: https://nodemailer.com/errors */
interface SmtpError {
  code?: string;
  /** The command that was refused. */
  command?: string;
  responseCode?: number;
  response?: string;
}

/**
 * Creates a sender that opens a new connection for each email.
 *
 * @param smtpUrl SMTP_URL. `smtps://` is encrypted from the start. `smtp://` uses STARTTLS when the server
 *   offers it, and requires it before sending a password to another machine.
 * @param publicUrl PUBLIC_URL. Its host is our name in the SMTP greeting.
 * @param stepMs timeout of each SMTP step, ms
 */
export async function smtpSender(smtpUrl: string, publicUrl: string, stepMs = STEP_MS): Promise<SendMail> {
  const { createTransport } = await import('nodemailer');
  const { protocol, username } = new URL(smtpUrl);
  const transport = createTransport({
    url: smtpUrl,
    name: new URL(publicUrl).hostname,
    requireTLS: protocol === 'smtp:' && username !== '' && !isLoopback(bareHost(smtpUrl)),
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
        // As an object it is always a single address: nodemailer does not parse it.
        to: { name: '', address: to },
        ...(replyTo !== null && { replyTo }),
        subject,
        text,
        html,
        headers: {
          // RFC 3834: asks for no out-of-office replies.
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
      const { code, responseCode } = error as SmtpError;
      if (typeof code !== 'string' && responseCode === undefined) throw error;
      return outcomeOf(error as SmtpError);
    }
  };
}

/** Keeps only the codes of the server's answer, because its text often repeats the address. */
function outcomeOf({ code = 'unknown', command, responseCode, response }: SmtpError): Outcome {
  if (responseCode === undefined) {
    // EENVELOPE means that the address itself is unusable, on any server.
    const status = code === 'EENVELOPE' ? 'failed' : 'again';
    return {
      status,
      why: `${status === 'failed' ? 'The address cannot be used' : 'The connection to the mail server failed'}: ${code}.`,
    };
  }
  const enhanced = /^\d{3}[ -](\d\.\d{1,3}\.\d{1,3})\b/.exec(response ?? '')?.[1];
  const codes = [responseCode, enhanced].filter((one) => one !== undefined).join(' ');
  const isRecipient = command === 'RCPT TO';
  const refused = isRecipient ? RECIPIENT_REFUSED : `The mail server refused ${command ?? 'the email'}`;
  const why = `${refused}: ${codes}.`;
  return { status: isRecipient && responseCode >= 500 ? 'failed' : 'again', why };
}
