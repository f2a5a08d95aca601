import { isIP } from 'node:net';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { MailError, readRegularFile, type TlsOptions } from '@flowpost/core';
import { connectionError, type Endpoint } from '../diagnosis/connection-failure.ts';

/** All the authorities of a system are a few hundred kilobytes. */
const largestCaBytes = 5_000_000;

async function readCaFile(path: string): Promise<string> {
  try {
    return (await readRegularFile(path, largestCaBytes)).toString('utf8');
  } catch (cause) {
    throw new MailError('CONNECTION_INVALID', `tlsOptions.caFile cannot be read: ${path}.`, {
      hint: 'Check the path of the CA file and that it may be read.',
      details: { path, reason: (cause as NodeJS.ErrnoException).code },
      cause,
    });
  }
}

/**
 * The options of `tls.connect` for a connection: TLS 1.2 at least, certificates verified.
 *
 * @throws MailError `CONNECTION_INVALID`.
 */
export async function tlsConnectOptions(host: string, options: TlsOptions = {}): Promise<ConnectionOptions> {
  const { ca, caFile, fingerprints, serverName, minVersion, dangerouslyAcceptAnyCertificate } = options;
  const authorities = [ca ?? [], caFile === undefined ? [] : await readCaFile(caFile)].flat();
  const name = serverName ?? (isIP(host) > 0 ? undefined : host);
  return {
    host: name ?? host,
    minVersion: minVersion ?? 'TLSv1.2',
    // A pinned certificate is compared after the handshake; it need not be signed by anybody.
    rejectUnauthorized: fingerprints === undefined && dangerouslyAcceptAnyCertificate !== true,
    ...(name !== undefined && { servername: name }),
    ...(authorities.length > 0 && { ca: authorities }),
  };
}

/** @throws MailError `TLS_FINGERPRINT_MISMATCH` when certificates are pinned and the server shows another. */
export function checkFingerprint(
  socket: TLSSocket,
  options: TlsOptions | undefined,
  endpoint: Endpoint,
): void {
  const pinned = options?.fingerprints;
  if (pinned === undefined) return;
  const shown = socket.getPeerCertificate().fingerprint256?.replaceAll(':', '').toLowerCase() ?? '';
  if (!pinned.includes(shown)) {
    throw connectionError('TLS_FINGERPRINT_MISMATCH', 'tls', endpoint, { details: { fingerprint: shown } });
  }
}
