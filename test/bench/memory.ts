import { webhook } from './events.ts';
import { openField } from './field.ts';
import { fire } from './load.ts';
import { tableOf } from './report.ts';

const SAMPLE_MS = 5000;
const PAST = 1000;
const CONNECTIONS = 16;
const WARM_UP = 3000;

/** Events that are made and signed at a time. */
const STEP = 500;

/** The most memory that one process may use, MB. */
const TARGET = 200;

/**
 * Sends events to one Tandem process on SQLite and watches its memory.
 *
 * @param total how many events
 * @param log receives each line as soon as it is known
 * @returns lines of Markdown
 */
export async function measureMemory(total: number, log: (line: string) => void): Promise<string[]> {
  const { tandem, conversions, renewals, warmUp, stop, remove } = await openField('sqlite', {
    past: PAST,
    buyers: total / 2 + STEP + WARM_UP,
  });
  await warmUp(WARM_UP);
  const samples: { seconds: number; handled: number; memory: number }[] = [];
  const start = performance.now();
  let handled = 0;
  const sample = (): void => {
    const seconds = (performance.now() - start) / 1000;
    samples.push({ seconds, handled, memory: tandem.memory() });
    log(`${seconds.toFixed(0)} s  ${handled} events  ${tandem.memory().toFixed(0)} MB`);
  };
  sample();
  const timer = setInterval(sample, SAMPLE_MS);
  while (handled < total) {
    const payloads = [...conversions(STEP / 2), ...renewals(STEP / 2)];
    const shots = payloads.map((payload) => webhook(payload, 'ok'));
    await fire(tandem.port, shots, CONNECTIONS);
    handled += shots.length;
  }
  clearInterval(timer);
  sample();
  await stop();
  await remove();

  const most = Math.max(...samples.map(({ memory }) => memory));
  const kept = samples.filter(
    (_, index) => index % Math.ceil(samples.length / 20) === 0 || index === samples.length - 1,
  );
  const rows = kept.map(({ seconds, handled, memory }) => [
    seconds.toFixed(0),
    String(handled),
    memory.toFixed(0),
  ]);
  return [
    ...tableOf(['seconds', 'events handled', 'resident, MB'], rows),
    '',
    `At most ${most.toFixed(0)} MB of resident memory; the target is less than ${TARGET}: ` +
      `${most < TARGET ? 'reached' : 'not reached'}. Sampled every ${SAMPLE_MS / 1000} s.`,
  ];
}
