/** Several times as long as any path of ours. */
const MAX_PATH_LENGTH = 1_000;

/**
 * A URL that the router can decode quickly and without an error. A path that cannot be decoded or contains a NUL is
 * escaped, so that it is routed like any unknown path, code or token; PostgreSQL rejects a NUL in any text, even in a
 * bind parameter. A longer path than any of ours is cut, because decoding 16 KiB of it several times takes 18 ms,
 * before any limit of ours can act.
 *
 * @param url as in the request line
 */
export function readablePath(url: string): string {
  const [path = '/', ...query] = url.split('?');
  const short = path.slice(0, MAX_PATH_LENGTH);
  return [isDecodable(short) ? short : short.replaceAll('%', '%25'), ...query].join('?');
}

function isDecodable(path: string): boolean {
  try {
    return !decodeURIComponent(path).includes('\0');
  } catch {
    // Invalid UTF-8 or invalid percent-encoding.
    return false;
  }
}
