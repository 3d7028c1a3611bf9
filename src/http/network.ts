import ipaddr from 'ipaddr.js';

/** Bits of an IPv6 address that name its network: a client can use any address in its own /64. */
const NETWORK_BITS = 64;

/** Bits that name a home's network: many providers give each home a /56 (RFC 6177). */
const HOME_BITS = 56;

/** Bits that name a site: one customer of a provider can have a whole /48 (RFC 6177). */
const SITE_BITS = 48;

const GROUP_BITS = 16;

/** Longest text that is parsed as an address, characters. Valid addresses are shorter. */
const MAX_LENGTH = 64;

const UNKNOWN = 'unknown';

/** An address with a port, as some proxies write it in X-Forwarded-For. */
const WITH_PORT = /^\[(.*)\](?::\d+)?$|^([^:]*|.*:[\d.]+\.\d+):\d+$/;

/**
 * The key by which limits count a client: the IPv4 address, also when mapped into IPv6, or the /64 of an IPv6
 * address.
 *
 * @param address with or without a port; undefined when the client has gone
 * @returns the same text for every notation and everyone in that network; `unknown` for anything that is not
 * an address
 */
export function networkOf(address: string | undefined): string {
  return prefixOf(address, NETWORK_BITS);
}

/** Like `networkOf`, but the /56 of an IPv6 address. */
export function homeOf(address: string | undefined): string {
  return prefixOf(address, HOME_BITS);
}

/** Like `networkOf`, but the /48 of an IPv6 address: for limits on what all clients share. */
export function siteOf(address: string | undefined): string {
  return prefixOf(address, SITE_BITS);
}

function prefixOf(address: string | undefined, bits: number): string {
  if (address === undefined || address.length > MAX_LENGTH) return UNKNOWN;
  const spelt = address.trim();
  const [, inBrackets, beforePort] = WITH_PORT.exec(spelt) ?? [];
  const bare = inBrackets ?? beforePort ?? spelt;
  if (!ipaddr.isValid(bare)) return UNKNOWN;
  const parsed = ipaddr.process(bare);
  if (parsed.kind() === 'ipv4') return parsed.toString();
  const { parts } = parsed as ipaddr.IPv6;
  const masked = parts.map((group, index) => group & maskOf(bits - index * GROUP_BITS));
  const prefix = masked.slice(0, Math.ceil(bits / GROUP_BITS)).map((group) => group.toString(16));
  return `${prefix.join(':')}::/${bits}`;
}

/** The mask of a group of which the first `bits` bits count. */
function maskOf(bits: number): number {
  const ignored = Math.min(GROUP_BITS, Math.max(0, GROUP_BITS - bits));
  return (0xffff << ignored) & 0xffff;
}
