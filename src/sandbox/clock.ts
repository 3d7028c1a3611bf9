import type { Context } from './sandbox-context.ts';
import { runDue } from './schedule.ts';
import { inTime } from './shared-page.ts';
import { DAY, toEpoch } from './time.ts';

/**
 * Moves the clock forward, and with it the server's. It goes day by day, so that whatever falls due on the way, such as
 * the reminder a week before free days end, happens at the right time. If the next webhooks are set to be lost, all
 * webhooks that fall due on the way are lost.
 *
 * @param until epoch seconds. If that is not in the future, the clock does not move, and what was due by then happens.
 */
export async function moveClock(context: Context, until: number): Promise<void> {
  const { state, options, now, publish, save } = context;
  let wasUsed = false;
  try {
    do {
      const next = Math.min(toEpoch(now()) + DAY, until);
      state.aheadMs += Math.max(0, next * 1000 - now().getTime());
      const { losesNext } = state;
      const published = publish(runDue(state, next));
      // `publish` turns it off when it is used. Turn it on again for the next day before anybody else can press a button.
      wasUsed = losesNext && (wasUsed || !state.losesNext);
      state.losesNext = losesNext;
      await inTime(published);
      await options.timePassed?.();
    } while (toEpoch(now()) < until);
  } finally {
    state.losesNext &&= !wasUsed;
    save();
  }
}
