-- AlterTable
ALTER TABLE "Customer" ADD COLUMN "retiredAt" TIMESTAMP(3);
ALTER TABLE "Subscription" ADD COLUMN "trialReleased" BOOLEAN NOT NULL DEFAULT false;

-- Until now, a trial was released when its hash was gone and its customer was deleted.
UPDATE "Subscription" SET "trialReleased" = true WHERE "trialEnd" IS NOT NULL AND "trialHash" IS NULL
    AND "customerId" IN (SELECT "id" FROM "Customer" WHERE "deletedAt" IS NOT NULL);

-- Customers are now retired instead of deleted. This retires those whose deletion was still owed.
UPDATE "Customer" SET "retiredAt" = date_trunc('second', CURRENT_TIMESTAMP AT TIME ZONE 'UTC') WHERE "deletedAt" IS NULL AND "userId" IN (
    SELECT "userId" FROM "OutboxItem" WHERE "kind" = 'stripe.delete-customer' AND "status" IN ('queued', 'failed')
);
DELETE FROM "OutboxItem" WHERE "kind" = 'stripe.delete-customer';
