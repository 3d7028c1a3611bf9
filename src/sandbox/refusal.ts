/** Something that makes no sense at the moment was asked of the sandbox. Nothing has happened. */
export class Refusal extends Error {
  override name = 'Refusal';
}
