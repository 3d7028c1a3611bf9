import { join } from 'node:path';

/**
 * The project's folder, where `prisma/`, `views/` and `public/` are. This file stands directly in `src/` because the
 * compiled code stands directly in `dist/`: the way up is the same from both.
 */
export const ROOT = join(import.meta.dirname, '..');
