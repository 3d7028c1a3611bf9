-- The CHECK constraints are written by hand, because Prisma's schema cannot express them.

-- CreateTable
CREATE TABLE "User" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "email" TEXT,
    "emailHash" TEXT NOT NULL,
    "passwordHash" TEXT,
    "code" TEXT NOT NULL,
    "tier" TEXT NOT NULL,
    "creditUntil" DATETIME,
    "creditHeldAt" DATETIME,
    "creditEntryCount" INTEGER NOT NULL,
    "creditEntryAt" DATETIME,
    "createdAt" DATETIME NOT NULL,
    "deletedAt" DATETIME,
    CONSTRAINT "User_tier_check" CHECK ("tier" IN ('free', 'trial', 'paid')),
    CONSTRAINT "User_held_while_paid_check" CHECK (("tier" = 'paid') = ("creditHeldAt" IS NOT NULL)),
    CONSTRAINT "User_account_or_tombstone_check" CHECK ("deletedAt" IS NOT NULL OR ("email" IS NOT NULL AND "passwordHash" IS NOT NULL)),
    CONSTRAINT "User_tombstone_holds_nothing_check" CHECK ("deletedAt" IS NULL OR ("email" IS NULL AND "passwordHash" IS NULL)),
    CONSTRAINT "User_creditEntryCount_check" CHECK ("creditEntryCount" >= 0),
    CONSTRAINT "User_creditEntryAt_check" CHECK (("creditEntryCount" = 0) = ("creditEntryAt" IS NULL))
);

-- CreateTable
CREATE TABLE "Session" (
    "tokenHash" TEXT NOT NULL PRIMARY KEY,
    "userId" TEXT NOT NULL,
    "expiresAt" DATETIME NOT NULL,
    CONSTRAINT "Session_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "ResetLink" (
    "tokenHash" TEXT NOT NULL PRIMARY KEY,
    "userId" TEXT NOT NULL,
    "expiresAt" DATETIME NOT NULL,
    CONSTRAINT "ResetLink_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Referral" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "referrerId" TEXT,
    "referredId" TEXT NOT NULL,
    "referredHash" TEXT NOT NULL,
    "createdAt" DATETIME NOT NULL,
    "convertedAt" DATETIME,
    "creditedAt" DATETIME,
    "reversedAt" DATETIME,
    CONSTRAINT "Referral_referrerId_fkey" FOREIGN KEY ("referrerId") REFERENCES "User" ("id") ON DELETE SET NULL ON UPDATE CASCADE,
    CONSTRAINT "Referral_referredId_fkey" FOREIGN KEY ("referredId") REFERENCES "User" ("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "Referral_not_oneself_check" CHECK ("referrerId" <> "referredId"),
    CONSTRAINT "Referral_converted_is_credited_check" CHECK (("convertedAt" IS NULL) = ("creditedAt" IS NULL)),
    CONSTRAINT "Referral_reversed_was_converted_check" CHECK ("reversedAt" IS NULL OR "convertedAt" IS NOT NULL)
);

-- CreateTable
CREATE TABLE "CreditEntry" (
    "userId" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    "at" DATETIME NOT NULL,
    "kind" TEXT NOT NULL,
    "seconds" INTEGER NOT NULL,
    "referralId" TEXT,
    "causeId" TEXT NOT NULL,

    PRIMARY KEY ("userId", "seq"),
    CONSTRAINT "CreditEntry_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User" ("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "CreditEntry_referralId_fkey" FOREIGN KEY ("referralId") REFERENCES "Referral" ("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "CreditEntry_kind_check" CHECK ("kind" IN ('grant', 'hold', 'resume', 'reversal', 'restoration')),
    CONSTRAINT "CreditEntry_seq_check" CHECK ("seq" >= 1),
    CONSTRAINT "CreditEntry_seconds_check" CHECK ("seconds" >= 0 AND ("kind" NOT IN ('hold', 'resume') OR "seconds" = 0) AND ("kind" <> 'grant' OR "seconds" > 0)),
    CONSTRAINT "CreditEntry_referral_check" CHECK ("kind" NOT IN ('reversal', 'restoration') OR "referralId" IS NOT NULL)
);

-- CreateTable
CREATE TABLE "Customer" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "userId" TEXT,
    "deletedAt" DATETIME,
    CONSTRAINT "Customer_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Subscription" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "customerId" TEXT NOT NULL,
    "status" TEXT,
    "createdAt" DATETIME,
    "priceId" TEXT,
    "currentPeriodEnd" DATETIME,
    "trialEnd" DATETIME,
    "cancelAt" DATETIME,
    "cancelAtPeriodEnd" BOOLEAN NOT NULL DEFAULT false,
    "endedAt" DATETIME,
    "snapshotAt" DATETIME,
    "snapshotEventId" TEXT,
    "needsReconcile" BOOLEAN NOT NULL DEFAULT false,
    "activeAt" DATETIME,
    "doubtAt" DATETIME,
    "checkoutUnpaid" BOOLEAN NOT NULL DEFAULT false,
    "provenAt" DATETIME,
    CONSTRAINT "Subscription_customerId_fkey" FOREIGN KEY ("customerId") REFERENCES "Customer" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Invoice" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "subscriptionId" TEXT,
    "first" BOOLEAN NOT NULL DEFAULT false,
    "positive" BOOLEAN NOT NULL DEFAULT false,
    "paidAt" DATETIME,
    CONSTRAINT "Invoice_subscriptionId_fkey" FOREIGN KEY ("subscriptionId") REFERENCES "Subscription" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Event" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "type" TEXT NOT NULL,
    "created" DATETIME NOT NULL,
    "receivedAt" DATETIME NOT NULL,
    "status" TEXT NOT NULL,
    "reason" TEXT,
    "error" TEXT,
    "payload" TEXT,
    CONSTRAINT "Event_status_check" CHECK ("status" IN ('applied', 'ignored', 'failed')),
    CONSTRAINT "Event_reason_check" CHECK (("status" = 'ignored') = ("reason" IS NOT NULL)),
    CONSTRAINT "Event_error_check" CHECK (("status" = 'failed') = ("error" IS NOT NULL))
);

-- CreateTable
CREATE TABLE "AuditRow" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "userId" TEXT NOT NULL,
    "at" DATETIME NOT NULL,
    "actor" TEXT NOT NULL,
    "kind" TEXT NOT NULL,
    "fromTier" TEXT,
    "toTier" TEXT,
    "seconds" INTEGER,
    "causeId" TEXT NOT NULL,
    "note" TEXT,
    CONSTRAINT "AuditRow_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User" ("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "AuditRow_actor_check" CHECK ("actor" IN ('stripe', 'operator')),
    CONSTRAINT "AuditRow_kind_check" CHECK (("kind" = 'tier' AND "fromTier" IS NOT NULL AND "toTier" IS NOT NULL AND "seconds" IS NULL) OR ("kind" = 'credit' AND "seconds" IS NOT NULL AND "fromTier" IS NULL AND "toTier" IS NULL))
);

-- CreateTable
CREATE TABLE "Setting" (
    "key" TEXT NOT NULL PRIMARY KEY,
    "value" TEXT NOT NULL
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
