import { nativeModuleProblem } from './native-module.ts';
import { PlainError } from './plain-error.ts';
import { readableStack } from './readable-stack.ts';

/** Prints why the program cannot go on, and ends it. */
export function giveUp(error: unknown): never {
  const plain = error instanceof PlainError ? error : nativeModuleProblem(error);
  process.stderr.write(`${plain?.message ?? readableStack(error)}\n`);
  // Exit at once: Node rejects the failed import of a package a second time, unhandled.
  process.exit(1);
}
