/** The host of a URL as Node's sockets take it: an IPv6 address without its brackets. */
export function bareHost(url: string): string {
  return new URL(url).hostname.replace(/^\[|\]$/g, '');
}
