// Sends the requests on standard input by axios, undici or fetch, and prints what came.
import { text } from 'node:stream/consumers';
import axios from 'axios';
import * as undici from 'undici';

const { base, token, kinds } = JSON.parse(await text(process.stdin));
const flat = (headers) => Object.entries(headers).flatMap(([name, value]) => [value].flat().map((v) => [name, String(v)]));

const clients = {
  async axios({ method, url, headers, body }) {
    const response = await axios.request({
      method, url, headers, data: body, decompress: false, maxRedirects: 0, responseType: 'arraybuffer', validateStatus: () => true,
      transformRequest: (data) => data,
    });
    return { status: response.status, header: flat(response.headers.toJSON()), body: Buffer.from(response.data ?? '') };
  },
  async undici({ method, url, headers, body }) {
    const response = await undici.request(url, { method, headers, body });
    return { status: response.statusCode, header: flat(response.headers), body: Buffer.from(await response.body.arrayBuffer()) };
  },
  async fetch({ method, url, headers, body }) {
    const response = await fetch(url, { method, headers, body, redirect: 'manual' });
    return { status: response.status, header: [...response.headers], body: Buffer.from(await response.arrayBuffer()) };
  },
};

for (const kind of kinds) {
  const headers = { Authorization: `Bearer ${token}`, ...kind.header };
  const body = kind.body ? Buffer.from(kind.body) : undefined;
  let outcome;
  try {
    const { status, header, body: got } = await clients[process.argv[2]]({ method: kind.method, url: base + kind.path, headers, body });
    outcome = { status, header, body: got.toString('base64') };
  } catch (error) {
    outcome = { error: String(error?.message ?? error) };
  }
  console.log(JSON.stringify({ name: kind.name, ...outcome }));
}
process.exit(0);
