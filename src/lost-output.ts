/**
 * Lets a program finish its work when its output cannot be written. A full disk is reported on stderr and makes the exit
 * code 1. A reader that has seen enough, such as `head` or `less`, is no error.
 */
export function finishWithoutOutput(): void {
  const { stdout, stderr } = process;
  stderr.on('error', () => undefined);
  let isReported = false;
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') return;
    process.exitCode = 1;
    if (!isReported) stderr.write(`The output could not be written: ${error.message}\n`);
    isReported = true;
  });
}
