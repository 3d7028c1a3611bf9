// The main regions where each currency is used. https://www.unicode.org/cldr/charts/latest/supplemental/detailed_territory_currency_information.html

const REGIONS = {
  EUR: 'AD AT BE BG CY DE EE ES FI FR GR HR IE IT LT LU LV MC ME MT NL PT SI SK SM VA XK',
  USD: 'US AS EC GU MP PR SV VI',
  GBP: 'GB GG IM JE',
  CHF: 'CH LI',
  AUD: 'AU',
  BRL: 'BR',
  CAD: 'CA',
  CNY: 'CN',
  CZK: 'CZ',
  DKK: 'DK FO GL',
  HKD: 'HK',
  HUF: 'HU',
  ILS: 'IL PS',
  INR: 'IN',
  JPY: 'JP',
  KRW: 'KR',
  MXN: 'MX',
  NOK: 'NO SJ',
  NZD: 'NZ',
  PLN: 'PL',
  RON: 'RO',
  SEK: 'SE',
  SGD: 'SG',
  TRY: 'TR',
  TWD: 'TW',
  UAH: 'UA',
  ZAR: 'ZA',
};

/** EUR where the region is unknown or not in the table. */
function currencyHere() {
  const region = regionHere();
  return Object.keys(REGIONS).find((code) => REGIONS[code].split(' ').includes(region)) ?? 'EUR';
}

function regionHere() {
  try {
    // A language alone stands for where most of its speakers live: "de" for Germany.
    return new Intl.Locale(navigator.language).maximize().region;
  } catch {
    // Chromium on Linux can report "C" or "en-US@posix", which are not language tags.
    return undefined;
  }
}

/** The currency of the browser's region. */
export const LOCAL_CURRENCY = currencyHere();

/** All that can be chosen, the local one first. */
export const CURRENCIES = [LOCAL_CURRENCY, ...Object.keys(REGIONS).filter((code) => code !== LOCAL_CURRENCY)];
