/** The sandbox was asked for something that is not possible now. Nothing has changed. */
export class Refusal extends Error {
  override name = 'Refusal';
}
