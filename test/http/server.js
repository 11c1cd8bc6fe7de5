// A thin HTTP layer that isn't PostgREST: PostGraphile, with the role and the
// claims of a verified token as settings of each request's transaction. It
// knows nothing of tenants.
'use strict';
const http = require('node:http');
const jwt = require('jsonwebtoken');
const { postgraphile } = require('postgraphile');

const ROLES = ['ringfence_anon', 'ringfence_member'];

// keys: a JSON Web Key Set as ringfence.jwks() gives it.
function claimsOf(request, keys) {
  const [, token] = /^Bearer (.+)$/.exec(request.headers.authorization ?? '') ?? [];
  if (token === undefined) return { role: 'ringfence_anon' };
  const kid = jwt.decode(token, { complete: true })?.header.kid;
  const key = keys.find((candidate) => candidate.kid === kid);
  if (key === undefined) throw new Error('unknown key');
  const claims = jwt.verify(token, Buffer.from(key.k, 'base64url'), {
    algorithms: ['HS256'],
    audience: 'ringfence',
    issuer: 'ringfence',
  });
  if (!ROLES.includes(claims.role)) throw new Error('unknown role');
  return claims;
}

// What the request's key is for the next statement that changes something; no
// setting without one. One mutation a request, for there is one key.
function keyOf(request) {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return {};
  if (!/^[\x20-\x7e]{1,255}$/.test(key)) throw new Error('no key');
  return { 'ringfence.idempotency_key': key };
}

// Resolves to a listening server. pool: pg's, of a login role that is a member
// of ringfence_authenticator.
function start(pool, schemas, jwks) {
  const handler = postgraphile(pool, schemas, {
    dynamicJson: true,
    graphiql: false,
    ignoreRBAC: true,
    setofFunctionsContainNulls: false,
    disableQueryLog: true,
    extendedErrors: ['errcode'],
    pgSettings: async (request) => ({
      role: request.claims.role,
      'request.jwt.claims': JSON.stringify(request.claims),
      'request.method': request.method,
      'request.path': request.url,
      'request.headers': JSON.stringify({ ...request.headers, authorization: undefined }),
      'request.cookies': '{}',
      ...request.key,
    }),
  });
  const server = http.createServer((request, response) => {
    try {
      request.claims = claimsOf(request, jwks.keys);
    } catch {
      response.writeHead(401, { 'www-authenticate': 'Bearer' }).end();
      return;
    }
    try {
      request.key = keyOf(request);
    } catch {
      response.writeHead(400).end();
      return;
    }
    handler(request, response);
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(server));
  });
}

module.exports = { start };
