-- AlterTable
ALTER TABLE "Event" ADD COLUMN "aboutId" TEXT COLLATE "C";

-- Events stored before this column. PostgreSQL cannot extract text from JSON with an escaped NUL or a lone surrogate,
-- so this disables all \u escapes first. Ids contain none.
UPDATE "Event" SET "aboutId" = replace("payload", '\u', '/u')::json -> 'data' -> 'object' ->> 'invoice'
WHERE "customerId" IS NULL AND "payload" IS NOT NULL AND "type" LIKE 'invoice_payment.%';
UPDATE "Event" SET "aboutId" = coalesce(
  replace("payload", '\u', '/u')::json -> 'data' -> 'object' ->> 'payment_intent', replace("payload", '\u', '/u')::json -> 'data' -> 'object' ->> 'charge')
WHERE "customerId" IS NULL AND "payload" IS NOT NULL
  AND ("type" LIKE 'charge.dispute.%' OR "type" LIKE 'charge.refund.%' OR "type" LIKE 'refund.%');

-- CreateIndex
CREATE INDEX "Event_aboutId_idx" ON "Event"("aboutId");

-- DropIndex
DROP INDEX "OutboxItem_userId_idx";

-- CreateIndex
CREATE INDEX "OutboxItem_userId_status_endedAt_idx" ON "OutboxItem"("userId", "status", "endedAt");
