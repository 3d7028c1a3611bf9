/** A statement's verb and table: `UPDATE User`. */
export function inShort(sql: string): string {
  const [, verb = '?'] = /^\s*([A-Z]+)/.exec(sql) ?? [];
  const [, table = '?'] = /(?:INTO|UPDATE|FROM) (?:`main`\.)?[`"](\w+)[`"]/.exec(sql) ?? [];
  return `${verb} ${table}`;
}
