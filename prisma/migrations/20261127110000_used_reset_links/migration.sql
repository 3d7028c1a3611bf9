-- AlterTable
ALTER TABLE "ResetLink" ADD COLUMN "used" BOOLEAN NOT NULL DEFAULT false;
