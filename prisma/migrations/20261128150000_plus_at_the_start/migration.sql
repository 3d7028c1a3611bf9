-- In an address, a + at the very start begins no tag from now on. SQL cannot compute the keyed hash, so the server hashes
-- these addresses again at its next start.
INSERT INTO "Setting" ("key", "value")
SELECT 'rehashAddresses', '+' WHERE EXISTS (SELECT 1 FROM "User" WHERE "email" LIKE '+%')
ON CONFLICT DO NOTHING;
