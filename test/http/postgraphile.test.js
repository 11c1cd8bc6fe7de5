// Each request goes through PostGraphile over HTTP and through the replay of
// PostgREST's statements; rows and refusals must be the same.
'use strict';
const { createHash, randomUUID } = require('node:crypto');
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
let onceServer;
let coreServer;
let callers;
let orgs;

before(async () => {
  server = await start(web, ['cleaning_v1'], await database.jwks());
  onceServer = await start(web, ['once_v1'], await database.jwks());
  coreServer = await start(web, ['ringfence_v1'], await database.jwks());
  orgs = (await database.orgs()).slice(0, 2);
  callers = [await database.caller()];
  for (const org of orgs) {
    for (const role of ROLES) callers.push(await database.caller(org, role));
  }
});

after(async () => {
  server.close();
  onceServer.close();
  coreServer.close();
  await web.end();
  await database.admin.end();
});

async function graphql(caller, query, variables, { to = server, headers } = {}) {
  const response = await fetch(`http://127.0.0.1:${to.address().port}/graphql`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(caller.token && { authorization: `Bearer ${caller.token}` }),
      ...headers,
    },
    body: JSON.stringify({ query, variables }),
  });
  const text = await response.text();
  return { status: response.status, ...(text === '' ? {} : JSON.parse(text)) };
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

test('a report has the same figures', async (t) => {
  const args = { from: '2025-01-01', to: '2025-12-31', basis: 'cash', period: 'quarter' };
  const query = `query ($from: Date!, $to: Date!, $basis: String!, $period: String!) {
    gstReport(from: $from, to: $to, basis: $basis, period: $period) {
      nodes { currency periodStart gstRate invoices netMinor gstMinor totalMinor }
    }
  }`;
  for (const caller of callers) {
    await t.test(caller.name, async () => {
      const expected = await database.replay("test.rpc($1, 'cleaning_v1', 'gst_report', $2, 'GET')", [caller.claims, args]);
      const answer = await graphql(caller, query, args);
      if (expected.status !== 200) {
        assert.deepEqual([answer.errors[0].errcode, answer.errors[0].message], [expected.code, expected.message]);
        return;
      }
      assert.ok(expected.body.length > 0);
      // GraphQL has 64-bit numbers and numerics as strings.
      const plain = (row) =>
        Object.entries(row).map(([key, value]) => `${snake(key)} ${/^gst_?rate$/i.test(key) ? Number(value) : value}`).sort();
      assert.deepEqual(answer.data.gstReport.nodes.map(plain), expected.body.map(plain));
    });
  }
});

test('an export at once is the file that is on record', async () => {
  const ledger = 'mutation { exportSalesLedger(input: { from: null, to: null }) { textCsv } }';
  const records = '{ allExports(orderBy: ID_DESC, first: 1) { nodes { name state bytes sha256 } } }';
  for (const caller of callers) {
    const answer = await graphql(caller, ledger);
    if (!/^(owner|admin|finance) /.test(caller.name)) {
      assert.equal(answer.errors[0].errcode, '42501');
      continue;
    }
    const { textCsv } = answer.data.exportSalesLedger;
    assert.match(textCsv, /^org_id,issue_date,number,.*\r\n/);
    assert.ok(textCsv.trimEnd().split('\r\n').slice(1).every((line) => line.startsWith(caller.claims.org_id)));
    const { data } = await graphql(caller, records, {}, { to: coreServer });
    assert.deepEqual(data.allExports.nodes, [{
      name: 'sales_ledger',
      state: 'done',
      bytes: String(Buffer.byteLength(textCsv)),
      sha256: createHash('sha256').update(textCsv).digest('hex'),
    }]);
  }
});

test('an export in parts is started, and seen by its own organization', async () => {
  const finance = callers.find(({ name }) => name.startsWith('finance'));
  const other = callers.find(({ name, claims }) => name.startsWith('owner') && claims.org_id !== finance.claims.org_id);
  const worker = callers.find(({ name }) => name.startsWith('worker'));
  const to = { to: coreServer };
  const start_ = 'mutation { startExport(input: { name: "bookings", from: "2025-01-01" }) { export { id state parts } } }';
  const { data: { startExport: { export: started } } } = await graphql(finance, start_, {}, to);
  assert.deepEqual([started.state, started.parts], ['queued', 0]);
  await database.admin.query("CALL ringfence.run_job('exports')");
  const manifest = 'query ($id: UUID!) { exportManifest(id: $id) }';
  const { data } = await graphql(finance, manifest, { id: started.id }, to);
  assert.deepEqual([data.exportManifest.state, data.exportManifest.parts.length], ['done', 1]);
  for (const caller of [other, worker]) {
    const { errors } = await graphql(caller, manifest, { id: started.id }, to);
    assert.deepEqual([errors[0].errcode, errors[0].message], ['PT404', 'export not found']);
  }
  assert.equal((await graphql(worker, start_, {}, to)).errors[0].errcode, '42501');
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

// Mutations of the endpoints in idempotency.sql.
const CREATE = `mutation ($amount: Int!, $note: String!) {
  createPayment(input: { payment: { amount: $amount, note: $note } }) { payment { id amount note } }
}`;
const PAY = `mutation ($amount: Int!, $note: String!) {
  pay(input: { amount: $amount, note: $note }) { payment { id amount note } }
}`;
const PAY_ONCE = `mutation ($key: String!, $amount: Int!, $note: String!) {
  payOnce(input: { key: $key, amount: $amount, note: $note }) { json }
}`;
const once = (caller, query, variables, key) =>
  graphql(caller, query, variables, { to: onceServer, headers: key !== undefined && { 'idempotency-key': key } });
const payments = (note) => database.value('SELECT count(*)::integer FROM once.payments WHERE note = $1', [note]);

test('a mutation with a key has one effect', async (t) => {
  const [, one] = callers;
  const other = callers.find(({ claims }) => claims && claims.org_id !== one.claims.org_id);
  for (const [name, query] of Object.entries({ 'a row': CREATE, 'a function': PAY })) {
    await t.test(name, async () => {
      const [key, note] = [randomUUID(), `note ${randomUUID()}`];
      const first = await once(one, query, { amount: 7, note }, key);
      assert.equal(first.errors, undefined);
      for (let again = 0; again < 2; again += 1) {
        assert.deepEqual(await once(one, query, { amount: 7, note }, key), first);
      }
      assert.equal(await payments(note), 1);
      const changed = await once(one, query, { amount: 8, note }, key);
      assert.equal(changed.errors[0].errcode, 'PT422');
      assert.equal(changed.errors[0].message, 'the idempotency key was used for another request');
      assert.equal(await payments(note), 1);
      assert.equal((await once(other, query, { amount: 8, note }, key)).errors, undefined);
      assert.equal(await payments(note), 2);
    });
  }
  await t.test('sent many times at once', async () => {
    const [key, note] = [randomUUID(), `note ${randomUUID()}`];
    const answers = await Promise.all(Array.from({ length: 8 }, () => once(one, PAY, { amount: 7, note }, key)));
    for (const answer of answers) assert.deepEqual(answer, answers[0]);
    assert.equal(answers[0].errors, undefined);
    assert.equal(await payments(note), 1);
  });
});

test('a mutation that calls idempotent() has one effect', async () => {
  const [, one] = callers;
  const [key, note] = [randomUUID(), `note ${randomUUID()}`];
  const first = await once(one, PAY_ONCE, { key, amount: 7, note });
  assert.deepEqual([first.data.payOnce.json.amount, first.data.payOnce.json.note], [7, note]);
  assert.deepEqual(await once(one, PAY_ONCE, { key, amount: 7, note }), first);
  const changed = await once(one, PAY_ONCE, { key, amount: 8, note });
  assert.equal(changed.errors[0].errcode, 'PT422');
  assert.equal((await once(one, PAY_ONCE, { key: '', amount: 7, note })).errors[0].errcode, '22023');
  assert.equal(await payments(note), 1);
});

test('a mutation that fails says why, and leaves no key', async () => {
  const [, one] = callers;
  const [key, note] = [randomUUID(), `note ${randomUUID()}`];
  const query = 'mutation ($note: String!) { refuse(input: { note: $note }) { clientMutationId } }';
  for (let i = 0; i < 2; i += 1) {
    const answer = await once(one, query, { note }, key);
    assert.deepEqual([answer.errors[0].errcode, answer.errors[0].message], ['PT402', 'no money']);
  }
  assert.equal(await payments(note), 0);
});

test('a key that is none is refused, and nothing is done', async () => {
  const [, one] = callers;
  const note = `note ${randomUUID()}`;
  for (const key of ['', 'a\tb', 'k'.repeat(256)]) {
    assert.equal((await once(one, CREATE, { amount: 7, note }, key)).status, 400);
  }
  assert.equal(await payments(note), 0);
});

test('a query goes on as without a key', async () => {
  const [, one] = callers;
  const answer = await once(one, '{ allPayments { nodes { amount } } }', {}, randomUUID());
  assert.equal(answer.errors, undefined);
});
