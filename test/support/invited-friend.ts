import { signUp } from './server.ts';
import type { TestServer } from './server.ts';
import { buyer } from './stripe-events.ts';

/** A referrer, the friend they invited, and the friend's objects at Stripe. */
export async function invitedFriend(server: Pick<TestServer, 'db' | 'clock' | 'config'>) {
  const referrer = await signUp(server, 'referrer@example.com');
  const friend = await signUp(server, 'friend@example.com', referrer.code);
  return { referrer, friend, stripe: buyer(friend.id) };
}
