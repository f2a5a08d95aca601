export {
  CertificateAuthority,
  type CertificateOptions,
  createSelfSigned,
  createTestCertificates,
  type KeyPair,
  type TestCertificates,
} from './certificates.ts';
export { CuttingProxy, type CuttingProxyOptions } from './cutting-proxy.ts';
export { type FaultEnvelope, FaultServer, type FaultServerOptions } from './fault-server.ts';
export { type Fault, type FaultStage, faultStages, faults } from './faults.ts';
export { GoogleTokenEndpoint, type GoogleTokenEndpointOptions } from './google-token-endpoint.ts';
export {
  type GraphInjection,
  type GraphMail,
  GraphServer,
  type GraphServerOptions,
} from './graph-server.ts';
export { type HttpHandler, HttpServer, type HttpServerOptions } from './http-server.ts';
export { type InjectedAnswer, OAuthServer, type OAuthServerOptions } from './oauth-server.ts';
export { type ParsedAddress, type ParsedAttachment, type ParsedMail, parseMail } from './parse-mail.ts';
export { RawServer, speakSmtp } from './raw-server.ts';
export { type ReceivedMail, type Refusal, SmtpInbox, type SmtpInboxOptions } from './smtp-inbox.ts';
