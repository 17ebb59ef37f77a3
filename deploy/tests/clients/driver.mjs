// Runs scripts for the tests, one line of JSON each: in Node, or in a page that
// Chromium has opened in a fresh profile. A page without a script sets `result` itself.
import { createInterface } from 'node:readline';
import fhirclient from 'fhirclient';
import { Client } from 'fhir-kit-client';
import { chromium } from 'playwright-core';

const AsyncFunction = (async () => {}).constructor;
let browser;

async function inNode(script, argument) {
  // fhirclient expects the request and the response of a web application.
  const redirects = [];
  const request = { url: '/', headers: { host: 'app.example.org' }, socket: { encrypted: true } };
  const response = { setHeader: (name, value) => name === 'location' && redirects.push(value), end() {}, writeHead: (status, headers) => redirects.push(headers.location) };
  const kept = new Map();
  const storage = { get: async (key) => kept.get(key), set: async (key, value) => (kept.set(key, value), value), unset: async (key) => kept.delete(key) };
  const FHIR = fhirclient(request, response, storage);
  return await new AsyncFunction('FHIR', 'Client', 'argument', 'redirects', script)(FHIR, Client, argument, redirects);
}

async function inPage(url, script, argument) {
  browser ??= await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  try {
    const page = await context.newPage();
    await page.goto(url);
    if (!script) return await (await page.waitForFunction(() => globalThis.result, null, { timeout: 20_000 })).jsonValue();
    return await page.evaluate(([source, value]) => new (async () => {}).constructor('argument', source)(value), [script, argument]);
  } finally {
    await context.close();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { page, script, argument } = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await (page ? inPage(page, script, argument) : inNode(script, argument))) ?? null };
  } catch (error) {
    answer = { error: `${error?.name}: ${error?.message}` };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
await browser?.close();
