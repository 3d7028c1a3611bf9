import { setImmediate as nextTurn } from 'node:timers/promises';

/**
 * Maximum number of jobs in a group. On SQLite, a group of this size holds the write lock for tens of milliseconds.
 */
const GROUP_LIMIT = 64;

/** Maximum size of all jobs of a group together, in characters. A single job may be larger. */
const GROUP_SIZE = 4 * 1024 * 1024;

/**
 * Group commit: each commit costs a flush to disk, so jobs that wait share one. Jobs that arrive while all writers are
 * busy form the next group. A job never waits for others to arrive.
 *
 * If a group fails, each job is tried alone, so that only the failing one is rejected. If `isHopeless`, the whole group is
 * rejected at once.
 *
 * @param commit runs jobs one after the other in one transaction and returns their results after the commit
 * @param isHopeless whether the error of a group would hit each job alone as well
 * @param options how many groups may be written concurrently, and the size of a job in characters
 * @returns a function that adds a job and resolves to its result once it is committed
 */
export function createGroups<Job>(
  commit: (jobs: readonly Job[]) => Promise<unknown[]>,
  isHopeless: (error: unknown) => boolean,
  { atOnce = 1, sizeOf = () => 0 }: { atOnce?: number; sizeOf?: (job: Job) => number } = {},
): (job: Job) => Promise<unknown> {
  const waiting: Waiting<Job>[] = [];
  let writing = 0;

  return (job) =>
    new Promise((resolve, reject) => {
      waiting.push({ job, resolve, reject });
      if (writing < atOnce) void writeAll();
    });

  async function writeAll(): Promise<void> {
    writing += 1;
    while (waiting.length > 0) {
      // Yield one tick so that queued requests join this group. SQLite answers within a single turn of the event loop,
      // so without it every job would be written alone.
      await nextTurn();
      const group = waiting.splice(0, countOfNextGroup());
      // A concurrent writer may have taken them all.
      if (group.length > 0) await write(group);
    }
    writing -= 1;
  }

  function countOfNextGroup(): number {
    let size = 0;
    const tooMany = waiting.findIndex(({ job }, index) => {
      size += sizeOf(job);
      return index > 0 && (index >= GROUP_LIMIT || size > GROUP_SIZE);
    });
    return tooMany === -1 ? waiting.length : tooMany;
  }

  async function write(group: readonly Waiting<Job>[]): Promise<void> {
    try {
      const results = await commit(group.map(({ job }) => job));
      group.forEach(({ resolve }, index) => {
        resolve(results[index]);
      });
    } catch (error) {
      if (group.length > 1 && !isHopeless(error)) {
        for (const one of group) await write([one]);
      } else {
        group.forEach(({ reject }) => {
          reject(error);
        });
      }
    }
  }
}

interface Waiting<Job> {
  job: Job;
  resolve: (result: unknown) => void;
  reject: (error: unknown) => void;
}
