-- AlterTable
ALTER TABLE "User" ADD COLUMN "mailOff" BOOLEAN NOT NULL DEFAULT false;

-- CreateTable
CREATE TABLE "OutboxItem" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "kind" TEXT NOT NULL,
    "userId" TEXT,
    "address" TEXT,
    "data" TEXT NOT NULL,
    "createdAt" DATETIME NOT NULL,
    "dueAt" DATETIME NOT NULL,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "status" TEXT NOT NULL,
    "endedAt" DATETIME,
    "error" TEXT,
    CONSTRAINT "OutboxItem_status_check" CHECK ("status" IN ('queued', 'done', 'dropped', 'failed')),
    CONSTRAINT "OutboxItem_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateIndex
CREATE INDEX "User_creditUntil_idx" ON "User"("creditUntil");

-- CreateIndex
CREATE INDEX "OutboxItem_status_dueAt_idx" ON "OutboxItem"("status", "dueAt");

-- CreateIndex
CREATE INDEX "OutboxItem_userId_idx" ON "OutboxItem"("userId");
