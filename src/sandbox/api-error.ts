/** The fields of Stripe's error object that the sandbox fills in. */
export interface ErrorDetails {
  type: 'invalid_request_error' | 'idempotency_error' | 'card_error' | 'api_error';
  message: string;
  code?: string;
  param?: string;
}

/** An error response of the API: https://docs.stripe.com/api/errors */
export class StripeApiError extends Error {
  readonly status: number;
  readonly details: ErrorDetails;

  constructor(status: number, details: ErrorDetails) {
    super(details.message);
    this.status = status;
    this.details = details;
  }
}

/**
 * @param code Stripe's error code, e.g. `parameter_missing`
 * @param param the parameter at fault, in bracket form
 */
export function badRequest(message: string, code?: string, param?: string): StripeApiError {
  return new StripeApiError(400, {
    type: 'invalid_request_error',
    message,
    ...(code === undefined ? {} : { code }),
    ...(param === undefined ? {} : { param }),
  });
}

/**
 * Builds the error for an unknown id. Stripe answers 404 when the id was in the path and 400 when it was in a
 * parameter.
 *
 * @param noun e.g. `customer`
 * @param param undefined when the id was in the path
 */
export function missing(noun: string, id: string, param?: string): StripeApiError {
  return new StripeApiError(param === undefined ? 404 : 400, {
    type: 'invalid_request_error',
    code: 'resource_missing',
    message: `No such ${noun}: '${id}'`,
    param: param ?? 'id',
  });
}
