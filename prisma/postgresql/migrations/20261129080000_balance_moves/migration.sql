-- AlterTable
ALTER TABLE "Customer" ADD COLUMN "balanceTo" TEXT;
ALTER TABLE "Customer" ADD COLUMN "balanceMovedAt" TIMESTAMP(3);
