-- AlterTable
ALTER TABLE "Subscription" ADD COLUMN "endReason" TEXT COLLATE "C";
ALTER TABLE "Subscription" ADD COLUMN "nextAttemptAt" TIMESTAMP(3);
