-- RedefineTables: "userId" may be null. Nothing refers to this table.
CREATE TABLE "new_ResetLink" (
    "tokenHash" TEXT NOT NULL PRIMARY KEY,
    "userId" TEXT,
    "addressHash" TEXT,
    "expiresAt" DATETIME NOT NULL,
    "mailed" BOOLEAN NOT NULL DEFAULT false,
    "used" BOOLEAN NOT NULL DEFAULT false,
    CONSTRAINT "ResetLink_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);
INSERT INTO "new_ResetLink" ("tokenHash", "userId", "expiresAt", "mailed", "used")
SELECT "tokenHash", "userId", "expiresAt", "mailed", "used" FROM "ResetLink";
DROP TABLE "ResetLink";
ALTER TABLE "new_ResetLink" RENAME TO "ResetLink";

-- CreateIndex
CREATE INDEX "ResetLink_userId_idx" ON "ResetLink"("userId");

-- CreateIndex
CREATE INDEX "ResetLink_addressHash_idx" ON "ResetLink"("addressHash");
