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
  /** The sandbox's clock: every time in its objects and signatures comes from here. */
  now: () => Date;
  /** When given, state is kept in this file and survives a restart. */
  stateFile?: string;
  /** Takes one line for a human for each noteworthy thing. */
  log: (line: string) => void;
}
