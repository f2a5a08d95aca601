import type { Login } from '@flowpost/core';

/** Turns one credential into logins. */
export interface AuthProvider {
  /**
   * A login that is valid now.
   *
   * @throws MailError of category `configuration` or `authentication`.
   */
  login(signal?: AbortSignal): Promise<Login>;
}
