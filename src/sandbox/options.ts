export interface SandboxOptions {
  /** Address to bind, e.g. `127.0.0.1`. */
  host: string;
  /** Port to bind; 0 takes any free one. */
  port: number;
  /** Host name that browsers use, e.g. `localhost`. */
  publicHost: string;
  /** Host name that programs on this machine use, e.g. `127.0.0.1`. */
  localHost: string;
  /** The seller's name on the pages. */
  seller: string;
  /** The only API key that is accepted (`sk_test_…`). */
  apiKey: string;
  /** Signs the webhooks (`whsec_…`). */
  webhookSecret: string;
  /** Where webhooks go. Called for each delivery, because the receiver may not have a port yet. */
  webhookUrl: () => string;
  /** Ids of the two prices. */
  prices: { monthly: string; annual: string };
  /** Id of a price of another product in the same account, if there is one. */
  otherPrice?: string;
  /** The real clock. The sandbox's own is this one plus the time that people let pass on its pages. */
  now: () => Date;
  /** Called each time the clock has moved by a day or less, so that the server can do what is due. */
  timePassed?: () => Promise<void>;
  /**
   * If given, the state is kept in this file and survives a restart, and due things happen automatically, at
   * the start and every minute. Without it, call `acts.advance()` or move the clock on the control panel.
   */
  stateFile?: string;
  /** Receives a message about each noteworthy event. For an unexpected error in a request it contains the stack. */
  log: (line: string) => void;
}
