-- Written by hand, because Prisma's schema cannot express them: the CHECK constraints, and the foreign keys that are checked at
-- the commit (DEFERRABLE), so that a fact can be stored before the row it points at is made in the same transaction.

-- AlterTable
ALTER TABLE "Subscription" ADD COLUMN "firstPaidAt" DATETIME;
ALTER TABLE "Subscription" ADD COLUMN "statusAt" DATETIME;
UPDATE "Subscription" SET
    "statusAt" = "snapshotAt",
    "firstPaidAt" = (SELECT MIN("paidAt") FROM "Invoice" WHERE "subscriptionId" = "Subscription"."id" AND "positive");

-- AlterTable
ALTER TABLE "Event" ADD COLUMN "thinned" BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE "Event" ADD COLUMN "customerId" TEXT;
UPDATE "Event" SET "customerId" = json_extract("payload", '$.data.object.customer')
WHERE json_type("payload", '$.data.object.customer') = 'text';

-- CreateTable
CREATE TABLE "FormerAddress" (
    "userId" TEXT NOT NULL,
    "emailHash" TEXT NOT NULL,

    PRIMARY KEY ("userId", "emailHash"),
    CONSTRAINT "FormerAddress_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Payment" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "invoiceId" TEXT,
    "firstRefundedAt" DATETIME,
    "refundedAt" DATETIME,
    "refundFailedAt" DATETIME,
    CONSTRAINT "Payment_refundedAt_check" CHECK (("firstRefundedAt" IS NULL) = ("refundedAt" IS NULL) AND ("refundedAt" IS NULL OR "firstRefundedAt" <= "refundedAt")),
    CONSTRAINT "Payment_invoiceId_fkey" FOREIGN KEY ("invoiceId") REFERENCES "Invoice" ("id") ON DELETE RESTRICT ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED
);

-- CreateTable
CREATE TABLE "Dispute" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "paymentId" TEXT NOT NULL,
    "createdAt" DATETIME NOT NULL,
    "status" TEXT NOT NULL,
    "snapshotAt" DATETIME NOT NULL,
    CONSTRAINT "Dispute_paymentId_fkey" FOREIGN KEY ("paymentId") REFERENCES "Payment" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Checkout" (
    "userId" TEXT NOT NULL PRIMARY KEY,
    "id" TEXT NOT NULL,
    "plan" TEXT NOT NULL,
    "priceId" TEXT NOT NULL,
    "trialDays" INTEGER NOT NULL,
    "sessionId" TEXT,
    "createdAt" DATETIME NOT NULL,
    CONSTRAINT "Checkout_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    CONSTRAINT "Checkout_plan_check" CHECK ("plan" IN ('monthly', 'annual'))
);

-- RedefineTables
PRAGMA defer_foreign_keys=ON;
PRAGMA foreign_keys=OFF;
CREATE TABLE "new_Invoice" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "subscriptionId" TEXT,
    "first" BOOLEAN NOT NULL DEFAULT false,
    "positive" BOOLEAN NOT NULL DEFAULT false,
    "paidAt" DATETIME,
    "failedAt" DATETIME,
    CONSTRAINT "Invoice_subscriptionId_fkey" FOREIGN KEY ("subscriptionId") REFERENCES "Subscription" ("id") ON DELETE RESTRICT ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "Invoice_positive_is_paid_check" CHECK (NOT "positive" OR "paidAt" IS NOT NULL)
);
INSERT INTO "new_Invoice" ("id", "subscriptionId", "first", "positive", "paidAt") SELECT "id", "subscriptionId", "first", "positive", "paidAt" FROM "Invoice";
DROP TABLE "Invoice";
ALTER TABLE "new_Invoice" RENAME TO "Invoice";
CREATE INDEX "Invoice_subscriptionId_idx" ON "Invoice"("subscriptionId");
PRAGMA foreign_keys=ON;
PRAGMA defer_foreign_keys=OFF;

-- CreateIndex
CREATE INDEX "Event_customerId_idx" ON "Event"("customerId");

-- CreateIndex
CREATE INDEX "FormerAddress_emailHash_idx" ON "FormerAddress"("emailHash");

-- CreateIndex
CREATE INDEX "Payment_invoiceId_idx" ON "Payment"("invoiceId");

-- CreateIndex
CREATE INDEX "Dispute_paymentId_idx" ON "Dispute"("paymentId");

-- CreateIndex
CREATE UNIQUE INDEX "Checkout_id_key" ON "Checkout"("id");
