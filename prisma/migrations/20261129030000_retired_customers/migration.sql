-- AlterTable
ALTER TABLE "Customer" ADD COLUMN "retiredAt" DATETIME;
ALTER TABLE "Subscription" ADD COLUMN "trialReleased" BOOLEAN NOT NULL DEFAULT false;

-- Until now, a trial was released when its hash was gone and its customer was deleted.
UPDATE "Subscription" SET "trialReleased" = true WHERE "trialEnd" IS NOT NULL AND "trialHash" IS NULL
    AND "customerId" IN (SELECT "id" FROM "Customer" WHERE "deletedAt" IS NOT NULL);

-- Customers are now retired instead of deleted. This retires those whose deletion was still owed.
UPDATE "Customer" SET "retiredAt" = strftime('%Y-%m-%dT%H:%M:%S.000+00:00', 'now') WHERE "deletedAt" IS NULL AND "userId" IN (
    SELECT "userId" FROM "OutboxItem" WHERE "kind" = 'stripe.delete-customer' AND "status" IN ('queued', 'failed')
);
DELETE FROM "OutboxItem" WHERE "kind" = 'stripe.delete-customer';
