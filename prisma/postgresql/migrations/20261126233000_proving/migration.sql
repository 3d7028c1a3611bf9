-- AlterTable
ALTER TABLE "User" ADD COLUMN "pendingEmail" TEXT COLLATE "C";
ALTER TABLE "User" ADD COLUMN "pendingEmailAt" TIMESTAMP(3);

-- AlterTable
ALTER TABLE "ResetLink" ADD COLUMN "mailed" BOOLEAN NOT NULL DEFAULT false;
