/** What a sandbox is started with. */
export interface SandboxOptions {
  /** Address to bind, e.g. `127.0.0.1`. */
  host: string;
  /** Port to bind; 0 takes any free one. */
  port: number;
  /** Host name browsers use, e.g. `localhost`. */
  publicHost: string;
  /** The only API key that is accepted (`sk_test_…`). */
  apiKey: string;
  /** Signs the webhooks (`whsec_…`). */
  webhookSecret: string;
  /** Where webhooks go; asked at each delivery, since the receiver may not have a port yet. */
  webhookUrl: () => string;
  /** Ids of the two prices that exist. */
  prices: { monthly: string; annual: string };
  /** The id of a price of another product in the same account, if there is to be one. */
  otherPrice?: string;
  /** The sandbox's clock: every time in its objects and signatures comes from here. */
  now: () => Date;
  /** When given, state is kept in this file and survives a restart. */
  stateFile?: string;
  /**
   * Whether time passes by itself: what is due then happens at the start and every minute. When absent, exactly
   * when there is a state file, that is in a sandbox that people use; a test lets time pass by `acts.advance()`.
   */
  timePasses?: boolean;
  /** Takes one line for a human for each noteworthy thing. */
  log: (line: string) => void;
}
