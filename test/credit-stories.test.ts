import { describe, expect, test } from 'vitest';

import { grantCredit, ledgerOf } from '../src/credits/ledger.ts';
import { checkLedger } from '../src/credits/fold.ts';
import { lockUser } from '../src/db/lock-user.ts';
import { inTransaction } from '../src/db/transaction.ts';
import { DAY, daysAfter, deliverAll, signUp, START, startTestServer, userRow } from './support/server.ts';
import { buyer, stripeId } from './support/stripe-events.ts';

/** One person's story, told in days after START. */
async function story() {
  const server = await startTestServer();
  const person = await signUp(server, 'person@example.com');
  let stripe = buyer(person.id);

  return {
    server,
    person,
    pays: async (day: number) => {
      server.clock.now = daysAfter(day);
      stripe = buyer(person.id);
      await deliverAll(server, [stripe.checkoutCompleted(), stripe.created({}, { at: daysAfter(day) })]);
    },
    ends: async (day: number, heardOn = day) => {
      server.clock.now = daysAfter(heardOn);
      await deliverAll(server, [stripe.ended(daysAfter(day))]);
    },
    granted: async (day: number, days = 45) => {
      server.clock.now = daysAfter(day);
      await inTransaction(server.db, daysAfter(day), async (tx) => {
        const user = await lockUser(tx, person.id);
        if (!user) throw new Error('no such user');
        await grantCredit(tx, user, days * DAY, { id: stripeId('cause'), actor: 'operator' });
      });
    },
    credit: async () => {
      const { creditUntil, creditHeldAt } = await userRow(server, person.id);
      return { creditUntil, creditHeldAt };
    },
  };
}

describe("the stories of the design's table", () => {
  test('pays from 0, grant at 10, cancels at 40: until 85', async () => {
    const { pays, granted, ends, credit } = await story();
    await pays(0);
    await granted(10);
    expect(await credit()).toEqual({ creditUntil: daysAfter(55), creditHeldAt: daysAfter(10) });
    await ends(40);
    expect(await credit()).toEqual({ creditUntil: daysAfter(85), creditHeldAt: null });
  });

  test('pays from 0, grants at 10 and 70, ends at 100: until 190, nothing lost', async () => {
    const { pays, granted, ends, credit } = await story();
    await pays(0);
    await granted(10);
    await granted(70);
    expect(await credit()).toEqual({ creditUntil: daysAfter(160), creditHeldAt: daysAfter(70) });
    await ends(100);
    expect(await credit()).toEqual({ creditUntil: daysAfter(190), creditHeldAt: null });
  });

  test('the first story, pays again from 60, ends at 200: until 225', async () => {
    const { pays, granted, ends, credit } = await story();
    await pays(0);
    await granted(10);
    await ends(40);
    await pays(60);
    expect(await credit()).toEqual({ creditUntil: daysAfter(85), creditHeldAt: daysAfter(60) });
    await ends(200);
    expect(await credit()).toEqual({ creditUntil: daysAfter(225), creditHeldAt: null });
  });

  test('credit until 30, pays from 20, ends at 50: until 60', async () => {
    const { pays, granted, ends, credit } = await story();
    await granted(0, 30);
    await pays(20);
    expect(await credit()).toEqual({ creditUntil: daysAfter(30), creditHeldAt: daysAfter(20) });
    await ends(50);
    expect(await credit()).toEqual({ creditUntil: daysAfter(60), creditHeldAt: null });
  });
});

describe('when the paid time ended', () => {
  test('credit runs from then, not from when we heard of it', async () => {
    const { pays, granted, ends, credit } = await story();
    await pays(0);
    await granted(10);
    await ends(40, 43);
    expect(await credit()).toEqual({ creditUntil: daysAfter(85), creditHeldAt: null });
  });

  test('an end before the last entry of the ledger counts from that entry', async () => {
    const { pays, granted, ends, credit } = await story();
    await pays(0);
    await granted(10);
    await ends(5, 12);
    expect(await credit()).toEqual({ creditUntil: daysAfter(55), creditHeldAt: null });
  });

  test('an end in the future counts from now', async () => {
    const { pays, granted, ends, credit } = await story();
    await pays(0);
    await granted(10);
    await ends(50, 40);
    expect(await credit()).toEqual({ creditUntil: daysAfter(85), creditHeldAt: null });
  });
});

test('a grant whose clock is behind the last entry counts from that entry', async () => {
  const { granted, credit } = await story();
  await granted(10);
  await granted(9);
  expect(await credit()).toEqual({ creditUntil: daysAfter(100), creditHeldAt: null });
});

describe('the check of the ledger', () => {
  test('names what does not hold', async () => {
    const { server, person, pays, granted } = await story();
    await pays(0);
    await granted(10);
    const user = await userRow(server, person.id);
    const entries = await inTransaction(server.db, START, (tx) => ledgerOf(tx, person.id));
    expect(checkLedger(user, entries)).toEqual([]);
    expect(checkLedger({ ...user, creditUntil: daysAfter(56) }, entries)).toEqual([
      'the ledger folds to another creditUntil',
    ]);
    expect(checkLedger({ ...user, creditHeldAt: null }, entries)).toEqual([
      'the ledger folds to another creditHeldAt',
      'credit is not held exactly while the tier is paid',
    ]);
    expect(checkLedger(user, entries.slice(0, 1))).toContain(
      'the user counts another number of entries than there are',
    );
  });
});
