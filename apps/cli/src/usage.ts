/** A command line that cannot be understood. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export const usage = `flowpost: sends e-mail, and says what became of it

  flowpost send --connection URL|FILE|@NAME --from A --to A[,B] --subject S [--text T|@FILE] [--html H|@FILE]
                [--cc A] [--bcc A] [--reply-to A] [--attach PATH|URL|data:... ...]
                [--inline CID=PATH ...] [--priority high|normal|low] [--header 'K: V' ...]
                [--verbose] [--json]
  flowpost run FILE [--flow FILE] [--connection URL|FILE|@NAME] [--json]
                FILE holds { "node": TYPE, "settings": {...}, "flow": {...} }
  flowpost preview (as send, or FILE as run)
                the exact bytes that would be sent, on standard output; nothing is sent
  flowpost verify --connection URL|FILE|@NAME [--json]
                the way to a server, step by step: what is wrong, and how to mend it; nothing is sent
  flowpost services [NAME] [--json]
                known mail services, and what they allow
  flowpost catch [--port N] [--dir FOLDER] [--json]
                a mail server on this machine that keeps what it gets
  flowpost secret keygen [ID] | encrypt | rotate
                encrypt and rotate read the text from standard input
  flowpost --version | --help

A connection is a URL (smtps://user:password@host:465), a JSON file, or @NAME in flowpost.connections.json.
FLOWPOST_CONNECTION stands in for --connection, FLOWPOST_KEYS holds the keys that open encrypted text.
FLOWPOST_TOKENS names a folder where OAuth tokens are kept between runs, encrypted.

Exit codes: 0 sent; 64 usage; 65 bad message or settings; 66 attachment; 69 refused, or TLS not trusted;
70 defect; 75 try again later; 76 in doubt; 77 authentication; 78 configuration.
`;
