-- The CHECK constraint is written by hand, because Prisma's schema cannot express it.

-- AlterTable
ALTER TABLE "AuditRow"
    ADD COLUMN "customerId" TEXT COLLATE "C",
    ADD COLUMN "otherUserId" TEXT COLLATE "C",
    DROP CONSTRAINT "AuditRow_kind_check",
    ADD CONSTRAINT "AuditRow_kind_check" CHECK ("kind" IN ('tier', 'credit', 'link', 'unlink')
        AND ("kind" = 'tier') = ("fromTier" IS NOT NULL) AND ("kind" = 'tier') = ("toTier" IS NOT NULL)
        AND ("kind" = 'credit') = ("seconds" IS NOT NULL)
        AND ("kind" IN ('link', 'unlink')) = ("customerId" IS NOT NULL)
        AND ("kind" IN ('link', 'unlink') OR "otherUserId" IS NULL));
