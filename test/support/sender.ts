import { onTestFinished } from 'vitest';

import { letterheadOf } from '../../src/outbox/compose.ts';
import { performerOf } from '../../src/outbox/perform.ts';
import { startSender } from '../../src/outbox/sender.ts';
import type { Sender } from '../../src/outbox/sender.ts';
import { smtpSender } from '../../src/outbox/smtp.ts';
import { SESSION_SECRET } from './server.ts';
import type { TestServer } from './server.ts';

/** What a server needs to send mail through a mail server. */
export function mailEnv({ url }: { url: string }): { SMTP_URL: string; MAIL_FROM: string } {
  return { SMTP_URL: url, MAIL_FROM: 'Tandem <hello@tandem.test>' };
}

export interface TestSender extends Sender {
  /** What it logged. */
  log: object[];
}

/** Starts the sender of a test server's outbox, by the test's clock; it is closed after the test. */
export async function startTestSender(
  { db, stripe, config, clock }: Pick<TestServer, 'db' | 'stripe' | 'config' | 'clock'>,
  stepMs?: number,
): Promise<TestSender> {
  const send = await smtpSender(config.mail?.smtpUrl ?? '', config.publicUrl, stepMs);
  const now = (): Date => clock.now;
  const log: object[] = [];
  const sender = startSender({
    db,
    perform: performerOf({
      db,
      stripe,
      mailer: { db, letterhead: letterheadOf(config), secret: SESSION_SECRET, send, now },
      now,
    }),
    logger: { warn: (...said: unknown[]) => void log.push(said) },
    now,
  });
  onTestFinished(sender.close);
  return { ...sender, log };
}
