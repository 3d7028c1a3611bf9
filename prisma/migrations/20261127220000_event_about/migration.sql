-- AlterTable
ALTER TABLE "Event" ADD COLUMN "aboutId" TEXT;

-- Events stored before this column.
UPDATE "Event" SET "aboutId" = "payload" -> 'data' -> 'object' ->> 'invoice'
WHERE "customerId" IS NULL AND "payload" IS NOT NULL AND "type" LIKE 'invoice_payment.%';
UPDATE "Event" SET "aboutId" = coalesce(
  "payload" -> 'data' -> 'object' ->> 'payment_intent', "payload" -> 'data' -> 'object' ->> 'charge')
WHERE "customerId" IS NULL AND "payload" IS NOT NULL
  AND ("type" LIKE 'charge.dispute.%' OR "type" LIKE 'charge.refund.%' OR "type" LIKE 'refund.%');

-- CreateIndex
CREATE INDEX "Event_aboutId_idx" ON "Event"("aboutId");

-- DropIndex
DROP INDEX "OutboxItem_userId_idx";

-- CreateIndex
CREATE INDEX "OutboxItem_userId_status_endedAt_idx" ON "OutboxItem"("userId", "status", "endedAt");
