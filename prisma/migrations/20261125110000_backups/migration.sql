-- AlterTable
ALTER TABLE "User" ADD COLUMN "creditEntriesSeen" INTEGER NOT NULL DEFAULT 0;

-- Mark existing ledger rows as seen, so that nobody is told of old ones.
UPDATE "User" SET "creditEntriesSeen" = "creditEntryCount";

-- CreateTable
CREATE TABLE "Backup" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "userId" TEXT NOT NULL,
    "number" INTEGER NOT NULL,
    "document" TEXT NOT NULL,
    "createdAt" DATETIME NOT NULL,
    CONSTRAINT "Backup_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);

-- CreateIndex
CREATE UNIQUE INDEX "Backup_userId_number_key" ON "Backup"("userId", "number");
