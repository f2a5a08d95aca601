/** Where in a delivery something goes wrong. */
export const faultStages = [
  'greeting',
  'ehlo',
  'starttls',
  'handshake',
  'auth',
  'mail',
  'rcpt',
  'data',
  'body',
  'dot',
] as const;
/** Where it goes wrong; see {@link faultStages}. */
export type FaultStage = (typeof faultStages)[number];

/**
 * What goes wrong: the connection ends (`fin`), is reset (`rst`) or falls silent; the answer is a temporary or a final
 * refusal, no SMTP at all, without end, in several lines, or preceded by one nobody asked for.
 */
export const faults = [
  'fin',
  'rst',
  'silence',
  '4yz',
  '5yz',
  'garbage',
  'endless',
  'multiline',
  'early',
  '421',
] as const;
/** What goes wrong; see {@link faults}. */
export type Fault = (typeof faults)[number];
