-- AlterTable
ALTER TABLE "OutboxItem" ADD COLUMN "sendingAt" TIMESTAMP(3);
