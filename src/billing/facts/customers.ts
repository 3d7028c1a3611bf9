import type { Customer } from '../../db/generated/client.ts';
import type { Tx } from '../../db/transaction.ts';
import { endSubscriptions } from './subscriptions.ts';

/**
 * Locks a customer's row until the transaction ends; one that is not known yet is inserted empty. Whatever is
 * derived from a customer's facts is read under this lock (design: rule 5).
 *
 * @param tx the open transaction
 * @param id Stripe's id of the customer
 * @returns the row as it is under the lock
 */
export async function lockCustomer(tx: Tx, id: string): Promise<Customer> {
  const [customer] = await tx.$queryRaw<[Customer]>`
    INSERT INTO "Customer" ("id") VALUES (${id})
    ON CONFLICT ("id") DO UPDATE SET "deletedAt" = "Customer"."deletedAt" RETURNING *`;
  return customer;
}

/**
 * Takes back that Stripe does not know a customer: it has just told of it.
 *
 * @param tx the open transaction
 * @param customer the locked customer
 */
export async function noteCustomerKnown(tx: Tx, customer: Customer): Promise<void> {
  if (customer.missingAt === null) return;
  await tx.customer.update({ where: { id: customer.id }, data: { missingAt: null } });
}

/**
 * Keeps that a customer was deleted at Stripe: its subscriptions are over for good, the link to its user stays.
 *
 * @param tx the open transaction
 * @param customer the locked customer
 * @param deletedAt when, UTC
 */
export async function endCustomer(tx: Tx, customer: Customer, deletedAt: Date): Promise<void> {
  await tx.customer.update({ where: { id: customer.id }, data: { deletedAt } });
  await endSubscriptions(tx, customer.id, deletedAt);
}
