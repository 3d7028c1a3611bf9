import { printable } from '../terminal.ts';
import type { Paint, Style } from '../terminal.ts';

/** Null is an empty cell. */
export type Cell = string | null;

/** Rows for a terminal, where columns are aligned. Elsewhere they are plain lines (`plainLines`). */
export interface Table {
  /** Column titles. `plainLines` ignores them. */
  head: readonly string[];
  rows: readonly (readonly Cell[])[];
  /** The style of a cell. */
  styleOf?: (cell: string, column: number) => Style | null;
  /** A line below the rows. */
  foot?: string;
}

const GAP = '  ';

/** One line a row, without the empty cells. */
export function plainLines({ rows, foot }: Table): string {
  const lines = rows.map((row) => row.filter((cell) => cell !== null).join(GAP));
  return [...lines, ...(foot === undefined ? [] : [foot])].join('\n');
}

/** Aligned columns. A column that is empty in every row is left out. */
export function alignedLines({ head, rows, styleOf, foot }: Table, paint: Paint): string {
  const count = largest([head, ...rows].map((row) => row.length));
  const columns = Array.from({ length: count }, (_, column) => column).filter((column) =>
    rows.some((row) => (row[column] ?? '') !== ''),
  );
  const widths = new Map(
    columns.map((column) => [column, largest([head, ...rows].map((row) => textOf(row, column).length))]),
  );
  const line = (row: readonly Cell[], style: (cell: string, column: number) => Style | null): string =>
    columns
      .map((column) => {
        const cell = textOf(row, column);
        const how = cell === '' ? null : style(cell, column);
        return (how ? paint(how, cell) : cell) + ' '.repeat((widths.get(column) ?? 0) - cell.length);
      })
      .join(GAP)
      .trimEnd();
  return [
    ...(head.length > 0 ? [line(head, () => 'bold')] : []),
    ...rows.map((row) => line(row, styleOf ?? (() => null))),
    ...(foot === undefined ? [] : [paint('dim', foot)]),
  ].join('\n');
}

/** Math.max(...numbers) would throw when there are too many for one call. */
function largest(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => Math.max(a, b), 0);
}

function textOf(row: readonly Cell[], column: number): string {
  return printable(row[column] ?? '').trimEnd();
}

const STATUS_STYLES: Readonly<Record<string, Style>> = {
  failed: 'red',
  queued: 'yellow',
  ignored: 'dim',
  dropped: 'dim',
  applied: 'green',
  done: 'green',
};

/** Colours the status of an event or of an item of the outbox. */
export function styleOfStatus(cell: string): Style | null {
  return STATUS_STYLES[cell] ?? null;
}

/** Longer than any name in use. */
const NAME_WIDTH = 14;

/** Named values, one a line. */
export function fieldLines(paint: Paint, rows: readonly (readonly [name: string, value: string])[]): string {
  return rows.map(([name, value]) => `${paint('dim', name.padEnd(NAME_WIDTH))} ${value}`).join('\n');
}
