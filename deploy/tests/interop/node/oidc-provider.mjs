// An authorization server: oidc-provider on 127.0.0.1. Issues opaque tokens, and JWTs to
// who asks for the resource urn:fhir:jwt; only opaque ones can be introspected there.
//
//   PORT=4000 JWKS='{"keys":[…]}' node oidc-provider.mjs
import http from 'node:http';
import { Provider } from 'oidc-provider';

const port = Number(process.env.PORT);
const issuer = `http://127.0.0.1:${port}`;
const secret = (id, more) => ({
  client_id: id, client_secret: `${id}-secret`, redirect_uris: [], response_types: [],
  grant_types: ['client_credentials'], token_endpoint_auth_method: 'client_secret_basic', ...more,
});

const provider = new Provider(issuer, {
  cookies: { keys: ['for tests'] },
  scopes: ['openid', 'offline_access', 'patient/*.rs', 'system/*.rs'],
  claims: { openid: ['sub'] },
  pkce: { required: () => false },
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt'],
  enabledJWA: { clientAuthSigningAlgValues: ['RS256', 'RS384', 'ES384', 'PS256'] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (ctx, client) => client.clientId.startsWith('sidecar') },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({ scope: 'patient/*.rs', audience: 'urn:fhir', accessTokenFormat: 'jwt', accessTokenTTL: 300 }),
    },
  },
  ttl: { ClientCredentials: 300, AccessToken: 300, RefreshToken: 300, IdToken: 300, Grant: 300 },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  extraTokenClaims: () => ({ patient: '123', fhirUser: 'Practitioner/456', fhirContext: [{ reference: 'Task/7' }], tenant: 'Café' }),
  clients: [
    secret('app', { scope: 'openid offline_access patient/*.rs', grant_types: ['client_credentials', 'refresh_token', 'authorization_code'], redirect_uris: ['http://127.0.0.1/cb'], response_types: ['code'] }),
    secret('sidecar'),
    secret('sidecar-post', { token_endpoint_auth_method: 'client_secret_post' }),
    secret('stranger'),
    ...(process.env.JWKS ? [{ ...secret('sidecar-key'), client_secret: undefined, token_endpoint_auth_method: 'private_key_jwt', jwks: JSON.parse(process.env.JWKS) }] : []),
  ],
});

// A login without a browser: POST /login gives what the code flow would end in.
provider.use(async (ctx, next) => {
  if (ctx.path !== '/login') return next();
  const client = await provider.Client.find('app');
  const grant = new provider.Grant({ accountId: 'berta', clientId: 'app' });
  grant.addOIDCScope('openid offline_access patient/*.rs');
  const grantId = await grant.save();
  const of = { accountId: 'berta', client, grantId, gty: 'authorization_code', scope: 'openid offline_access patient/*.rs', claims: {}, authTime: Math.floor(Date.now() / 1000) };
  const access = new provider.AccessToken({ ...of, extra: { patient: '123', fhirUser: 'Practitioner/456' } });
  const refresh = new provider.RefreshToken(of);
  const id = new provider.IdToken({ sub: 'berta' }, { ctx, client });
  id.scope = 'openid';
  ctx.body = { access_token: await access.save(), refresh_token: await refresh.save(), id_token: await id.issue({ use: 'idtoken' }) };
});

const server = http.createServer(provider.callback());
server.listen(port, '127.0.0.1', () => console.log('serving'));
process.on('SIGTERM', () => { server.close(() => process.exit(0)); server.closeAllConnections(); });
