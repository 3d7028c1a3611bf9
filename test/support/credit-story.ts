import { grantCredit } from '../../src/operator/grant-credit.ts';
import { commandContext } from './command-context.ts';
import { daysAfter, deliverAll, signUp, startTestServer } from './server.ts';
import { buyer } from './stripe-events.ts';

/** One account whose story is told in days after START: when it pays, stops paying, and is granted credit. */
export async function creditStory() {
  const server = await startTestServer();
  const person = await signUp(server, 'person@example.com');
  let stripe = buyer(person.id);
  return {
    server,
    person,
    pays: async (day: number) => {
      server.clock.now = daysAfter(day);
      stripe = buyer(person.id);
      await deliverAll(server, [stripe.checkoutCompleted(), stripe.created({}, { at: daysAfter(day) })]);
    },
    /** @param heardOn the day on which the event of the end arrives */
    ends: async (day: number, heardOn = day) => {
      server.clock.now = daysAfter(heardOn);
      await deliverAll(server, [stripe.ended(daysAfter(day))]);
    },
    granted: async (day: number, days = 45, note?: string) => {
      server.clock.now = daysAfter(day);
      await grantCredit(commandContext(server), person.email, days, note);
    },
  };
}
