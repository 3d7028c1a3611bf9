import * as z from 'zod';

import { followMoney } from '../../access/follow.ts';
import { APPEAL } from '../../access/money-back.ts';
import { paymentOf } from '../../access/payments.ts';
import type { Unit } from '../../db/unit-of-work.ts';
import { dateOf, idOf, instant, optionalReference, optionalText, text } from './common.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

export const disputeShape = z.object({
  /** Events of API versions before 2014 can lack it. */
  id: optionalText,
  payment_intent: optionalReference,
  charge: optionalReference,
  created: instant.nullish(),
  status: text,
});

/** A dispute as one event, or Stripe's answer, shows it. */
export interface DisputeSnapshot {
  /** Its own id, else its charge's; empty when it names neither, and so no payment. */
  id: string;
  /** Of the payment intent, else of the charge; null when it names none. */
  paymentId: string | null;
  /** When it was opened. */
  createdAt: Date | null;
  status: string;
}

/**
 * Reads a dispute. https://docs.stripe.com/api/disputes/object
 *
 * @param object the JSON object
 * @returns what we keep of it
 * @throws ZodError when it is no dispute
 */
export function readDispute(object: unknown): DisputeSnapshot {
  const raw = disputeShape.parse(object);
  return {
    id: raw.id ?? idOf(raw.charge ?? raw.payment_intent) ?? '',
    paymentId: idOf(raw.payment_intent ?? raw.charge),
    createdAt: dateOf(raw.created),
    status: raw.status,
  };
}

/**
 * `charge.dispute.created`, `updated` and `closed`: a dispute that is lost takes the conversion back, however long it
 * took; one that is won after all gives it back.
 */
export const onDisputeChanged: EventHandler = (event) => {
  const dispute = readDispute(event.object);
  const { id, paymentId } = dispute;
  if (paymentId === null) return ignored('the dispute names no payment');
  return {
    wants: { payments: [paymentId], returned: [paymentId], disputes: [id] },
    apply: (tx) => {
      const payment = paymentOf(tx, paymentId);
      if (!storeDispute(tx, paymentId, dispute, event.created)) {
        return ignored('a later snapshot of the dispute is known');
      }
      followMoney(tx, payment, causeOf(event));
      return OK;
    },
  };
};

/**
 * Keeps what a snapshot of a dispute says, unless a newer one is known.
 *
 * @param tx the unit of work, which holds the payment's lock
 * @param paymentId the payment that is disputed
 * @param dispute the snapshot
 * @param snapshotAt its event.created, UTC
 * @returns whether the row took it over
 */
export function storeDispute(
  { rows }: Unit,
  paymentId: string,
  dispute: DisputeSnapshot,
  snapshotAt: Date,
): boolean {
  const { id, status } = dispute;
  const known = rows.disputes.get(id);
  if (known && !isNewer({ status, snapshotAt }, known)) return false;
  const createdAt = dispute.createdAt ?? known?.createdAt ?? snapshotAt;
  rows.disputes.set(id, { id, paymentId, createdAt, status, snapshotAt });
  return true;
}

/**
 * Sets a dispute's row to what Stripe answered when asked. It stays as new as the newest event that was seen of it.
 *
 * @param tx the unit of work, which holds the payment's lock
 * @param paymentId the payment that is disputed
 * @param dispute Stripe's answer
 */
export function storeFetchedDispute({ rows, now }: Unit, paymentId: string, dispute: DisputeSnapshot): void {
  const { id, status } = dispute;
  const createdAt = dispute.createdAt ?? now;
  const snapshotAt = rows.disputes.get(id)?.snapshotAt ?? createdAt;
  rows.disputes.set(id, { id, paymentId, status, createdAt, snapshotAt });
}

interface DisputeState {
  status: string;
  snapshotAt: Date;
}

function isNewer(snapshot: DisputeState, known: DisputeState): boolean {
  if (snapshot.snapshotAt.getTime() !== known.snapshotAt.getTime())
    return snapshot.snapshotAt > known.snapshotAt;
  return progressOf(snapshot.status) > progressOf(known.status);
}

/** Of two snapshots of one second the one further along holds: a bank can still give a lost dispute back. */
function progressOf(status: string): number {
  if (status === 'won') return 3;
  if (status.startsWith(APPEAL)) return 2;
  return status === 'lost' ? 1 : 0;
}
