-- AlterTable
ALTER TABLE "Subscription" ADD COLUMN "moneyBack" BOOLEAN NOT NULL DEFAULT false;

UPDATE "Subscription" SET "moneyBack" = true WHERE "id" IN (
  SELECT i."subscriptionId" FROM "Invoice" AS i JOIN "Payment" AS p ON p."invoiceId" = i."id"
  WHERE p."refundedAt" IS NOT NULL OR EXISTS (SELECT 1 FROM "Dispute" AS d WHERE d."paymentId" = p."id")
);
