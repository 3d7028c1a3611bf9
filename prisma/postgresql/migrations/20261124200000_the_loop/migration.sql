-- Written by hand: the CHECK constraints, which Prisma's schema cannot express, and the collation, so that text has
-- the same order as on SQLite whatever the server's locale is.

-- CreateTable
CREATE TABLE "User" (
    "id" TEXT COLLATE "C" NOT NULL,
    "email" TEXT COLLATE "C",
    "emailHash" TEXT COLLATE "C" NOT NULL,
    "passwordHash" TEXT COLLATE "C",
    "code" TEXT COLLATE "C" NOT NULL,
    "tier" TEXT COLLATE "C" NOT NULL,
    "creditUntil" TIMESTAMP(3),
    "creditHeldAt" TIMESTAMP(3),
    "creditEntryCount" INTEGER NOT NULL,
    "creditEntryAt" TIMESTAMP(3),
    "createdAt" TIMESTAMP(3) NOT NULL,
    "deletedAt" TIMESTAMP(3),

    CONSTRAINT "User_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "User_tier_check" CHECK ("tier" IN ('free', 'trial', 'paid')),
    CONSTRAINT "User_held_while_paid_check" CHECK (("tier" = 'paid') = ("creditHeldAt" IS NOT NULL)),
    CONSTRAINT "User_account_or_tombstone_check" CHECK ("deletedAt" IS NOT NULL OR ("email" IS NOT NULL AND "passwordHash" IS NOT NULL)),
    CONSTRAINT "User_tombstone_holds_nothing_check" CHECK ("deletedAt" IS NULL OR ("email" IS NULL AND "passwordHash" IS NULL)),
    CONSTRAINT "User_creditEntryCount_check" CHECK ("creditEntryCount" >= 0),
    CONSTRAINT "User_creditEntryAt_check" CHECK (("creditEntryCount" = 0) = ("creditEntryAt" IS NULL))
);

-- CreateTable
CREATE TABLE "Session" (
    "tokenHash" TEXT COLLATE "C" NOT NULL,
    "userId" TEXT COLLATE "C" NOT NULL,
    "expiresAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Session_pkey" PRIMARY KEY ("tokenHash")
);

-- CreateTable
CREATE TABLE "ResetLink" (
    "tokenHash" TEXT COLLATE "C" NOT NULL,
    "userId" TEXT COLLATE "C" NOT NULL,
    "expiresAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "ResetLink_pkey" PRIMARY KEY ("tokenHash")
);

-- CreateTable
CREATE TABLE "Referral" (
    "id" TEXT COLLATE "C" NOT NULL,
    "referrerId" TEXT COLLATE "C",
    "referredId" TEXT COLLATE "C" NOT NULL,
    "referredHash" TEXT COLLATE "C" NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL,
    "convertedAt" TIMESTAMP(3),
    "creditedAt" TIMESTAMP(3),
    "reversedAt" TIMESTAMP(3),

    CONSTRAINT "Referral_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "Referral_not_oneself_check" CHECK ("referrerId" <> "referredId"),
    CONSTRAINT "Referral_converted_is_credited_check" CHECK (("convertedAt" IS NULL) = ("creditedAt" IS NULL)),
    CONSTRAINT "Referral_reversed_was_converted_check" CHECK ("reversedAt" IS NULL OR "convertedAt" IS NOT NULL)
);

-- CreateTable
CREATE TABLE "CreditEntry" (
    "userId" TEXT COLLATE "C" NOT NULL,
    "seq" INTEGER NOT NULL,
    "at" TIMESTAMP(3) NOT NULL,
    "kind" TEXT COLLATE "C" NOT NULL,
    "seconds" INTEGER NOT NULL,
    "referralId" TEXT COLLATE "C",
    "causeId" TEXT COLLATE "C" NOT NULL,

    CONSTRAINT "CreditEntry_pkey" PRIMARY KEY ("userId","seq"),
    CONSTRAINT "CreditEntry_kind_check" CHECK ("kind" IN ('grant', 'hold', 'resume', 'reversal', 'restoration')),
    CONSTRAINT "CreditEntry_seq_check" CHECK ("seq" >= 1),
    CONSTRAINT "CreditEntry_seconds_check" CHECK ("seconds" >= 0 AND ("kind" NOT IN ('hold', 'resume') OR "seconds" = 0) AND ("kind" <> 'grant' OR "seconds" > 0)),
    CONSTRAINT "CreditEntry_referral_check" CHECK ("kind" NOT IN ('reversal', 'restoration') OR "referralId" IS NOT NULL)
);

-- CreateTable
CREATE TABLE "Customer" (
    "id" TEXT COLLATE "C" NOT NULL,
    "userId" TEXT COLLATE "C",
    "deletedAt" TIMESTAMP(3),

    CONSTRAINT "Customer_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "Subscription" (
    "id" TEXT COLLATE "C" NOT NULL,
    "customerId" TEXT COLLATE "C" NOT NULL,
    "status" TEXT COLLATE "C",
    "createdAt" TIMESTAMP(3),
    "priceId" TEXT COLLATE "C",
    "currentPeriodEnd" TIMESTAMP(3),
    "trialEnd" TIMESTAMP(3),
    "cancelAt" TIMESTAMP(3),
    "cancelAtPeriodEnd" BOOLEAN NOT NULL DEFAULT false,
    "endedAt" TIMESTAMP(3),
    "snapshotAt" TIMESTAMP(3),
    "snapshotEventId" TEXT COLLATE "C",
    "needsReconcile" BOOLEAN NOT NULL DEFAULT false,
    "activeAt" TIMESTAMP(3),
    "doubtAt" TIMESTAMP(3),
    "checkoutUnpaid" BOOLEAN NOT NULL DEFAULT false,
    "provenAt" TIMESTAMP(3),

    CONSTRAINT "Subscription_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "Invoice" (
    "id" TEXT COLLATE "C" NOT NULL,
    "subscriptionId" TEXT COLLATE "C",
    "first" BOOLEAN NOT NULL DEFAULT false,
    "positive" BOOLEAN NOT NULL DEFAULT false,
    "paidAt" TIMESTAMP(3),

    CONSTRAINT "Invoice_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "Event" (
    "id" TEXT COLLATE "C" NOT NULL,
    "type" TEXT COLLATE "C" NOT NULL,
    "created" TIMESTAMP(3) NOT NULL,
    "receivedAt" TIMESTAMP(3) NOT NULL,
    "status" TEXT COLLATE "C" NOT NULL,
    "reason" TEXT COLLATE "C",
    "error" TEXT COLLATE "C",
    "payload" TEXT COLLATE "C",

    CONSTRAINT "Event_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "Event_status_check" CHECK ("status" IN ('applied', 'ignored', 'failed')),
    CONSTRAINT "Event_reason_check" CHECK (("status" = 'ignored') = ("reason" IS NOT NULL)),
    CONSTRAINT "Event_error_check" CHECK (("status" = 'failed') = ("error" IS NOT NULL))
);

-- CreateTable
CREATE TABLE "AuditRow" (
    "id" TEXT COLLATE "C" NOT NULL,
    "userId" TEXT COLLATE "C" NOT NULL,
    "at" TIMESTAMP(3) NOT NULL,
    "actor" TEXT COLLATE "C" NOT NULL,
    "kind" TEXT COLLATE "C" NOT NULL,
    "fromTier" TEXT COLLATE "C",
    "toTier" TEXT COLLATE "C",
    "seconds" INTEGER,
    "causeId" TEXT COLLATE "C" NOT NULL,
    "note" TEXT COLLATE "C",

    CONSTRAINT "AuditRow_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "AuditRow_actor_check" CHECK ("actor" IN ('stripe', 'operator')),
    CONSTRAINT "AuditRow_kind_check" CHECK (("kind" = 'tier' AND "fromTier" IS NOT NULL AND "toTier" IS NOT NULL AND "seconds" IS NULL) OR ("kind" = 'credit' AND "seconds" IS NOT NULL AND "fromTier" IS NULL AND "toTier" IS NULL))
);

-- CreateTable
CREATE TABLE "Setting" (
    "key" TEXT COLLATE "C" NOT NULL,
    "value" TEXT COLLATE "C" NOT NULL,

    CONSTRAINT "Setting_pkey" PRIMARY KEY ("key")
);

-- CreateIndex
CREATE UNIQUE INDEX "User_email_key" ON "User"("email");

-- CreateIndex
CREATE UNIQUE INDEX "User_code_key" ON "User"("code");

-- CreateIndex
CREATE INDEX "User_emailHash_idx" ON "User"("emailHash");

-- CreateIndex
CREATE INDEX "Session_userId_idx" ON "Session"("userId");

-- CreateIndex
CREATE INDEX "Session_expiresAt_idx" ON "Session"("expiresAt");

-- CreateIndex
CREATE INDEX "ResetLink_userId_idx" ON "ResetLink"("userId");

-- CreateIndex
CREATE UNIQUE INDEX "Referral_referredId_key" ON "Referral"("referredId");

-- CreateIndex
CREATE UNIQUE INDEX "Referral_referredHash_key" ON "Referral"("referredHash");

-- CreateIndex
CREATE INDEX "Referral_referrerId_creditedAt_idx" ON "Referral"("referrerId", "creditedAt");

-- CreateIndex
CREATE INDEX "CreditEntry_referralId_idx" ON "CreditEntry"("referralId");

-- CreateIndex
CREATE UNIQUE INDEX "CreditEntry_userId_kind_causeId_key" ON "CreditEntry"("userId", "kind", "causeId");

-- CreateIndex
CREATE INDEX "Customer_userId_idx" ON "Customer"("userId");

-- CreateIndex
CREATE INDEX "Subscription_customerId_idx" ON "Subscription"("customerId");

-- CreateIndex
CREATE INDEX "Subscription_needsReconcile_idx" ON "Subscription"("needsReconcile");

-- CreateIndex
CREATE INDEX "Invoice_subscriptionId_idx" ON "Invoice"("subscriptionId");

-- CreateIndex
CREATE INDEX "Event_status_receivedAt_idx" ON "Event"("status", "receivedAt");

-- CreateIndex
CREATE INDEX "AuditRow_userId_at_idx" ON "AuditRow"("userId", "at");

-- AddForeignKey
ALTER TABLE "Session" ADD CONSTRAINT "Session_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "ResetLink" ADD CONSTRAINT "ResetLink_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Referral" ADD CONSTRAINT "Referral_referrerId_fkey" FOREIGN KEY ("referrerId") REFERENCES "User"("id") ON DELETE SET NULL ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Referral" ADD CONSTRAINT "Referral_referredId_fkey" FOREIGN KEY ("referredId") REFERENCES "User"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "CreditEntry" ADD CONSTRAINT "CreditEntry_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "CreditEntry" ADD CONSTRAINT "CreditEntry_referralId_fkey" FOREIGN KEY ("referralId") REFERENCES "Referral"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Customer" ADD CONSTRAINT "Customer_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Subscription" ADD CONSTRAINT "Subscription_customerId_fkey" FOREIGN KEY ("customerId") REFERENCES "Customer"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Invoice" ADD CONSTRAINT "Invoice_subscriptionId_fkey" FOREIGN KEY ("subscriptionId") REFERENCES "Subscription"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "AuditRow" ADD CONSTRAINT "AuditRow_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
