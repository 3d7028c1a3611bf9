-- AlterTable
ALTER TABLE "Customer" ADD COLUMN "linkedAt" TIMESTAMP(3);

-- AlterTable
ALTER TABLE "Event" ADD COLUMN "appliedAt" TIMESTAMP(3);
