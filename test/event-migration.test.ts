import { expect, test } from 'vitest';

import { oldDatabase } from './support/old-database.ts';

const AT = "'2027-01-10T09:00:00.000+00:00'";

function stored(id: string, type: string, object: object | null, customerId: string | null = null): string {
  // An escaped NUL is valid JSON, but PostgreSQL cannot read it.
  const payload = object && JSON.stringify({ id, type, data: { object: { ...object, note: '\0' } } });
  const text = (value: string | null): string => (value === null ? 'NULL' : `'${value}'`);
  return `INSERT INTO "Event" ("id", "type", "created", "receivedAt", "status", "payload", "customerId")
    VALUES ('${id}', '${type}', ${AT}, ${AT}, 'applied', ${text(payload)}, ${text(customerId)});`;
}

test('events stored before the upgrade are found by their invoice or payment afterwards', async () => {
  const { database, migrate } = await oldDatabase('20261127220000_event_about');
  await database.run(
    [
      stored('1', 'invoice_payment.paid', { invoice: 'in_1', payment: { payment_intent: 'pi_1' } }),
      stored('2', 'charge.dispute.created', { payment_intent: 'pi_1', charge: 'ch_1' }),
      stored('3', 'charge.dispute.closed', { payment_intent: null, charge: 'ch_1' }),
      stored('4', 'refund.updated', { payment_intent: 'pi_1' }),
      stored('5', 'charge.refund.updated', { charge: 'ch_1' }),
      stored('6', 'charge.refunded', { payment_intent: 'pi_1' }, 'cus_1'),
      stored('7', 'product.created', { id: 'prod_1' }),
      stored('8', 'refund.failed', null),
    ].join('\n'),
  );
  await migrate();
  const rows = await database.rows('SELECT "id", "aboutId" FROM "Event" ORDER BY "id"');
  expect(rows.map(({ id, aboutId }) => [id, aboutId])).toEqual([
    ['1', 'in_1'],
    ['2', 'pi_1'],
    ['3', 'ch_1'],
    ['4', 'pi_1'],
    ['5', 'ch_1'],
    ['6', null],
    ['7', null],
    ['8', null],
  ]);
});
