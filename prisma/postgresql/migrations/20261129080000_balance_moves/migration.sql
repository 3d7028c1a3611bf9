-- AlterTable
ALTER TABLE "Customer" ADD COLUMN "balanceTo" TEXT;
ALTER TABLE "Customer" ADD COLUMN "balanceMovedAt" TIMESTAMP(3);
ALTER TABLE "Customer" ADD COLUMN "balanceTries" INTEGER NOT NULL DEFAULT 0;
