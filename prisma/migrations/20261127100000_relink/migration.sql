-- The CHECK constraints are written by hand, because Prisma's schema cannot express them.

-- RedefineTables: SQLite cannot change a CHECK constraint. Nothing refers to this table.
CREATE TABLE "new_AuditRow" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "userId" TEXT NOT NULL,
    "at" DATETIME NOT NULL,
    "actor" TEXT NOT NULL,
    "kind" TEXT NOT NULL,
    "fromTier" TEXT,
    "toTier" TEXT,
    "seconds" INTEGER,
    "customerId" TEXT,
    "otherUserId" TEXT,
    "causeId" TEXT NOT NULL,
    "note" TEXT,
    CONSTRAINT "AuditRow_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User" ("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "AuditRow_actor_check" CHECK ("actor" IN ('stripe', 'operator')),
    CONSTRAINT "AuditRow_kind_check" CHECK ("kind" IN ('tier', 'credit', 'link', 'unlink')
        AND ("kind" = 'tier') = ("fromTier" IS NOT NULL) AND ("kind" = 'tier') = ("toTier" IS NOT NULL)
        AND ("kind" = 'credit') = ("seconds" IS NOT NULL)
        AND ("kind" IN ('link', 'unlink')) = ("customerId" IS NOT NULL)
        AND ("kind" IN ('link', 'unlink') OR "otherUserId" IS NULL))
);
INSERT INTO "new_AuditRow" ("id", "userId", "at", "actor", "kind", "fromTier", "toTier", "seconds", "causeId", "note")
SELECT "id", "userId", "at", "actor", "kind", "fromTier", "toTier", "seconds", "causeId", "note" FROM "AuditRow";
DROP TABLE "AuditRow";
ALTER TABLE "new_AuditRow" RENAME TO "AuditRow";
CREATE INDEX "AuditRow_userId_at_idx" ON "AuditRow"("userId", "at");
