import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { SESSION_SECONDS } from '../accounts/sessions.ts';
import { DAY_SECONDS } from '../instants.ts';

const SESSION = 'tandem_session';
const INVITATION = 'tandem_ref';
const FLASH = 'tandem_flash';

/** A message waits this long for the page that shows it, s. */
const FLASH_SECONDS = 60;

/** How long a referral code is remembered, s. */
const INVITATION_SECONDS = 30 * DAY_SECONDS;

/** Messages shown once, after the redirect that follows a form or a link. Pages fill in `{brand}`. */
const FLASHES = {
  'address-changed': { kind: 'success', text: 'Your email address has been changed.' },
  'address-proven': { kind: 'success', text: 'Your email address is confirmed.' },
  'address-kept': { kind: 'success', text: 'Your address has not changed.' },
  'change-cancelled': {
    kind: 'success',
    text: 'Your address has not changed, and your pending change of address was cancelled.',
  },
  'change-mailed': {
    kind: 'info',
    text: 'We sent a link to your new address. The change takes effect once you confirm it there.',
  },
  'proof-mailed': { kind: 'info', text: 'We sent the link again. It works for three days.' },
  'mail-off': { kind: 'success', text: 'You will no longer get mail about free days and payments.' },
  'mail-on': { kind: 'success', text: 'You will get mail about free days and payments again.' },
  'password-changed': {
    kind: 'success',
    text: 'Your password has been changed, and you have been logged out everywhere else.',
  },
  'password-changed-change-cancelled': {
    kind: 'success',
    text: 'Your password has been changed, and you have been logged out everywhere else. Your pending change of address was cancelled. To change your address, enter the new one again.',
  },
  'password-reset': { kind: 'success', text: 'Your new password is set. Log in with it.' },
  'account-deleted': {
    kind: 'success',
    text: 'Your account has been deleted, and nothing more will be charged. Thanks for trying {brand}.',
  },
  'backup-deleted': { kind: 'success', text: 'The backup has been deleted.' },
  'logged-out': { kind: 'success', text: 'You have been logged out.' },
  'log-in-first': { kind: 'info', text: 'Log in first.' },
  'nothing-done': {
    kind: 'info',
    text: 'You are not logged in, so nothing was done. Log in and try again.',
  },
  'logged-out-elsewhere': {
    kind: 'success',
    text: 'You have been logged out everywhere else. This browser stays logged in.',
  },
  'own-link': { kind: 'info', text: 'This is your own link. Share it with a friend.' },
  'no-checkout': {
    kind: 'error',
    text: 'You are logged in, but the payment page could not be opened. Please choose your plan again.',
  },
  'nothing-at-stripe': {
    kind: 'info',
    text: 'Our payment provider, Stripe, has no billing details for you, so there is no plan to manage. To get an old invoice, contact us.',
  },
  'payment-pending': {
    kind: 'info',
    text: 'You are logged in. Your last payment is still being processed, so please choose a plan again in a few minutes.',
  },
  'code-at-sign-up': {
    kind: 'info',
    text: 'You already have an account. Invitations only count when you sign up.',
  },
} as const;

export type Flash = keyof typeof FLASHES;

/**
 * On https, browsers accept a `__Host-` cookie only from this exact host, so no other site under our domain
 * can set it. https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Set-Cookie#cookie_prefixes
 */
function named({ server }: { server: FastifyInstance }, name: string): string {
  return server.secureCookies ? `__Host-${name}` : name;
}

export function sessionCookieName(server: FastifyInstance): string {
  return named({ server }, SESSION);
}

/**
 * Options for reading cookies: ours have no escaped characters, and unescaping the thousands that a stranger can send
 * takes 30 ms. The package's types omit `decode`. https://github.com/jshttp/cookie#decode
 */
export const READ_COOKIES: { parseOptions: object } = { parseOptions: { decode: (value: string) => value } };

/**
 * Options of all our cookies: hidden from scripts, sent from other sites only when somebody follows a link, and Secure
 * on https.
 */
function options(request: FastifyRequest, maxAge: number) {
  return {
    path: '/',
    httpOnly: true,
    sameSite: 'lax',
    secure: request.server.secureCookies,
    maxAge,
  } as const;
}

/**
 * Cookies are absent outside the scopes that register them, where an error page can still be rendered, and before the
 * cookie hook has run.
 */
function cookieOf(request: FastifyRequest, name: string): string | null {
  const cookies = request.cookies as FastifyRequest['cookies'] | null | undefined;
  return cookies?.[name] ?? null;
}

export function sessionToken(request: FastifyRequest): string | null {
  return cookieOf(request, named(request, SESSION));
}

export function setSession(request: FastifyRequest, reply: FastifyReply, token: string): void {
  void reply.setCookie(named(request, SESSION), token, options(request, SESSION_SECONDS));
}

export function clearSession(request: FastifyRequest, reply: FastifyReply): void {
  void reply.clearCookie(named(request, SESSION), options(request, 0));
}

/**
 * Also accepts a cookie set before the prefix was introduced. Forging one achieves no more than sending a
 * link.
 */
export function invitationCookie(request: FastifyRequest): string | null {
  return cookieOf(request, named(request, INVITATION)) ?? cookieOf(request, INVITATION);
}

export function setInvitation(request: FastifyRequest, reply: FastifyReply, code: string): void {
  void reply.setCookie(named(request, INVITATION), code, options(request, INVITATION_SECONDS));
}

export function clearInvitation(request: FastifyRequest, reply: FastifyReply): void {
  for (const name of new Set([named(request, INVITATION), INVITATION])) {
    void reply.clearCookie(name, options(request, 0));
  }
}

export function setFlash(request: FastifyRequest, reply: FastifyReply, flash: Flash): void {
  void reply.setCookie(named(request, FLASH), flash, options(request, FLASH_SECONDS));
}

/** The one-off message for this page or from the redirect that led to it. Reading it clears it. */
export function takeFlash(request: FastifyRequest, reply: FastifyReply): (typeof FLASHES)[Flash] | null {
  const name = named(request, FLASH);
  const kept = cookieOf(request, name);
  if (kept !== null) void reply.clearCookie(name, options(request, 0));
  const flash = request.flash ?? kept;
  return flash !== null && Object.hasOwn(FLASHES, flash) ? FLASHES[flash as Flash] : null;
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Whether the public URL is https, so that cookies must be Secure. */
    secureCookies: boolean;
  }
}
