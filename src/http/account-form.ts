import type { FastifyReply, FastifyRequest } from 'fastify';

import { planIn } from './billing/billing.ts';
import { typedText } from './forms.ts';
import type { FormErrors } from './forms.ts';
import { sendPage } from './page.ts';

/** Renders the sign-up or login form with what was typed. */
export function accountForm(
  request: FastifyRequest,
  reply: FastifyReply,
  template: 'signup' | 'login',
  errors: FormErrors,
): FastifyReply {
  const title = template === 'signup' ? 'Sign up' : 'Log in';
  return sendPage(request, reply, template, {
    title,
    values: { email: typedText(request.body, 'email') },
    plan: planIn(request.body) ?? planIn(request.query),
    errors,
  });
}
