-- AlterTable
ALTER TABLE "Customer" ADD COLUMN "retiredAt" DATETIME;
