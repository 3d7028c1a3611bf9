-- AlterTable
ALTER TABLE "Customer" ADD COLUMN "missingAt" TIMESTAMP(3);

-- AlterTable
ALTER TABLE "Subscription" ADD COLUMN "otherItems" TEXT COLLATE "C";
ALTER TABLE "Subscription" ADD COLUMN "collectionPaused" BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE "Subscription" ADD COLUMN "collectionResumesAt" TIMESTAMP(3);
ALTER TABLE "Subscription" ADD COLUMN "missingAt" TIMESTAMP(3);
