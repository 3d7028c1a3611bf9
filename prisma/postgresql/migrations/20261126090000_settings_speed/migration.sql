-- DropIndex
DROP INDEX "Referral_referrerId_creditedAt_idx";

-- CreateIndex
CREATE INDEX "Referral_referrerId_creditedAt_reversedAt_idx" ON "Referral"("referrerId", "creditedAt", "reversedAt");

-- CreateIndex
CREATE INDEX "Referral_referrerId_createdAt_id_idx" ON "Referral"("referrerId", "createdAt" DESC, "id");
