import { badRequest } from './api-error.ts';

/** Parsed form or query parameters: strings, and nested groups for keys with brackets. */
export type Params = Record<string, unknown>;

/** Anything other than a parsed body, query or group counts as empty. */
export function asParams(value: unknown): Params {
  return typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value)) : {};
}

/**
 * @returns undefined when absent or empty (Stripe reads an empty value as "unset")
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
 * @param path the full name in bracket form, for the error
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
 * @returns undefined when absent
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
 * @returns undefined when absent
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
 * @returns an absolute http(s) URL as it was given; undefined when absent
 * @throws 400 `url_invalid`
 */
export function readUrl(params: Params, name: string): string | undefined {
  const text = readText(params, name);
  // Stripe fills in this placeholder later. Its braces would make the URL invalid.
  if (text !== undefined && !/^https?:$/.test(protocolOf(text.replaceAll('{CHECKOUT_SESSION_ID}', 'id')))) {
    throw badRequest('Not a valid URL', 'url_invalid', name);
  }
  return text;
}

/**
 * @returns an absolute http(s) URL as it was given
 * @throws 400 `parameter_missing` or `url_invalid`
 */
export function needUrl(params: Params, name: string): string {
  return readUrl(params, name) ?? needText(params, name);
}

function protocolOf(text: string): string {
  return URL.canParse(text) ? new URL(text).protocol : '';
}

/** Reads the `metadata` pairs, and skips values that are empty or not strings. */
export function readMetadata(params: Params): Record<string, string> {
  const pairs = Object.entries(asParams(params['metadata']));
  return Object.fromEntries(
    pairs.filter((pair): pair is [string, string] => typeof pair[1] === 'string' && pair[1] !== ''),
  );
}
