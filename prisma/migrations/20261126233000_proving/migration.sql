-- AlterTable
ALTER TABLE "User" ADD COLUMN "pendingEmail" TEXT;
ALTER TABLE "User" ADD COLUMN "pendingEmailAt" DATETIME;

-- AlterTable
ALTER TABLE "ResetLink" ADD COLUMN "mailed" BOOLEAN NOT NULL DEFAULT false;
