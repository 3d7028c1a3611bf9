import { join } from 'node:path';

/**
 * The project's folder, with `prisma/`, `views/` and `public/`. This file must stay directly in `src/`, because the
 * compiled code is directly in `dist/`.
 */
export const ROOT = join(import.meta.dirname, '..');
