// Does what FHIR clients do, by fhirclient, fhir-kit-client or MedplumClient, and prints
// what came of each step: node fhir-clients.mjs CLIENT BASE TOKEN
import { MedplumClient } from '@medplum/core';
import { Client as FhirKit } from 'fhir-kit-client';
import fhirclient from 'fhirclient';

const [name, base, token] = process.argv.slice(2);
const patient = () => ({ resourceType: 'Patient', name: [{ family: 'Jönsson' }] });

const fhirKit = () => {
  const client = new FhirKit({ baseUrl: base, bearerToken: token });
  return {
    capabilities: async () => (await client.capabilityStatement()).fhirVersion,
    read: () => client.read({ resourceType: 'Patient', id: 'p1' }),
    vread: () => client.vread({ resourceType: 'Patient', id: 'p1', version: '1' }),
    missing: () => client.read({ resourceType: 'Patient', id: 'nobody' }),
    search: () => client.search({ resourceType: 'Patient', searchParams: { family: 'Botje' } }),
    'search by POST': () => client.search({ resourceType: 'Patient', searchParams: { family: 'Botje' }, options: { postSearch: true } }),
    pages: async () => {
      let bundle = await client.search({ resourceType: 'Patient' });
      const ids = [];
      while (bundle) {
        ids.push(...bundle.entry.map((entry) => entry.resource.id));
        bundle = await client.nextPage({ bundle });
      }
      return ids;
    },
    history: () => client.history({ resourceType: 'Patient', id: 'p1' }),
    create: () => client.create({ resourceType: 'Patient', body: patient() }),
    update: () => client.update({ resourceType: 'Patient', id: 'p4', body: { resourceType: 'Patient', id: 'p4', active: true } }),
    patch: () => client.patch({ resourceType: 'Patient', id: 'p4', JSONPatch: [{ op: 'replace', path: '/active', value: false }] }),
    batch: () => client.transaction({ body: { resourceType: 'Bundle', type: 'transaction', entry: [{ request: { method: 'GET', url: 'Patient/p1' } }] } }),
    operation: () => client.operation({ name: 'whoami', resourceType: 'Patient', id: 'p1', method: 'GET' }),
    'operation of the system': () => client.operation({ name: 'reflect', input: { resourceType: 'Parameters', parameter: [{ name: 'a', valueString: 'b' }] } }),
    delete: () => client.delete({ resourceType: 'Patient', id: 'p7' }),
    reference: () => client.resolve({ reference: `${base}/Patient/p1` }),
  };
};

const smart = () => { // it expects the request and the response of a web application
  const request = { url: '/', headers: { host: 'app.example.org' }, socket: { encrypted: true } };
  const response = { setHeader() {}, writeHead() {}, end() {} };
  const client = fhirclient(request, response).client({ serverUrl: base, tokenResponse: { access_token: token, patient: 'p1' } });
  return {
    patient: () => client.patient.read(),
    version: () => client.getFhirVersion(),
    read: () => client.request('Patient/p2'),
    missing: () => client.request('Patient/nobody'),
    search: () => client.request('Patient?family=Botje'),
    pages: async () => (await client.request('Patient', { pageLimit: 0, flat: true })).map((p) => p.id),
    references: () => client.request('Observation?patient=p1', { resolveReferences: 'subject', graph: false }),
    'patient of the request': () => client.patient.request('Observation'),
    create: () => client.create(patient()),
    update: () => client.update({ resourceType: 'Patient', id: 'p4', active: true }),
    patch: () => client.patch('Patient/p4', [{ op: 'replace', path: '/active', value: false }]),
    delete: () => client.delete('Patient/p7'),
  };
};

const medplum = () => {
  const client = new MedplumClient({ baseUrl: base.replace(/fhir$/, ''), fhirUrlPath: 'fhir', accessToken: token, cacheTime: 0, fetch });
  client.setAccessToken(token);
  return {
    read: () => client.readResource('Patient', 'p1'),
    missing: () => client.readResource('Patient', 'nobody'),
    search: () => client.search('Patient', 'family=Botje'),
    resources: async () => (await client.searchResources('Patient', 'family=Botje')).map((p) => p.id),
    pages: async () => {
      const ids = [];
      for await (const page of client.searchResourcePages('Patient')) ids.push(...page.map((p) => p.id));
      return ids;
    },
    history: () => client.readHistory('Patient', 'p1'),
    version: () => client.readVersion('Patient', 'p1', '1'),
    create: () => client.createResource(patient()),
    'create unless there is one': () => client.createResourceIfNoneExist(patient(), 'family=Jönsson'),
    update: () => client.updateResource({ resourceType: 'Patient', id: 'p4', active: true }),
    batch: () => client.executeBatch({ resourceType: 'Bundle', type: 'batch', entry: [{ request: { method: 'GET', url: 'Patient/p1' } }] }),
    operation: () => client.get(client.fhirUrl('Patient', 'p1', '$whoami')),
    delete: () => client.deleteResource('Patient', 'p7'),
  };
};

for (const [step, run] of Object.entries({ 'fhir-kit-client': fhirKit, fhirclient: smart, MedplumClient: medplum }[name]())) {
  let result;
  try {
    result = { value: (await run()) ?? null };
  } catch (error) {
    result = { error: String(error?.message ?? error), status: error?.response?.status ?? error?.status ?? error?.outcome?.issue };
  }
  console.log(JSON.stringify({ step, ...result }));
}
process.exit(0);
