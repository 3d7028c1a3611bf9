import { randomUUID } from 'node:crypto';

import { DAY } from './server.ts';
import type { Person, TestServer } from './server.ts';

/**
 * Gives a new account many converted referrals, one second apart, starting at `from`. The friends get user rows, but no
 * credit and nothing at Stripe.
 */
export async function giveConversions(
  { db }: TestServer,
  person: Person,
  count: number,
  from: Date,
): Promise<void> {
  const template = await db.user.findUniqueOrThrow({ where: { id: person.id } });
  const friends = Array.from({ length: count }, (_, n) => ({
    id: randomUUID(),
    referral: randomUUID(),
    at: new Date(from.getTime() + n * 1000),
  }));
  await db.user.createMany({
    data: friends.map(({ id }) => ({ ...template, id, code: id, email: `${id}@example.com`, emailHash: id })),
  });
  await db.referral.createMany({
    data: friends.map(({ id, referral, at }) => ({
      id: referral,
      referrerId: person.id,
      referredId: id,
      referredHash: id,
      createdAt: at,
      convertedAt: at,
      creditedAt: at,
    })),
  });
  await db.creditEntry.createMany({
    data: friends.map(({ referral, at }, n) => ({
      userId: person.id,
      seq: n + 1,
      at,
      kind: 'grant',
      seconds: 45 * DAY,
      referralId: referral,
      causeId: referral,
    })),
  });
  await db.user.update({
    where: { id: person.id },
    data: {
      creditUntil: new Date(from.getTime() + count * 45 * DAY * 1000),
      creditEntryCount: count,
      creditEntryAt: friends.at(-1)?.at ?? null,
    },
  });
}
