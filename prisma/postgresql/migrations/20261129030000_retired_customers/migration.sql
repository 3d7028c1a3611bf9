-- AlterTable
ALTER TABLE "Customer" ADD COLUMN "retiredAt" TIMESTAMP(3);
