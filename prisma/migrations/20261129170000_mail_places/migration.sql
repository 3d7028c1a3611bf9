-- AlterTable
ALTER TABLE "OutboxItem" ADD COLUMN "sendingAt" DATETIME;
