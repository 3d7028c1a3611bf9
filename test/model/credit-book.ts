import { expect } from 'vitest';

import { DAY } from '../support/server.ts';
import type { World } from '../support/stand-in.ts';
import { lookAtUsers, whatHolds, whoPays } from './oracle.ts';
import type { UsersAtStripe } from './oracle.ts';

const CONVERSION_SECONDS = 45 * DAY;

/** One grant and what is left of it. */
interface Lot {
  referralId: string | null;
  left: number;
}

interface Purse {
  /** Oldest first: the oldest is spent first. */
  lots: Lot[];
  paying: boolean;
  /** What the last reversal of a referral took. */
  taken: Map<string, number>;
}

/**
 * Every user's credit, kept second by second beside the server. It uses only who pays and which payments hold at
 * Stripe, not the server's facts or ledgers. It is right where each event is delivered in the second it happens: an
 * event heard late can hold credit for longer.
 */
export class CreditBook {
  readonly #world: World;
  readonly #purses = new Map<string, Purse>();
  /** Whether each referral that ever converted holds now. */
  readonly #conversions = new Map<string, boolean>();
  #at: number;

  constructor(world: World) {
    this.#world = world;
    this.#at = world.clock.now.getTime();
  }

  /** Days granted by an operator now. */
  grant(userId: string, days: number): void {
    this.#purse(userId).lots.push({ referralId: null, left: days * DAY });
  }

  /**
   * Records everything until now, and compares what everybody has left, and whether it is held, with the rows. Call it
   * after each event, before time passes.
   */
  async follow(): Promise<void> {
    const users = await lookAtUsers(this.#world);
    this.#passTime();
    for (const [userId, pays] of whoPays(this.#world, users)) this.#purse(userId).paying = pays;
    await this.#followReferrals(users);
    this.#compare(users);
  }

  #compare(users: UsersAtStripe): void {
    const { clock } = this.#world;
    for (const [{ id, creditUntil, creditHeldAt, deletedAt }] of users) {
      if (deletedAt) continue;
      const from = creditHeldAt ?? clock.now;
      const left = creditUntil === null ? 0 : Math.max(0, (creditUntil.getTime() - from.getTime()) / 1000);
      const { lots, paying } = this.#purse(id);
      expect({ id, held: creditHeldAt !== null, left }).toEqual({ id, held: paying, left: sum(lots) });
    }
  }

  #purse(userId: string): Purse {
    const purse = this.#purses.get(userId) ?? { lots: [], paying: false, taken: new Map<string, number>() };
    this.#purses.set(userId, purse);
    return purse;
  }

  #passTime(): void {
    const now = this.#world.clock.now.getTime();
    const seconds = (now - this.#at) / 1000;
    this.#at = now;
    for (const { lots, paying } of this.#purses.values()) if (!paying) spend(lots, seconds);
  }

  async #followReferrals(users: UsersAtStripe): Promise<void> {
    const { db } = this.#world;
    const holding = whatHolds(this.#world, users);
    const living = new Set(users.flatMap(([{ id, deletedAt }]) => (deletedAt ? [] : [id])));
    const referrals = users.flatMap(([{ referredBy }]) => referredBy ?? []);
    const changed = referrals.filter(({ id, referredId, convertedAt }) => {
      const before = this.#conversions.get(id);
      const holds = holding.has(id);
      // A bank debit is "active" before its checkout says that it is under way, so it can have converted and been
      // reversed at once, before the account was deleted.
      const mayConvert = living.has(referredId) || convertedAt !== null;
      return before === undefined ? holds && mayConvert : before !== holds;
    });
    if (changed.length === 0) return;
    // Of two in the same second, the server decides which comes first.
    const order = new Map(
      (await db.creditEntry.findMany({ orderBy: [{ seq: 'asc' }] })).map((entry, index) => [
        `${entry.userId} ${entry.referralId ?? ''}`,
        index,
      ]),
    );
    const placeOf = (one: (typeof changed)[number]): number =>
      order.get(`${one.referrerId ?? ''} ${one.id}`) ?? 0;
    for (const { id, referrerId, referredId } of changed.sort((a, b) => placeOf(a) - placeOf(b))) {
      const holds = holding.has(id);
      const isNew = !this.#conversions.has(id);
      this.#conversions.set(id, holds);
      for (const userId of [
        referredId,
        ...(referrerId !== null && living.has(referrerId) ? [referrerId] : []),
      ]) {
        const { lots, taken } = this.#purse(userId);
        if (holds) {
          lots.push({ referralId: id, left: isNew ? CONVERSION_SECONDS : (taken.get(id) ?? 0) });
          continue;
        }
        const own = lots.filter(({ referralId }) => referralId === id);
        taken.set(id, sum(own));
        for (const lot of own) lot.left = 0;
      }
    }
  }
}

function spend(lots: readonly Lot[], seconds: number): void {
  let rest = seconds;
  for (const lot of lots) {
    const part = Math.min(rest, lot.left);
    lot.left -= part;
    rest -= part;
  }
}

function sum(lots: readonly Lot[]): number {
  return lots.reduce((total, { left }) => total + left, 0);
}
