import { expect } from 'vitest';

import { PlainError } from '../../src/plain-error.ts';

/** The message with which some work was refused. */
export function refusalOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'It was not refused.',
    (error: unknown) => {
      expect(error).toBeInstanceOf(PlainError);
      return (error as PlainError).message;
    },
  );
}
