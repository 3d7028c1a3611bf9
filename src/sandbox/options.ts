/** What a sandbox is started with. */
export interface SandboxOptions {
  /** Address to bind, e.g. `127.0.0.1`. */
  host: string;
  /** Port to bind; 0 takes any free one. */
  port: number;
  /** Host name that browsers use, e.g. `localhost`. */
  publicHost: string;
  /** The only accepted API key (`sk_test_…`). */
  apiKey: string;
  /** Signs the webhooks (`whsec_…`). */
  webhookSecret: string;
  /** Where webhooks go; asked at each delivery, because the receiver may not have a port yet. */
  webhookUrl: () => string;
  /** Ids of the two prices. */
  prices: { monthly: string; annual: string };
  /** Id of a price of another product in the same account, if there should be one. */
  otherPrice?: string;
  /** The sandbox's clock, the source of all times in objects and signatures. */
  now: () => Date;
  /**
   * If given, the state is kept in this file and survives a restart, and due things happen automatically, at the
   * start and every minute. Without it, `acts.advance()` lets them happen.
   */
  stateFile?: string;
  /** Receives one line for each noteworthy event. */
  log: (line: string) => void;
}
