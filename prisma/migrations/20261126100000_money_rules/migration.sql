-- Written by hand, because Prisma's schema cannot express it: the CHECK constraint.

-- AlterTable
ALTER TABLE "Subscription" ADD COLUMN "givesSince" DATETIME;
ALTER TABLE "Subscription" ADD COLUMN "gaveOtherwiseAt" DATETIME;
ALTER TABLE "Subscription" ADD COLUMN "counted" BOOLEAN NOT NULL DEFAULT true;
ALTER TABLE "Subscription" ADD COLUMN "counts" BOOLEAN NOT NULL DEFAULT true CONSTRAINT "Subscription_counts_was_counted_check" CHECK (NOT "counts" OR "counted");

-- Subscriptions from before these columns existed count. If one was once active and gives
-- no paid tier now, assume that it gave one until its present status was first seen.
UPDATE "Subscription" SET
    "givesSince" = COALESCE("statusAt", "snapshotAt"),
    "gaveOtherwiseAt" = CASE WHEN "status" = 'active' OR ("status" = 'past_due' AND "provenAt" IS NOT NULL) THEN NULL ELSE "activeAt" END
WHERE "status" IS NOT NULL;
