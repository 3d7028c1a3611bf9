import * as z from 'zod';

import { followMoney } from '../../access/follow.ts';
import { APPEAL, LOST } from '../../access/money-back.ts';
import { ensurePayment } from '../../access/payments.ts';
import type { Unit } from '../../db/unit-of-work.ts';
import { dateOf, idOf, instant, optionalReference, optionalText, text } from './common.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

export const disputeShape = z.object({
  /** Can be missing in events of API versions before 2014. */
  id: optionalText,
  payment_intent: optionalReference,
  charge: optionalReference,
  created: instant.nullish(),
  status: text,
});

/** A dispute as shown by an event or by Stripe's API. */
export interface DisputeSnapshot {
  /** The dispute's id; if it has none, the id of the disputed charge or payment intent. */
  id: string;
  /** The payment intent's id, or the charge's if it has no payment intent; null when it names neither. */
  paymentId: string | null;
  /** When it was opened. */
  createdAt: Date | null;
  status: string;
}

/**
 * Reads a dispute. https://docs.stripe.com/api/disputes/object
 *
 * @throws ZodError when the object is not a dispute
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
 * `charge.dispute.created`, `updated` and `closed`: a lost dispute can reverse the conversion, however long it was
 * open. If it is won later, the conversion is restored.
 */
export const onDisputeChanged: EventHandler = (event) => {
  const dispute = readDispute(event.object);
  const { id, paymentId } = dispute;
  if (paymentId === null) return ignored('the dispute names no payment');
  return {
    wants: { payments: [paymentId], moneyBack: [paymentId], disputes: [id] },
    apply: (tx) => {
      const payment = ensurePayment(tx, paymentId);
      if (!storeDispute(tx, paymentId, dispute, event.created)) {
        return ignored('this or a later snapshot of the dispute is already known');
      }
      followMoney(tx, payment, causeOf(event));
      return OK;
    },
  };
};

/**
 * Stores a snapshot of a dispute, unless a newer one is stored.
 *
 * @param snapshotAt event.created, UTC
 * @returns whether the row changed
 */
function storeDispute(
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

/** Sets a dispute's row to Stripe's current answer. The row keeps the time of the newest event seen. */
export function storeFetchedDispute({ rows, now }: Unit, paymentId: string, dispute: DisputeSnapshot): void {
  const { id, status } = dispute;
  const known = rows.disputes.get(id);
  const createdAt = dispute.createdAt ?? known?.createdAt ?? now;
  const snapshotAt = known?.snapshotAt ?? createdAt;
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

/** Of two snapshots of the same second, the one further along wins: a lost dispute can still be won on appeal. */
function progressOf(status: string): number {
  if (status === 'won') return 3;
  if (status.startsWith(APPEAL)) return 2;
  return LOST.has(status) ? 1 : 0;
}
