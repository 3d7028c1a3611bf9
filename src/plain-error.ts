/**
 * An error shown to people as it is: its message says what happened and what to do, on one line. Anything else that
 * is thrown is a bug and shows its stack.
 */
export class PlainError extends Error {
  override name = 'PlainError';
  /** `code` in the command line's JSON. Not named `code`, because that property marks the errors of Node.js itself. */
  readonly kind: string;
  constructor(message: string, kind = 'failed') {
    super(message);
    this.kind = kind;
  }
}
