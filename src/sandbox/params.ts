import { badRequest } from './errors.ts';

/** Decoded form or query parameters: texts, and groups of them where a key had brackets. */
export type Params = Record<string, unknown>;

/**
 * @param value a decoded body, query or nested group; anything else counts as empty
 * @returns it as parameters
 */
export function asParams(value: unknown): Params {
  return typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value)) : {};
}

/**
 * @param params where to look
 * @param name the parameter
 * @returns its text; undefined when it is absent or empty (Stripe reads an empty value as "unset")
 * @throws 400 when it is a group
 */
export function readText(params: Params, name: string): string | undefined {
  const value = params[name];
  if (value === undefined || value === '') {
    return undefined;
  }
  if (typeof value !== 'string') {
    throw badRequest(`Invalid string: ${name}`, undefined, name);
  }
  return value;
}

/**
 * @param params where to look
 * @param name the parameter
 * @param path its full name in bracket form, for the error
 * @returns its text
 * @throws 400 `parameter_missing`
 */
export function needText(params: Params, name: string, path = name): string {
  const value = readText(params, name);
  if (value === undefined) {
    throw badRequest(`Missing required param: ${path}.`, 'parameter_missing', path);
  }
  return value;
}

/**
 * @param params where to look
 * @param name the parameter
 * @param range smallest and largest value allowed
 * @returns the whole number, or undefined when absent
 * @throws 400 `parameter_invalid_integer`
 */
export function readWhole(
  params: Params,
  name: string,
  range: { min: number; max: number },
): number | undefined {
  const text = readText(params, name);
  if (text === undefined) {
    return undefined;
  }
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < range.min || value > range.max) {
    throw badRequest(
      `Invalid integer: ${name} must lie between ${range.min} and ${range.max}`,
      'parameter_invalid_integer',
      name,
    );
  }
  return value;
}

/**
 * @param params where to look
 * @param name the parameter
 * @returns whether it is `true`; undefined when absent
 * @throws 400 for anything but `true` and `false`
 */
export function readFlag(params: Params, name: string): boolean | undefined {
  const text = readText(params, name);
  if (text !== undefined && text !== 'true' && text !== 'false') {
    throw badRequest(`Invalid boolean: ${text}`, undefined, name);
  }
  return text === undefined ? undefined : text === 'true';
}

/**
 * @param params where to look
 * @param name the parameter
 * @param choices the texts that are allowed
 * @returns the one that was given; undefined when absent
 * @throws 400 for any other text
 */
export function readChoice<T extends string>(
  params: Params,
  name: string,
  choices: readonly T[],
): T | undefined {
  const text = readText(params, name);
  const choice = choices.find((one) => one === text);
  if (text !== undefined && choice === undefined) {
    throw badRequest(`Invalid ${name}: must be one of ${choices.join(', ')}`, undefined, name);
  }
  return choice;
}

/**
 * @param params where to look
 * @param name the parameter
 * @returns its per cent, more than 0 and at most 100
 * @throws 400 when it is absent or no such number
 */
export function needPercent(params: Params, name: string): number {
  const value = Number(needText(params, name));
  if (!(value > 0 && value <= 100)) {
    throw badRequest(`Invalid ${name}: must be more than 0 and at most 100`, undefined, name);
  }
  return value;
}

/**
 * @param params where to look
 * @param name the parameter
 * @returns whether it was given as an empty value, which unsets what it names
 */
export function isUnset(params: Params, name: string): boolean {
  return params[name] === '';
}

/**
 * @param params where to look
 * @param name the parameter
 * @returns its absolute http(s) URL as it was given, or undefined when absent
 * @throws 400 `url_invalid`
 */
export function readUrl(params: Params, name: string): string | undefined {
  const text = readText(params, name);
  // Stripe fills this placeholder in later; its braces are no part of the URL to check.
  if (text !== undefined && !/^https?:$/.test(protocolOf(text.replaceAll('{CHECKOUT_SESSION_ID}', 'id')))) {
    throw badRequest('Not a valid URL', 'url_invalid', name);
  }
  return text;
}

/**
 * @param params where to look
 * @param name the parameter
 * @returns its absolute http(s) URL as it was given
 * @throws 400 `parameter_missing` or `url_invalid`
 */
export function needUrl(params: Params, name: string): string {
  return readUrl(params, name) ?? needText(params, name);
}

function protocolOf(text: string): string {
  return URL.canParse(text) ? new URL(text).protocol : '';
}

/**
 * @param params where to look for `metadata`
 * @returns the key-value pairs that are texts
 */
export function readMetadata(params: Params): Record<string, string> {
  const pairs = Object.entries(asParams(params['metadata']));
  return Object.fromEntries(
    pairs.filter((pair): pair is [string, string] => typeof pair[1] === 'string' && pair[1] !== ''),
  );
}

/**
 * Applies an update of metadata: keys that are absent stay, an empty value takes a key away, and an empty
 * `metadata` takes all away. See https://docs.stripe.com/api/metadata
 *
 * @param params where to look for `metadata`
 * @param old the pairs as they are
 * @returns the pairs as they are to be
 */
export function changeMetadata(params: Params, old: Record<string, string>): Record<string, string> {
  if (isUnset(params, 'metadata')) {
    return {};
  }
  const unset = Object.entries(asParams(params['metadata'])).filter(([, value]) => value === '');
  const pairs = Object.entries({ ...old, ...readMetadata(params) });
  return Object.fromEntries(pairs.filter(([key]) => !unset.some(([name]) => name === key)));
}
