const secretName = /password|secret|^(?:access|refresh)?token$|privatekey/i;

/** Whether a setting's text may hold braces of its own, and must not be shown. */
export const isSecretName = (name: string): boolean => secretName.test(name);
