-- AlterTable
ALTER TABLE "OutboxItem" ADD COLUMN "mailbox" TEXT;

-- CreateIndex
CREATE INDEX "OutboxItem_mailbox_idx" ON "OutboxItem"("mailbox");
