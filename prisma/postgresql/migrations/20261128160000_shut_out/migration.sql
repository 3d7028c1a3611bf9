-- AlterTable
ALTER TABLE "User" ADD COLUMN "shutOutUntil" TIMESTAMP(3);
