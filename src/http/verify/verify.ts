import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { proveAddress, readProof } from '../../accounts/prove-address.ts';
import type { Proof, ProofRefusal } from '../../accounts/prove-address.ts';
import { programmeOf } from '../../programme.ts';
import { askStripe } from '../ask-stripe.ts';
import type { AppContext } from '../context.ts';
import { sessionToken, setFlash } from '../cookies.ts';
import { takeForNetwork, TOO_MANY_ATTEMPTS } from '../limits.ts';
import { sendPage } from '../page.ts';

const REFUSED: Readonly<Record<Exclude<ProofRefusal, 'link-gone' | 'address-taken'>, string>> = {
  'payments-not-set-up':
    'Your address was not confirmed: another account with this address may have a subscription, and we cannot cancel it because payments are not set up on this server.',
  'payment-pending':
    'Your address was not confirmed: a payment for another account with this address is still being processed. Try again in a few minutes.',
  conflict:
    'Your address was not confirmed: a payment for another account with this address was started just now. Please try again in a moment.',
};

type WithToken = FastifyRequest<{ Params: { token: string } }>;

/**
 * Proves an address with a mailed link. Opening the link only shows a button, because mail scanners follow
 * links. It also works in a browser that is not logged in.
 */
export function verifyRoutes(app: FastifyInstance, context: AppContext): void {
  const { config, db, stripe, sessionSecret, now } = context;
  const parts = { db, stripe, programme: programmeOf(config) };

  app.get<{ Params: { token: string } }>('/verify/:token', async (request, reply) => {
    const proof = await readProof(db, sessionSecret, request.params.token, now());
    return verifyPage(request, reply.status(proof ? 200 : 404), proof);
  });

  app.post<{ Params: { token: string } }>('/verify/:token', async (request, reply) => {
    const { token } = request.params;
    const proof = await readProof(db, sessionSecret, token, now());
    if (!proof) return verifyPage(request, reply.status(404), null);
    if (!(await takeForNetwork(request, reply, 'proofsOfNetwork')))
      return verifyPage(request, reply.status(429), proof, TOO_MANY_ATTEMPTS);
    if (deletesVisitor(request, proof)) return verifyPage(request, reply.status(409), proof);
    const isHere = request.user?.id === proof.user.id;
    const kept = { secret: sessionSecret, token: isHere ? sessionToken(request) : null };
    const refusal = await askStripe('Your address was not confirmed.', () =>
      proveAddress(parts, kept, token, config.mail !== null, now()),
    );
    if (refusal === 'link-gone') return verifyPage(request, reply.status(404), null);
    if (refusal === 'address-taken')
      return verifyPage(request, reply.status(409), { ...proof, holder: 'claimed' });
    if (refusal !== null) return verifyPage(request, reply.status(409), proof, REFUSED[refusal]);
    if (!isHere) return verifyPage(request, reply, { ...proof, isDone: true });
    setFlash(request, reply, proof.isChange ? 'address-changed' : 'address-proven');
    return reply.redirect('/settings', 303);
  });
}

function verifyPage(
  request: WithToken,
  reply: FastifyReply,
  proof: Proof | null,
  error?: string,
): FastifyReply {
  return sendPage(request, reply, 'verify', {
    title: 'Confirm your email address',
    token: request.params.token,
    proof: proof && {
      address: proof.address,
      isChange: proof.isChange,
      isDone: proof.isDone,
      isTaken: proof.holder === 'claimed',
      deletesHolder: proof.holder === 'unclaimed',
      deletesVisitor: deletesVisitor(request, proof),
    },
    error,
  });
}

/**
 * Whether the proof would give the visitor's address to another account and delete the visitor's own account. Anybody
 * who wants an address can have such a link mailed to it, and somebody who has just signed up with that address
 * can mistake the link for their own.
 */
function deletesVisitor({ user }: FastifyRequest, { holder, address }: Proof): boolean {
  return holder === 'unclaimed' && user?.email === address;
}
