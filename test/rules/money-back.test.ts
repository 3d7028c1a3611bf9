import { describe, expect, test } from 'vitest';

import { hasGoneBack, holds, refundedSince, whyGone } from '../../src/access/money-back.ts';
import type { InvoiceMoney, PaymentFacts } from '../../src/access/money-back.ts';
import { day } from './subscription-row.ts';

const CLAWBACK_DAYS = 30;
const LAST_DAY = day(CLAWBACK_DAYS);
const SECOND = 1000;

function payment(columns: Partial<PaymentFacts> = {}): PaymentFacts {
  return { firstRefundedAt: null, refundedAt: null, refundFailedAt: null, disputes: [], ...columns };
}

function refunded(at: Date, again = at): PaymentFacts {
  return payment({ firstRefundedAt: at, refundedAt: again });
}

function disputed(status: string, createdAt = day(5)): PaymentFacts {
  return payment({ disputes: [{ status, createdAt }] });
}

/** An invoice paid on day 0 by these payments. */
function paidBy(...payments: PaymentFacts[]): InvoiceMoney {
  return { positive: true, paidAt: day(0), payments };
}

describe('an invoice has gone back (design: rule 9)', () => {
  test.each([
    { money: 'no payment is known', invoice: paidBy(), back: false },
    { money: 'its payment stands', invoice: paidBy(payment()), back: false },
    { money: 'its payment was refunded', invoice: paidBy(refunded(day(5))), back: true },
    { money: 'one of two payments was refunded', invoice: paidBy(refunded(day(5)), payment()), back: false },
    { money: 'both payments went back', invoice: paidBy(refunded(day(5)), disputed('lost')), back: true },
    { money: 'refunded in the last second that counts', invoice: paidBy(refunded(LAST_DAY)), back: true },
    {
      money: 'refunded a second after the limit',
      invoice: paidBy(refunded(new Date(LAST_DAY.getTime() + SECOND))),
      back: false,
    },
    { money: 'refunded before we heard of the payment', invoice: paidBy(refunded(day(-1))), back: true },
    {
      money: 'refunded in time, with a second event much later',
      invoice: paidBy(refunded(day(5), day(90))),
      back: true,
    },
    {
      money: 'a refund that failed',
      invoice: paidBy({ ...refunded(day(5)), refundFailedAt: day(6) }),
      back: false,
    },
    {
      money: 'a refund that failed, and another made in time',
      invoice: paidBy({ ...refunded(day(5), day(7)), refundFailedAt: day(6) }),
      back: true,
    },
    {
      money: 'a refund that failed, and another made too late',
      invoice: paidBy({ ...refunded(day(5), day(31)), refundFailedAt: day(6) }),
      back: false,
    },
    { money: 'an open dispute', invoice: paidBy(disputed('under_review')), back: false },
    { money: 'a lost dispute', invoice: paidBy(disputed('lost')), back: true },
    {
      money: 'a lost dispute under appeal',
      invoice: paidBy(disputed('appeal_under_review')),
      back: true,
    },
    { money: 'a dispute that was won', invoice: paidBy(disputed('won')), back: false },
    {
      money: 'a lost dispute that was opened too late',
      invoice: paidBy(disputed('lost', day(31))),
      back: false,
    },
    {
      money: 'the time of payment is unknown',
      invoice: { ...paidBy(refunded(day(5))), paidAt: null },
      back: false,
    },
  ])('$money: gone back is $back', ({ invoice, back }) => {
    expect(hasGoneBack(invoice, CLAWBACK_DAYS)).toBe(back);
  });

  test('a refund and its failure in the same second: it failed', () => {
    expect(refundedSince({ ...refunded(day(5)), refundFailedAt: day(5) })).toBeNull();
  });
});

describe('a subscription holds (design: rule 9)', () => {
  const gone = paidBy(refunded(day(5)));
  const stands = paidBy(payment());
  test.each([
    { money: 'nothing proves a payment', provenAt: null, invoices: [stands], is: false },
    { money: 'being active proves it, and no invoice is known', provenAt: day(0), invoices: [], is: true },
    { money: 'its invoice stands', provenAt: day(0), invoices: [stands], is: true },
    { money: 'its invoice went back', provenAt: day(0), invoices: [gone], is: false },
    { money: 'one of its invoices stands', provenAt: day(0), invoices: [gone, stands], is: true },
    {
      money: 'an invoice of zero does not count',
      provenAt: day(0),
      invoices: [gone, { ...stands, positive: false }],
      is: false,
    },
  ])('$money: holds is $is', ({ provenAt, invoices, is }) => {
    expect(holds({ provenAt, invoices }, CLAWBACK_DAYS)).toBe(is);
  });
});

describe('why the money went back', () => {
  test.each([
    { what: 'a refund', payments: [refunded(day(5))], why: 'refund' },
    { what: 'a lost dispute', payments: [payment(), disputed('lost')], why: 'dispute' },
    { what: 'the later of the two', payments: [disputed('lost', day(5)), refunded(day(6))], why: 'refund' },
    { what: 'the later of the two', payments: [disputed('lost', day(7)), refunded(day(6))], why: 'dispute' },
    {
      what: 'the one in time',
      payments: [disputed('lost', day(7)), refunded(day(CLAWBACK_DAYS + 1))],
      why: 'dispute',
    },
    { what: 'nothing: the payment stands', payments: [payment(), disputed('won')], why: 'unpaid' },
    { what: 'nothing: no payment is known', payments: [], why: 'unpaid' },
  ])('is $what ($why)', ({ payments, why }) => {
    expect(whyGone([paidBy(...payments)], CLAWBACK_DAYS)).toBe(why);
  });
});
