import { PlainError } from './plain-error.ts';
import { ROOT } from './root.ts';

const NOT_FOUND = /Could not locate the bindings file|Cannot find native binding/;

/** Finds the package's name in an error's message or stack. */
const PACKAGE = /node_modules[\\/]((?:@[^\\/\s]+[\\/])?[^\\/\s]+)/;

/**
 * Packages with native code are built for one version of Node.js and one machine, and their own errors do not say so.
 *
 * @returns an error that says what to do; null when the error has another cause
 */
export function nativeModuleProblem(error: unknown): PlainError | null {
  if (!(error instanceof Error)) return null;
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'ERR_DLOPEN_FAILED' && !NOT_FOUND.test(error.message)) return null;
  const [, name] = PACKAGE.exec(`${error.message}\n${error.stack ?? ''}`) ?? [];
  const what = name === undefined ? 'A package with native code' : `The package ${name}`;
  return new PlainError(
    error.message.includes('NODE_MODULE_VERSION')
      ? `${what} was built for another version of Node.js than ${process.version}. Run npm rebuild${name === undefined ? '' : ` ${name}`} in ${ROOT}, then try again.`
      : `${what} was not built for this machine. Run npm ci in ${ROOT}, then try again.`,
  );
}
