-- AlterTable
ALTER TABLE "Customer" ADD COLUMN "balanceTo" TEXT COLLATE "C";
ALTER TABLE "Customer" ADD COLUMN "balanceMovedAt" TIMESTAMP(3);
ALTER TABLE "Customer" ADD COLUMN "balanceTries" INTEGER NOT NULL DEFAULT 0;
ALTER TABLE "Customer" ADD COLUMN "ours" BOOLEAN NOT NULL DEFAULT false;

-- Until now, nothing told who had created a customer.
UPDATE "Customer" SET "ours" = true WHERE "userId" IS NOT NULL;
