-- AlterTable
ALTER TABLE "ResetLink" ALTER COLUMN "userId" DROP NOT NULL,
ADD COLUMN "addressHash" TEXT COLLATE "C";

-- CreateIndex
CREATE INDEX "ResetLink_addressHash_idx" ON "ResetLink"("addressHash");
