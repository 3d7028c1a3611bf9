-- Written by hand, as in ../../../migrations: the CHECK constraints, the collation, and the foreign keys that are checked at
-- the commit. No database of this engine is older than this migration: there are no rows to bring up to date.

-- AlterTable
ALTER TABLE "Subscription" ADD COLUMN     "firstPaidAt" TIMESTAMP(3),
ADD COLUMN     "statusAt" TIMESTAMP(3);

-- AlterTable
ALTER TABLE "Invoice" ADD COLUMN     "failedAt" TIMESTAMP(3),
ADD CONSTRAINT "Invoice_positive_is_paid_check" CHECK (NOT "positive" OR "paidAt" IS NOT NULL),
ALTER CONSTRAINT "Invoice_subscriptionId_fkey" DEFERRABLE INITIALLY DEFERRED;

-- AlterTable
ALTER TABLE "Event" ADD COLUMN     "customerId" TEXT COLLATE "C",
ADD COLUMN     "thinned" BOOLEAN NOT NULL DEFAULT false;

-- CreateTable
CREATE TABLE "FormerAddress" (
    "userId" TEXT COLLATE "C" NOT NULL,
    "emailHash" TEXT COLLATE "C" NOT NULL,

    CONSTRAINT "FormerAddress_pkey" PRIMARY KEY ("userId","emailHash")
);

-- CreateTable
CREATE TABLE "Payment" (
    "id" TEXT COLLATE "C" NOT NULL,
    "invoiceId" TEXT COLLATE "C",
    "firstRefundedAt" TIMESTAMP(3),
    "refundedAt" TIMESTAMP(3),
    "refundFailedAt" TIMESTAMP(3),

    CONSTRAINT "Payment_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "Payment_refundedAt_check" CHECK (("firstRefundedAt" IS NULL) = ("refundedAt" IS NULL) AND ("refundedAt" IS NULL OR "firstRefundedAt" <= "refundedAt"))
);

-- CreateTable
CREATE TABLE "Dispute" (
    "id" TEXT COLLATE "C" NOT NULL,
    "paymentId" TEXT COLLATE "C" NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL,
    "status" TEXT COLLATE "C" NOT NULL,
    "snapshotAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Dispute_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "Checkout" (
    "userId" TEXT COLLATE "C" NOT NULL,
    "id" TEXT COLLATE "C" NOT NULL,
    "plan" TEXT COLLATE "C" NOT NULL,
    "priceId" TEXT COLLATE "C" NOT NULL,
    "trialDays" INTEGER NOT NULL,
    "sessionId" TEXT COLLATE "C",
    "createdAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Checkout_pkey" PRIMARY KEY ("userId"),
    CONSTRAINT "Checkout_plan_check" CHECK ("plan" IN ('monthly', 'annual'))
);

-- CreateIndex
CREATE INDEX "FormerAddress_emailHash_idx" ON "FormerAddress"("emailHash");

-- CreateIndex
CREATE INDEX "Payment_invoiceId_idx" ON "Payment"("invoiceId");

-- CreateIndex
CREATE INDEX "Dispute_paymentId_idx" ON "Dispute"("paymentId");

-- CreateIndex
CREATE UNIQUE INDEX "Checkout_id_key" ON "Checkout"("id");

-- CreateIndex
CREATE INDEX "Event_customerId_idx" ON "Event"("customerId");

-- AddForeignKey
ALTER TABLE "FormerAddress" ADD CONSTRAINT "FormerAddress_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Payment" ADD CONSTRAINT "Payment_invoiceId_fkey" FOREIGN KEY ("invoiceId") REFERENCES "Invoice"("id") ON DELETE RESTRICT ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED;

-- AddForeignKey
ALTER TABLE "Dispute" ADD CONSTRAINT "Dispute_paymentId_fkey" FOREIGN KEY ("paymentId") REFERENCES "Payment"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Checkout" ADD CONSTRAINT "Checkout_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE CASCADE ON UPDATE CASCADE;
