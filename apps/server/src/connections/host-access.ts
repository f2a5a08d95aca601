import { realpathSync } from 'node:fs';
import { isIP } from 'node:net';
import { isAbsolute, resolve, sep } from 'node:path';
import {
  type Connection,
  EncryptedText,
  isLoopbackHost,
  MailError,
  portOf,
  withoutBrackets,
} from '@flowpost/core';
import { AddressGuard, isPublicAddress } from '@flowpost/mime-attachments';

/** Where a path leads; of what is not there, as it stands. */
function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return resolve(path);
  }
}

/** A name says little: where it leads is looked at when it is connected to. */
function mayBePublic(host: string): boolean {
  if (isIP(host) > 0) return isPublicAddress(host);
  return !isLoopbackHost(host) && host.includes('.') && !/\.(?:internal|local|localhost|lan)\.?$/i.test(host);
}

/** The servers of a connection that this process asks for tokens, or hands messages to over HTTP. */
function urlsOf(connection: Connection): URL[] {
  const { auth } = connection;
  const endpoint = auth && 'tokenEndpoint' in auth ? auth.tokenEndpoint : undefined;
  const graph = connection.kind === 'microsoft365' ? connection.graphBaseUrl : undefined;
  return [endpoint, graph].flatMap((url) => (url === undefined ? [] : [new URL(url)]));
}

const hostOf = ({ hostname }: URL): string => withoutBrackets(hostname.toLowerCase());

/** What connections that come over the API may use of the machine and the network this server is in. */
export class HostAccess {
  readonly #folder: string;
  readonly #guard: AddressGuard;
  /** Hosts and ports that administrators put into connections: they may lead into the server's own network. */
  readonly #trusted = new Set<string>();

  constructor({
    filesFolder,
    allowedHosts = [],
  }: { readonly filesFolder: string; readonly allowedHosts?: readonly string[] | undefined }) {
    this.#folder = filesFolder;
    this.#guard = new AddressGuard(allowedHosts);
  }

  /**
   * Files a connection names must lie in the server's own folder for files.
   *
   * @throws MailError `CONNECTION_INVALID`.
   */
  assertFiles(connection: Connection): void {
    const dkim = connection.kind === 'smtp' ? (connection.dkim ?? []).map((one) => one.privateKeyFile) : [];
    const certificate =
      connection.auth?.kind === 'oauth2-certificate' ? connection.auth.certificateFile : undefined;
    for (const path of [connection.tlsOptions?.caFile, certificate, ...dkim]) {
      if (path === undefined) continue;
      if (path instanceof EncryptedText || !this.#isInside(path)) {
        throw new MailError(
          'CONNECTION_INVALID',
          'A file of the connection is outside of the folder for files.',
          {
            hint: `Put the file into ${this.#folder} and give its whole path, or give its content instead.`,
          },
        );
      }
    }
  }

  /** A path from here would be read as one from wherever this process was started. */
  #isInside(path: string): boolean {
    if (!isAbsolute(path)) return false;
    return real(path).startsWith(`${real(this.#folder)}${sep}`);
  }

  /**
   * Whoever may only send must not have this server call addresses in its own network: tokens come from public https servers,
   * or from those the server's operator allows. Stored connections are made by administrators.
   *
   * @throws MailError `CONNECTION_INVALID`.
   */
  assertInline(connection: Connection): void {
    this.assertFiles(connection);
    for (const url of urlsOf(connection)) {
      const host = hostOf(url);
      // No address, so that only what is allowed by name or as an address passes.
      if (!isPublicAddress(host) && this.#guard.allows(host, host, portOf(url))) continue;
      if (url.protocol === 'https:' && mayBePublic(host)) continue;
      throw new MailError(
        'CONNECTION_INVALID',
        'The token endpoint or Graph URL is not a public https server.',
        {
          hint: 'Have an administrator store the connection and use it as "@NAME", or allow the host with FLOWPOST_ALLOWED_HOSTS.',
        },
      );
    }
  }

  /** An administrator stored it. */
  trust(connection: Connection): void {
    for (const url of urlsOf(connection)) this.#trusted.add(`${hostOf(url)} ${portOf(url)}`);
  }

  /** Whether a host and port stand in a stored connection. */
  readonly trusts = (host: string, port: number): boolean =>
    this.#trusted.has(`${host.toLowerCase()} ${port}`);
}
