import { describe, expect, test } from 'vitest';

import { provesPayment } from '../../src/access/proof.ts';
import type { ProofFacts } from '../../src/access/proof.ts';
import { day } from './subscription-row.ts';

type InvoiceFacts = ProofFacts['invoices'][number];

const NOTHING: ProofFacts = {
  counted: true,
  activeAt: null,
  doubtAt: null,
  checkoutUnpaid: false,
  invoices: [],
};

function invoice(columns: Partial<InvoiceFacts>): InvoiceFacts {
  return { first: false, positive: false, paidAt: null, failedAt: null, ...columns };
}

const PAID = invoice({ first: true, positive: true, paidAt: day(0) });
const OF_ZERO = invoice({ first: true, paidAt: day(0) });
const FAILED = invoice({ first: true, failedAt: day(0) });

describe('what proves a payment (design: rule 9)', () => {
  test.each<{ facts: string; is: Partial<ProofFacts>; proven: boolean }>([
    { facts: 'no facts', is: {}, proven: false },
    { facts: 'active', is: { activeAt: day(0) }, proven: true },
    {
      facts: 'active, with a doubt in the same snapshot',
      is: { activeAt: day(1), doubtAt: day(1) },
      proven: false,
    },
    { facts: 'active after a trial', is: { activeAt: day(7), doubtAt: day(0) }, proven: false },
    { facts: 'active, and a discount later', is: { activeAt: day(0), doubtAt: day(100) }, proven: true },
    { facts: 'only a doubt', is: { doubtAt: day(0) }, proven: false },
    {
      facts: 'active with a bank debit under way',
      is: { activeAt: day(0), checkoutUnpaid: true },
      proven: false,
    },
    { facts: 'active, first invoice of zero', is: { activeAt: day(0), invoices: [OF_ZERO] }, proven: false },
    { facts: 'active, first invoice failed', is: { activeAt: day(0), invoices: [FAILED] }, proven: false },
    {
      facts: 'active, a later invoice of zero',
      is: { activeAt: day(0), invoices: [invoice({ paidAt: day(30) })] },
      proven: true,
    },
    {
      facts: 'active, first invoice known and not yet paid',
      is: { activeAt: day(0), invoices: [invoice({ first: true })] },
      proven: true,
    },
    { facts: 'a paid invoice alone', is: { invoices: [PAID] }, proven: true },
    {
      facts: 'a paid invoice after a trial',
      is: { activeAt: day(7), doubtAt: day(0), invoices: [PAID] },
      proven: true,
    },
    { facts: 'a paid invoice of a bank debit', is: { checkoutUnpaid: true, invoices: [PAID] }, proven: true },
    {
      facts: 'a first invoice that failed and was then paid',
      is: { invoices: [{ ...FAILED, ...PAID }] },
      proven: true,
    },
    { facts: 'a paid invoice of another product', is: { counted: false, invoices: [PAID] }, proven: false },
    { facts: 'another product, active', is: { counted: false, activeAt: day(0) }, proven: false },
  ])('$facts: proven is $proven', ({ is, proven }) => {
    expect(provesPayment({ ...NOTHING, ...is })).toBe(proven);
  });
});
