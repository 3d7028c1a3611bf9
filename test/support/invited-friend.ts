import { signUp, startTestServer } from './server.ts';
import type { TestServer } from './server.ts';
import { buyer } from './stripe-events.ts';

/** A referrer, the friend they invited, and the friend's objects at Stripe. */
export async function invitedFriend(server: Pick<TestServer, 'db' | 'clock' | 'config'>) {
  const referrer = await signUp(server, 'referrer@example.com');
  const friend = await signUp(server, 'friend@example.com', referrer.code);
  return { referrer, friend, stripe: buyer(friend.id) };
}

/** A server with a referrer and an invited friend, of whom Stripe has sent no event yet. */
export async function invitation(env: NodeJS.ProcessEnv = {}) {
  const server = await startTestServer(env);
  return { server, ...(await invitedFriend(server)) };
}
