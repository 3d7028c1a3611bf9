import { PlainError } from './plain-error.ts';
import { ROOT } from './root.ts';

const NOT_FOUND = /Could not locate the bindings file|Cannot find native binding/;

/** In the message, or in the stack, of an error about a package. */
const PACKAGE = /node_modules[\\/]((?:@[^\\/\s]+[\\/])?[^\\/\s]+)/;

/**
 * Packages with native code are built for one version of Node.js and one machine. After either has changed, the error says
 * little of what to do.
 *
 * @param error what loading or using a package threw
 * @returns what to tell instead; null when it is about something else
 */
export function nativeModuleProblem(error: unknown): PlainError | null {
  if (!(error instanceof Error)) return null;
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'ERR_DLOPEN_FAILED' && !NOT_FOUND.test(error.message)) return null;
  const [, name = 'with native code'] = PACKAGE.exec(`${error.message}\n${error.stack ?? ''}`) ?? [];
  return new PlainError(
    error.message.includes('NODE_MODULE_VERSION')
      ? `The package ${name} was built for another version of Node.js than this one (${process.version}): run npm rebuild ${name} in ${ROOT}, then try again.`
      : `The package ${name} was not built for this machine: run npm ci in ${ROOT}, then try again.`,
  );
}
