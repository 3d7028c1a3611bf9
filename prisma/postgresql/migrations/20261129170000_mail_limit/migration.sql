-- AlterTable
ALTER TABLE "OutboxItem" ADD COLUMN "mailbox" TEXT COLLATE "C";

-- CreateIndex
CREATE INDEX "OutboxItem_mailbox_idx" ON "OutboxItem"("mailbox");
