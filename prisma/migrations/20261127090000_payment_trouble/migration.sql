-- AlterTable
ALTER TABLE "Subscription" ADD COLUMN "endReason" TEXT;
ALTER TABLE "Subscription" ADD COLUMN "nextAttemptAt" DATETIME;
