-- The CHECK constraint is written by hand, because Prisma's schema cannot express it.

-- AlterTable
ALTER TABLE "User" ADD COLUMN "emailSetAt" DATETIME;
ALTER TABLE "User" ADD COLUMN "emailProvenAt" DATETIME;

-- AlterTable
ALTER TABLE "Referral" ADD COLUMN "refusedFor" TEXT
    CONSTRAINT "Referral_refused_check" CHECK ("refusedFor" IS NULL OR ("refusedFor" IN ('own-address', 'address-converted') AND "convertedAt" IS NULL));

-- AlterTable
ALTER TABLE "Subscription" ADD COLUMN "trialHash" TEXT;
ALTER TABLE "Subscription" ADD COLUMN "trialRefused" BOOLEAN NOT NULL DEFAULT false;

-- AlterTable: only a converted referral keeps the address. SQLite cannot make a column nullable, so another one takes its
-- place; DROP TABLE would fail, because CreditEntry refers to this table.
DROP INDEX "Referral_referredHash_key";
ALTER TABLE "Referral" ADD COLUMN "convertedHash" TEXT;
UPDATE "Referral" SET "convertedHash" = "referredHash" WHERE "convertedAt" IS NOT NULL;
ALTER TABLE "Referral" DROP COLUMN "referredHash";
ALTER TABLE "Referral" RENAME COLUMN "convertedHash" TO "referredHash";
CREATE UNIQUE INDEX "Referral_referredHash_key" ON "Referral"("referredHash");

-- CreateIndex
CREATE UNIQUE INDEX "Subscription_trialHash_key" ON "Subscription"("trialHash");

-- A former or deleted address counts only if a payment was proven while the account had it. Of older accounts it is known
-- only whether they ever paid.
DELETE FROM "FormerAddress" WHERE "userId" NOT IN (
    SELECT c."userId" FROM "Customer" AS c JOIN "Subscription" AS s ON s."customerId" = c."id"
    WHERE c."userId" IS NOT NULL AND s."provenAt" IS NOT NULL
);
UPDATE "User" SET "emailHash" = '' WHERE "deletedAt" IS NOT NULL AND "id" NOT IN (
    SELECT c."userId" FROM "Customer" AS c JOIN "Subscription" AS s ON s."customerId" = c."id"
    WHERE c."userId" IS NOT NULL AND s."provenAt" IS NOT NULL
);

-- The earliest trial of an address is the one that it was given.
UPDATE "Subscription" SET "trialHash" = (
    SELECT u."emailHash" FROM "Customer" AS c JOIN "User" AS u ON u."id" = c."userId" WHERE c."id" = "Subscription"."customerId"
) WHERE "id" IN (
    SELECT "id" FROM (
        SELECT s."id", row_number() OVER (PARTITION BY u."emailHash" ORDER BY s."createdAt", s."id") AS "place"
        FROM "Subscription" AS s JOIN "Customer" AS c ON c."id" = s."customerId" JOIN "User" AS u ON u."id" = c."userId"
        WHERE s."trialEnd" IS NOT NULL AND u."emailHash" <> ''
    ) AS "trials" WHERE "place" = 1
);

-- Delete what requests in flight may have left behind in deleted accounts.
DELETE FROM "Session" WHERE "userId" IN (SELECT "id" FROM "User" WHERE "deletedAt" IS NOT NULL);
DELETE FROM "ResetLink" WHERE "userId" IN (SELECT "id" FROM "User" WHERE "deletedAt" IS NOT NULL);
DELETE FROM "Backup" WHERE "userId" IN (SELECT "id" FROM "User" WHERE "deletedAt" IS NOT NULL);

-- Addresses at Gmail are hashed without their dots from now on. SQL cannot compute the keyed hash, so the server hashes these
-- addresses again at its next start.
INSERT INTO "Setting" ("key", "value")
SELECT 'rehashAddresses', 'gmail.com' WHERE EXISTS (
    SELECT 1 FROM "User" WHERE "email" LIKE '%@gmail.com' OR "email" LIKE '%@googlemail.com'
);
