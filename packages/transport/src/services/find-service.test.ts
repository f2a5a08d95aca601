import { expect, it } from 'vitest';
import { findService, findServiceByHost, listServices } from './find-service.ts';
import { serviceProfiles } from './service-profiles.ts';

it.each([
  ['Gmail', 'Gmail', 'smtp.gmail.com'],
  ['google mail', 'Gmail', 'smtp.gmail.com'],
  ['googlemail.com', 'Gmail', 'smtp.gmail.com'],
  ['Office365', 'Outlook365', 'smtp.office365.com'],
  ['Microsoft 365', 'Outlook365', 'smtp.office365.com'],
  ['outlook365', 'Outlook365', 'smtp.office365.com'],
  ['Outlook', 'Hotmail', 'smtp-mail.outlook.com'],
  ['SES-EU-WEST-1', 'SES-EU-WEST-1', 'email-smtp.eu-west-1.amazonaws.com'],
])('%s is %s at %s', (name, id, host) => {
  expect(findService(name)).toMatchObject({ name: id, host });
});

it('every service has a host and a port, and is found by its own name', () => {
  expect(listServices().length).toBeGreaterThan(80);
  for (const service of listServices()) {
    expect(service.host).not.toBe('');
    expect(service.port).toBeGreaterThan(0);
    expect(findService(service.name)).toEqual(service);
  }
});

it('every profile belongs to a service', () => {
  expect(Object.keys(serviceProfiles).filter((name) => findService(name).name !== name)).toEqual([]);
});

it('a service is known by its host too', () => {
  expect(findServiceByHost('SMTP.office365.com')?.profile).toMatchObject({
    connections: 3,
    messagesPerMinute: 30,
  });
  expect(findServiceByHost('smtp.example.com')).toBeUndefined();
});
