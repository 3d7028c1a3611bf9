-- AlterTable
ALTER TABLE "User" ADD COLUMN "shutOutUntil" DATETIME;
