import { setImmediate as nextTurn } from 'node:timers/promises';

/** So many transactions are committed together at most: a group holds the one writer for some tens of ms. */
const GROUP_LIMIT = 64;

/** And together they are at most this large, characters; one alone may be larger. */
const GROUP_SIZE = 4 * 1024 * 1024;

/**
 * Group commit, for a database with one writer, where each commit costs a flush to disk: what waits while a group is
 * written, or arrives in the same turn of the event loop, forms the next group. Nobody waits longer for company.
 *
 * A group that fails has committed nothing; then each of its jobs is tried alone, so that only the one that fails is
 * told so.
 *
 * @param commit runs jobs one after the other in one transaction; what each of them returned, once it is committed
 * @param isHopeless tells from what a group threw whether trying its jobs alone would end the same
 * @param options how many groups may be written at the same time, and how large a job is
 * @returns adds one job; what it returned, once it is committed, or what made it fail
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
      // Not before every connection that has something to say was heard: SQLite answers within one turn of the event
      // loop, and each job would be written before the next one arrives.
      await nextTurn();
      const group = waiting.splice(0, countOfNextGroup());
      // Another one of those at work can have taken all.
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
