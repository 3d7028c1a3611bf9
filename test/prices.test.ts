import type { Stripe } from 'stripe';
import { expect, test } from 'vitest';

import { amountInWords, createPriceReader } from '../src/stripe/prices.ts';
import { START, startTestServer } from './support/server.ts';
import { startStripeApi } from './support/stripe-api.ts';

/**
 * Every currency that Stripe accepts for a price, grouped by how many units an amount of 123000 stands for.
 * https://docs.stripe.com/currencies
 */
const UNITS: readonly [units: number, currencies: string][] = [
  [123_000, 'bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf'],
  [
    1_230,
    `aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny cop crc
    cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg huf idr ils inr isk jmd kes kgs khr
    kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk
    php pkr pln qar ron rsd rub sar sbd scr sek sgd shp sle sos srd std svc szl thb tjs top try ttd twd tzs uah ugx
    usd uyu uzs wst xcd xcg yer zar zmw`,
  ],
  [123, 'bhd jod kwd omr tnd'],
];

test.each(
  UNITS.flatMap(([units, currencies]) =>
    currencies.split(/\s+/).map((currency) => [currency, units] as const),
  ),
)("123000 in Stripe's smallest unit of %s is %i", (currency, units) => {
  const words = amountInWords(123_000, currency);
  expect(Number(words.replace(/^\D*/, '').replaceAll(',', ''))).toBe(units);
});

test.each([
  [900, 'usd', '$9.00'],
  [999, 'eur', '€9.99'],
  [500, 'jpy', '¥500'],
  [500, 'isk', 'ISK 5'],
  [500, 'ugx', 'UGX 5'],
  [150_000, 'huf', 'HUF 1,500'],
  [150_050, 'huf', 'HUF 1,500.50'],
  [30_000, 'twd', 'NT$300.00'],
  [5_120, 'kwd', 'KWD 5.120'],
  [900, 'xxx', '¤9.00'],
])('%i in %s is written %s', (amount, currency, words) => {
  // Intl puts a non-breaking space between a code and a number.
  expect(amountInWords(amount, currency).replaceAll(/\s/g, ' ')).toBe(words);
});

test('Pricing shows what Stripe will charge', async () => {
  const price = { id: 'price', object: 'price', currency: 'huf', unit_amount: 349_000 };
  const { env } = await startStripeApi(() => ({ body: price }));
  const { app } = await startTestServer(env);
  const { body } = await app.inject({ url: '/pricing' });
  expect(body).toMatch(/HUF\s3,490</);
});

/** Reads prices from an API that gives these answers, and counts the requests. */
function reading(answers: Record<string, () => Promise<object>>) {
  const asked: string[] = [];
  const retrieve = (id: string): Promise<object> => {
    asked.push(id);
    return answers[id]?.() ?? Promise.reject(new Error('There is no such price.'));
  };
  const stripe = { prices: { retrieve } } as unknown as Stripe;
  const clock = { now: START };
  const read = createPriceReader(stripe, { monthly: 'price_m', annual: null }, () => clock.now);
  return { read, asked, clock };
}

test('a plan that is not sold or has no single amount is not asked for again within the hour', async () => {
  const { read, asked, clock } = reading({
    price_m: () => Promise.resolve({ unit_amount: null, currency: 'usd' }),
  });
  expect(await read()).toEqual({ monthly: null, annual: null, saving: null });
  clock.now = new Date(START.getTime() + 59 * 60_000);
  await read();
  expect(asked).toEqual(['price_m']);
});

test('a price that could not be read from Stripe is asked for again after a minute', async () => {
  const { read, asked, clock } = reading({});
  expect((await read()).monthly).toBeNull();
  clock.now = new Date(START.getTime() + 60_000);
  await read();
  expect(asked).toEqual(['price_m', 'price_m']);
});
