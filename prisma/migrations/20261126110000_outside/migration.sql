-- AlterTable
ALTER TABLE "Customer" ADD COLUMN "missingAt" DATETIME;

-- AlterTable
ALTER TABLE "Subscription" ADD COLUMN "otherItems" TEXT;
ALTER TABLE "Subscription" ADD COLUMN "collectionPaused" BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE "Subscription" ADD COLUMN "collectionResumesAt" DATETIME;
ALTER TABLE "Subscription" ADD COLUMN "missingAt" DATETIME;
