export interface SandboxOptions {
  /** Address to bind, e.g. `127.0.0.1`. */
  host: string;
  /** Port to bind; 0 takes any free one. */
  port: number;
  /** Host name that browsers use, e.g. `localhost`. */
  publicHost: string;
  /** The only API key that is accepted (`sk_test_…`). */
  apiKey: string;
  /** Signs the webhooks (`whsec_…`). */
  webhookSecret: string;
  /** Where webhooks go. Called for each delivery, because the receiver may not have a port yet. */
  webhookUrl: () => string;
  /** Ids of the two prices. */
  prices: { monthly: string; annual: string };
  /** Id of a price of another product in the same account. Without it there is no such price. */
  otherPrice?: string;
  /** The sandbox's clock. All times in objects and signatures come from it. */
  now: () => Date;
  /**
   * If given, the state is kept in this file and survives a restart, and due things happen automatically, at
   * the start and every minute. Without it, nothing happens until `acts.advance()` is called.
   */
  stateFile?: string;
  /** Receives one line per noteworthy event. */
  log: (line: string) => void;
}
