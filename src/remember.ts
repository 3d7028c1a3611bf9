/**
 * Keeps a value in a map of bounded size, for what is cheaper to keep than to find out again.
 *
 * @param map the map; whoever reads it must be able to do without a value
 * @param limit how many values it may hold; the one that was kept first makes room
 * @returns the value
 */
export function remember<Key, Value>(map: Map<Key, Value>, key: Key, value: Value, limit: number): Value {
  map.delete(key);
  map.set(key, value);
  if (map.size > limit) {
    const [oldest] = map.keys();
    if (oldest !== undefined) map.delete(oldest);
  }
  return value;
}
