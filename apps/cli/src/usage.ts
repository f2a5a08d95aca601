import { specs } from './specs.ts';

/** The help of all commands together. */
export function usage(): string {
  const commands = Object.entries(specs).map(([name, { about }]) => `  ${name.padEnd(12)}${about}`);
  return `flowpost: sends e-mail, and says what became of it

Usage: flowpost COMMAND [options]

${commands.join('\n')}
  help COMMAND  its options and examples; so does flowpost COMMAND --help
  --version

A connection is a URL (smtps://user:password@host:465), a JSON or YAML file, or @NAME: one of the connections in
flowpost.connections.json in this folder, or in the configuration, ~/.config/flowpost/config.yaml.

Environment: FLOWPOST_CONNECTION is the connection where neither --connection nor the file of run or batch names one,
FLOWPOST_CONFIG stands in for --config, FLOWPOST_KEYS holds the keys that open
encrypted text, FLOWPOST_TOKENS names a folder where OAuth tokens are kept between runs, encrypted with those keys, NO_COLOR
switches colours off.

Exit codes: 0 sent; 64 usage; 65 bad message or settings; 66 attachment; 69 refused (all or some), or TLS not trusted;
70 defect; 75 try again later; 76 in doubt; 77 authentication; 78 configuration.
`;
}
