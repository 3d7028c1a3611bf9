import type { Config } from './config.ts';

/** The settings that rules depend on. */
export interface Programme {
  /** REFERRAL_CLAWBACK_DAYS */
  clawbackDays: number;
  /** STRIPE_PRODUCTS; null when every product counts. */
  products: readonly string[] | null;
  /** Whether mail can be sent; otherwise none is queued. */
  mail: boolean;
}

export function programmeOf({ clawbackDays, mail, stripe: { products } }: Config): Programme {
  return { clawbackDays, products, mail: mail !== null };
}
