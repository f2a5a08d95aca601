export type { AuthProvider } from './auth-provider.ts';
export { type AuthProviderOptions, createAuthProvider } from './create-auth-provider.ts';
export { basicProvider } from './kinds/basic.ts';
