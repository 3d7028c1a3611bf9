import type { Stripe } from 'stripe';

import { followMoney } from '../../access/follow.ts';
import { refundedSince } from '../../access/money-back.ts';
import type { RefundFacts } from '../../access/money-back.ts';
import { ensurePayment } from '../../access/payments.ts';
import type { Payment } from '../../db/generated/client.ts';
import type { Db } from '../../db/transaction.ts';
import { inUnit } from '../../db/unit-of-work.ts';
import { addSeconds, later } from '../../instants.ts';
import { onChargeRefunded, readCharge } from '../objects/charge.ts';
import { storeFetchedDispute, readDispute } from '../objects/dispute.ts';
import { onInvoicePaymentPaid, readInvoicePayment } from '../objects/invoice-payment.ts';
import { NOT_MADE, onRefundChanged } from '../objects/refund.ts';
import { byId, reconcileCause, compareAll, fixBy, PAGE } from './compare.ts';
import type { Finding } from './compare.ts';
import type { Comparison, ReconcileContext } from './reconcile-context.ts';
import { formatValue } from './report.ts';

/** Which invoice each payment belongs to. */
export const compareInvoicePayments: Comparison = (context) => {
  const { db, stripe } = context;
  const read = (objects: readonly Stripe.InvoicePayment[]) =>
    readPayments(
      db,
      objects.map((object) => readInvoicePayment(object).paymentId),
    );
  return compareAll(context, {
    stage: 'invoice payments',
    list: (page) => stripe.invoicePayments.list({ ...page, status: 'paid' }),
    read,
    differs: (object, rows) => compareInvoicePayment(context, object, rows) !== null,
    examine: async (object) => compareInvoicePayment(context, object, await read([object])),
  });
};

/** Every refund: whether its payment is fully refunded. */
export const compareRefunds: Comparison = (context) => {
  const { db, stripe } = context;
  /** A payment can have several refunds. */
  const examined = new Set<string>();
  return compareAll(context, {
    stage: 'refunds',
    list: (page) => stripe.refunds.list({ ...page, expand: ['data.charge'] }),
    read: (refunds) =>
      readPayments(
        db,
        refunds.map(chargeOf).map((charge) => charge && readCharge(charge).paymentId),
      ),
    differs: (refund, rows) => {
      const charge = chargeOf(refund);
      return charge !== null && !saysTheSame(rows.get(readCharge(charge).paymentId) ?? null, charge);
    },
    examine: (refund) => compareRefund(context, refund, examined),
  });
};

export const compareDisputes: Comparison = (context) => {
  const { db, stripe } = context;
  return compareAll(context, {
    stage: 'disputes',
    list: (page) => stripe.disputes.list(page),
    read: async (disputes) =>
      byId(await db.dispute.findMany({ where: { id: { in: disputes.map(({ id }) => id) } } })),
    differs: ({ id, status }, rows) => rows.get(id)?.status !== status,
    examine: (dispute) => compareDispute(context, dispute),
  });
};

async function readPayments(db: Db, ids: (string | null)[]): Promise<ReadonlyMap<string, Payment>> {
  return byId(await db.payment.findMany({ where: { id: { in: ids.filter((id) => id !== null) } } }));
}

function compareInvoicePayment(
  context: ReconcileContext,
  object: Stripe.InvoicePayment,
  rows: ReadonlyMap<string, Payment>,
): Finding | null {
  const { paymentId, invoiceId } = readInvoicePayment(object);
  if (paymentId === null) return null;
  const row = rows.get(paymentId);
  if (row?.invoiceId === invoiceId) return null;
  const here = formatValue(row?.invoiceId);
  return {
    differences: [{ object: 'payment', id: paymentId, field: 'invoice', here, there: invoiceId }],
    fix: fixBy(
      context,
      onInvoicePaymentPaid,
      'invoice_payment.paid',
      object,
      new Date(object.created * 1000),
    ),
  };
}

async function compareRefund(
  context: ReconcileContext,
  listed: Stripe.Refund,
  examined: Set<string>,
): Promise<Finding | null> {
  const { stripe, db, events } = context;
  const listedCharge = chargeOf(listed);
  if (listedCharge === null) return null;
  const { paymentId } = readCharge(listedCharge);
  if (examined.has(paymentId)) return null;
  examined.add(paymentId);
  const row = await db.payment.findUnique({ where: { id: paymentId } });
  // The listed refund may be older than the row, which a webhook can have changed since, so ask again.
  const charge = await stripe.charges.retrieve(listedCharge.id);
  if (saysTheSame(row, charge)) return null;
  const refunds = await stripe.refunds.list({ charge: charge.id, limit: PAGE });
  const full = readCharge(charge).refundedInFull;
  const fix = full
    ? fixBy(context, onChargeRefunded, 'charge.refunded', charge, refundDate(refunds.data, row))
    : fixBy(context, onRefundChanged, 'refund.failed', listed, failureDate(refunds.data, row));
  const here = formatValue(isRefunded(row));
  return {
    differences: [
      { object: 'payment', id: paymentId, field: 'refunded in full', here, there: formatValue(full) },
    ],
    fix: async (tx) => {
      const isSame = await inUnit(tx, events.programme, { payments: [paymentId] }, (unit) =>
        sameRefunds(ensurePayment(unit, paymentId), row),
      );
      return isSame && fix(tx);
    },
  };
}

/** The expanded charge of a listed refund. */
function chargeOf({ charge }: Stripe.Refund): Stripe.Charge | null {
  return typeof charge === 'string' ? null : charge;
}

function isRefunded(row: RefundFacts | null): boolean {
  return row !== null && refundedSince(row) !== null;
}

function saysTheSame(row: RefundFacts | null, charge: Stripe.Charge): boolean {
  return isRefunded(row) === readCharge(charge).refundedInFull;
}

function sameRefunds(locked: RefundFacts, before: RefundFacts | null): boolean {
  return (
    locked.refundedAt?.getTime() === before?.refundedAt?.getTime() &&
    locked.refundFailedAt?.getTime() === before?.refundFailedAt?.getTime()
  );
}

/**
 * The date to give the refund: when the newest one that stands was created, but after the failure that we know of,
 * because Stripe has the last word.
 */
function refundDate(refunds: readonly Stripe.Refund[], row: RefundFacts | null): Date {
  const made = refunds.filter(({ status }) => !NOT_MADE.has(status ?? '')).map(({ created }) => created);
  const failedAt = row?.refundFailedAt ? addSeconds(row.refundFailedAt, 1) : null;
  return later(new Date(Math.max(...made) * 1000), failedAt);
}

/**
 * The date to give the failure. Stripe does not say when a refund failed, so we take the time when the newest refund
 * was created, but no earlier than the refund that we know of.
 */
function failureDate(refunds: readonly Stripe.Refund[], row: RefundFacts | null): Date {
  const made = refunds.map(({ created }) => created);
  return later(new Date(Math.max(...made) * 1000), row?.refundedAt ?? null);
}

async function compareDispute(context: ReconcileContext, listed: Stripe.Dispute): Promise<Finding | null> {
  const { stripe, db, events } = context;
  const { id } = listed;
  const row = await db.dispute.findUnique({ where: { id } });
  const dispute = readDispute(await stripe.disputes.retrieve(id));
  const { paymentId, status } = dispute;
  if (paymentId === null || row?.status === status) return null;
  return {
    differences: [{ object: 'dispute', id, field: 'status', here: formatValue(row?.status), there: status }],
    fix: (tx) =>
      inUnit(
        tx,
        events.programme,
        { payments: [paymentId], moneyBack: [paymentId], disputes: [id] },
        (unit) => {
          if (unit.rows.disputes.get(id)?.status !== row?.status) return false;
          const payment = ensurePayment(unit, paymentId);
          storeFetchedDispute(unit, paymentId, dispute);
          followMoney(unit, payment, reconcileCause());
          return true;
        },
      ),
  };
}
