import { readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import type { SourceMapPayload } from 'node:module';
import { relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { ROOT } from './root.ts';

/** A location in a compiled file, as V8 writes it in a stack: with a URL, or with a path in a CommonJS module. */
const LOCATION = /((?:file:\/\/)?\/[^\s()]+\.js):(\d+):(\d+)/g;

/** Parsed maps take some 40 MB, so they are held weakly: a garbage collection may free them. */
const maps = new Map<string, WeakRef<SourceMap>>();

/**
 * Returns an error's stack with source locations instead of those in `dist/`. Node can do that too
 * (`--enable-source-maps`), but it parses all maps for the first stack that any package looks at, and keeps them.
 */
export function readableStack(error: unknown): string {
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return stack.replaceAll(LOCATION, (location, file: string, line: string, column: string) => {
    const url = file.startsWith('file:') ? file : pathToFileURL(file).href;
    const origin = mapOf(url)?.findOrigin(Number(line), Number(column));
    if (!origin || !('fileName' in origin)) return location;
    const path = relative(ROOT, fileURLToPath(new URL(origin.fileName, url)));
    return `${path}:${origin.lineNumber}:${origin.columnNumber}`;
  });
}

function mapOf(url: string): SourceMap | null {
  const kept = maps.get(url)?.deref();
  if (kept) return kept;
  try {
    const payload = JSON.parse(readFileSync(fileURLToPath(`${url}.map`), 'utf8')) as SourceMapPayload;
    const map = new SourceMap(payload);
    maps.set(url, new WeakRef(map));
    return map;
  } catch {
    // A source file, or a compiled one whose map is gone: its own location will do.
    return null;
  }
}
