// Each request goes through PostGraphile over HTTP and through the replay of
// PostgREST's statements; rows and refusals must be the same.
'use strict';
const { after, before, test } = require('node:test');
const assert = require('node:assert/strict');
const pg = require('pg');
const database = require('./database');
const { start } = require('./server');

const VIEWS = {
  allClients: ['clients', 'orgId id name email'],
  allTeams: ['teams', 'orgId id name'],
  allWorkers: ['workers', 'orgId id teamId name'],
  allWorkerRates: ['worker_rates', 'orgId id workerId'],
  allBookings: ['bookings', 'orgId id clientId status version currency'],
  allInvoices: ['invoices', 'orgId id clientId status'],
  allInvoiceItems: ['invoice_items', 'orgId invoiceId position'],
  allPayments: ['payments', 'orgId id kind'],
  allLeads: ['leads', 'orgId id status'],
  allReferralCredits: ['referral_credits', 'orgId id leadId'],
};
const ROLES = ['owner', 'admin', 'dispatcher', 'finance', 'worker', 'client'];

const web = new pg.Pool({ user: 'regress_web', max: 2 });
let server;
let callers;
let orgs;

before(async () => {
  server = await start(web, ['cleaning_v1'], await database.jwks());
  orgs = (await database.orgs()).slice(0, 2);
  callers = [await database.caller()];
  for (const org of orgs) {
    for (const role of ROLES) callers.push(await database.caller(org, role));
  }
});

after(async () => {
  server.close();
  await web.end();
  await database.admin.end();
});

async function graphql(caller, query, variables) {
  const response = await fetch(`http://127.0.0.1:${server.address().port}/graphql`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(caller.token && { authorization: `Bearer ${caller.token}` }),
    },
    body: JSON.stringify({ query, variables }),
  });
  return { status: response.status, ...(response.status === 401 ? {} : await response.json()) };
}

const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const sorted = (rows) => rows.map((row) => JSON.stringify(row)).sort();

test('every view shows each caller the same rows', async (t) => {
  for (const [field, [view, columns]] of Object.entries(VIEWS)) {
    for (const caller of callers) {
      await t.test(`${caller.name}: ${view}`, async () => {
        const names = columns.split(' ');
        const expected = await database.replay("test.get($1, 'cleaning_v1', $2)", [caller.claims, view]);
        const answer = await graphql(caller, `{ ${field} { nodes { ${columns} } } }`);
        if (expected.status !== 200) {
          assert.equal(answer.errors[0].message, expected.message);
          return;
        }
        assert.equal(answer.errors, undefined);
        assert.deepEqual(
          sorted(answer.data[field].nodes.map((row) => names.map((name) => row[name]))),
          sorted(expected.body.map((row) => names.map((name) => row[snake(name)]))),
        );
      });
    }
  }
});

test('an owner sees rows, all of the own organization', async () => {
  for (const caller of callers.filter(({ name }) => name.startsWith('owner'))) {
    const answer = await graphql(caller, '{ allBookings { nodes { orgId } } }');
    assert.ok(answer.data.allBookings.nodes.length > 0);
    assert.ok(answer.data.allBookings.nodes.every(({ orgId }) => orgId === caller.claims.org_id));
  }
});

test('a row for another organization is refused with the same words', async () => {
  const [, one] = callers;
  const other = callers.find(({ claims }) => claims && claims.org_id !== one.claims.org_id);
  const row = { org_id: other.claims.org_id, name: 'Planted' };
  const expected = await database.replay("test.post($1, 'cleaning_v1', 'clients', $2)", [one.claims, row]);
  const answer = await graphql(
    one,
    'mutation ($org: UUID!) { createClient(input: { client: { orgId: $org, name: "Planted" } }) { client { id } } }',
    { org: other.claims.org_id },
  );
  assert.equal(expected.status, 403);
  assert.equal(answer.errors[0].message, expected.message);
  assert.equal(answer.errors[0].errcode, expected.code);
});

test('a row without an organization becomes the own one', async () => {
  for (const caller of callers.filter(({ name }) => name.startsWith('owner'))) {
    const answer = await graphql(
      caller,
      'mutation { createTeam(input: { team: { name: "From HTTP" } }) { team { orgId name } } }',
    );
    assert.equal(answer.errors, undefined);
    assert.deepEqual(answer.data.createTeam.team, { orgId: caller.claims.org_id, name: 'From HTTP' });
  }
});

test('a function refuses with the same code', async () => {
  const worker = callers.find(({ name }) => name.startsWith('worker'));
  const booking = '00000000-0000-7000-8000-000000000000';
  const expected = await database.replay("test.rpc($1, 'cleaning_v1', 'confirm_booking', $2)", [worker.claims, { booking }]);
  const answer = await graphql(
    worker,
    'mutation ($booking: UUID!) { confirmBooking(input: { booking: $booking }) { clientMutationId } }',
    { booking },
  );
  assert.equal(answer.errors[0].errcode, expected.code);
  assert.equal(answer.errors[0].message, expected.message);
});

test('a token that does not hold is 401', async () => {
  const [, owner] = callers;
  const [head, payload, signature] = owner.token.split('.');
  const forged = JSON.parse(Buffer.from(payload, 'base64url'));
  forged.org_id = '00000000-0000-7000-8000-000000000000';
  for (const token of [
    `${head}.${Buffer.from(JSON.stringify(forged)).toString('base64url')}.${signature}`,
    `${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.`,
  ]) {
    assert.equal((await graphql({ token }, '{ __typename }')).status, 401);
  }
});
