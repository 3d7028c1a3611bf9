-- AlterTable
ALTER TABLE "User" ADD COLUMN "mailOff" BOOLEAN NOT NULL DEFAULT false;

-- CreateTable
CREATE TABLE "OutboxItem" (
    "id" TEXT COLLATE "C" NOT NULL,
    "kind" TEXT COLLATE "C" NOT NULL,
    "userId" TEXT COLLATE "C",
    "address" TEXT COLLATE "C",
    "data" TEXT COLLATE "C" NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL,
    "dueAt" TIMESTAMP(3) NOT NULL,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "status" TEXT COLLATE "C" NOT NULL,
    "endedAt" TIMESTAMP(3),
    "error" TEXT COLLATE "C",

    CONSTRAINT "OutboxItem_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "OutboxItem_status_check" CHECK ("status" IN ('queued', 'done', 'dropped', 'failed'))
);

-- CreateIndex
CREATE INDEX "User_creditUntil_idx" ON "User"("creditUntil");

-- CreateIndex
CREATE INDEX "OutboxItem_status_dueAt_idx" ON "OutboxItem"("status", "dueAt");

-- CreateIndex
CREATE INDEX "OutboxItem_userId_idx" ON "OutboxItem"("userId");

-- AddForeignKey
ALTER TABLE "OutboxItem" ADD CONSTRAINT "OutboxItem_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
