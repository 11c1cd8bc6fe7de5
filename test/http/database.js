// What the HTTP tests ask the database itself: the organizations to compare,
// tokens, and the answers that the replay helper gets.
'use strict';
const pg = require('pg');

// Numbers and times as JSON has them, not as JavaScript would.
const admin = new pg.Pool({ max: 1 });

async function value(sql, params = []) {
  const { rows } = await admin.query({ text: sql, values: params, rowMode: 'array' });
  return rows[0]?.[0];
}

// Claims and a token for a member of an organization; neither for nobody.
async function caller(org, role) {
  if (org === undefined) return { name: 'nobody', claims: null, token: undefined };
  const claims = await value('SELECT test.claims($1, $2)', [org, role]);
  return {
    name: `${role} of ${org}`,
    claims,
    token: await value('SELECT ringfence.jwt_sign($1)', [claims]),
  };
}

const orgs = () => value('SELECT array_agg(name ORDER BY name) FROM ringfence_data.orgs');
const jwks = () => value('SELECT ringfence.jwks()');

// The replay helper's answer to a call of one of its functions.
async function replay(call, params) {
  const { rows } = await admin.query(`SELECT r.* FROM ${call} AS r`, params);
  return rows[0];
}

module.exports = { admin, caller, jwks, orgs, replay, value };
