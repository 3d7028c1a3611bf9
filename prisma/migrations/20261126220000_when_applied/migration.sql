-- AlterTable
ALTER TABLE "Customer" ADD COLUMN "linkedAt" DATETIME;

-- AlterTable
ALTER TABLE "Event" ADD COLUMN "appliedAt" DATETIME;
