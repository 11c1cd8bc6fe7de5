// Each request goes to PostgREST and to the replay of its statements; status,
// body and error must be the same. Values that a write makes anew are left out
// of the comparison.
'use strict';
const { after, before, test } = require('node:test');
const assert = require('node:assert/strict');
const { http } = require('./client');
const database = require('./database');

const MADE = ['id', 'created_at', 'updated_at', 'name', 'email'];
const VIEWS = [
  'clients', 'teams', 'workers', 'worker_rates', 'bookings', 'invoices', 'invoice_items', 'payments', 'leads',
  'referral_credits',
];
const ROLES = ['owner', 'admin', 'dispatcher', 'finance', 'worker', 'client'];
const NOBODY = '00000000-0000-7000-8000-000000000000';

let orgs;
let callers;
const as = (role, org = 0) => callers.find(({ name }) => name === `${role} of ${orgs[org]}`);

before(async () => {
  orgs = (await database.orgs()).slice(0, 2);
  callers = [await database.caller()];
  for (const org of orgs) {
    for (const role of ROLES) callers.push(await database.caller(org, role));
  }
});

after(() => database.admin.end());

function comparable({ status, body }) {
  const strip = (row) =>
    row !== null && typeof row === 'object'
      ? Object.fromEntries(Object.entries(row).filter(([key]) => !MADE.includes(key)))
      : row;
  return { status, body: Array.isArray(body) ? body.map(strip) : body !== null && 'code' in Object(body) ? body : strip(body) };
}

async function same(real, replayed) {
  assert.deepEqual(comparable(await real), comparable(await replayed));
}

test('every view, to everybody', async (t) => {
  for (const view of VIEWS) {
    for (const caller of callers) {
      await t.test(`${caller.name}: ${view}`, async () => {
        const key = view === 'invoice_items' ? 'invoice_id,position' : 'id';
        const real = await http(caller, 'GET', `/${view}?order=${key}`);
        const replayed = await database.replay("test.get($1, 'cleaning_v1', $2, $3)", [
          caller.claims, view, `ORDER BY ${key}`,
        ]);
        assert.deepEqual({ status: real.status, body: real.body }, { status: replayed.status, body: replayed.body });
        if (caller.claims && real.status === 200) {
          assert.ok(real.body.every((row) => row.org_id === caller.claims.org_id));
        }
      });
    }
  }
});

test('filters, limits and counts', async () => {
  const owner = as('owner');
  await same(
    http(owner, 'GET', '/bookings?status=eq.draft&order=id.desc&limit=2'),
    database.replay("test.get($1, 'cleaning_v1', 'bookings', 'WHERE status = $1 ORDER BY id DESC LIMIT 2', '{draft}')", [
      owner.claims,
    ]),
  );
  const counted = { prefer: 'count=exact' };
  await same(
    http(owner, 'GET', '/bookings?order=id&limit=1', { headers: counted }),
    database.replay("test.get($1, 'cleaning_v1', 'bookings', 'ORDER BY id LIMIT 1', '{}', $2)", [owner.claims, counted]),
  );
  const single = { accept: 'application/vnd.pgrst.object+json' };
  const real = await http(owner, 'GET', `/clients?id=eq.${NOBODY}`, { headers: single });
  const replayed = await database.replay("test.get($1, 'cleaning_v1', 'clients', 'id = $1', $2, $3)", [
    owner.claims, [NOBODY], single,
  ]);
  assert.deepEqual([real.status, real.body.code], [406, 'PGRST116']);
  assert.deepEqual([replayed.status, replayed.code], [406, 'PGRST116']);
});

test('writes', async (t) => {
  const prefer = { prefer: 'return=representation' };
  const name = (by) => ({ name: `Made by ${by}`, email: `${by}@example.org` });
  const cases = {
    'a client of the own organization': [as('owner'), 'POST', 'clients', {}, 201],
    'a client of another organization': [as('owner'), 'POST', 'clients', { org_id: as('owner', 1).claims.org_id }, 403],
    'a client, by a worker': [as('worker'), 'POST', 'clients', {}, 403],
    'a client, by nobody': [callers[0], 'POST', 'clients', {}, 401],
    'a client without a name': [as('owner'), 'POST', 'clients', { name: null }, 400],
    'a column that is not there': [as('owner'), 'POST', 'clients', { nonsense: 1 }, 400],
    'a lead whose referrer does not exist': [as('owner'), 'POST', 'leads', { referrer_id: NOBODY }, 409],
  };
  for (const [what, [caller, method, view, values, status]] of Object.entries(cases)) {
    await t.test(what, async () => {
      const real = await http(caller, method, `/${view}`, { body: { ...name('http'), ...values }, headers: prefer });
      assert.equal(real.status, status);
      const replayed = await database.replay("test.post($1, 'cleaning_v1', $2, $3)", [
        caller.claims, view, { ...name('replay'), ...values },
      ]);
      assert.equal(replayed.status, status);
      if (status < 400) {
        await same(real, replayed);
      } else {
        assert.deepEqual([real.body.code, real.body.message], [replayed.code, replayed.message]);
      }
    });
  }
  await t.test('a change of another organization\'s row', async () => {
    const foreign = (await http(as('owner', 1), 'GET', '/clients?order=id&limit=1')).body[0];
    await same(
      http(as('owner'), 'PATCH', `/clients?id=eq.${foreign.id}`, { body: { name: 'Taken' }, headers: prefer }),
      database.replay("test.patch($1, 'cleaning_v1', 'clients', 'id = $1', $2, $3)", [
        as('owner').claims, { name: 'Taken' }, [foreign.id],
      ]),
    );
    await same(
      http(as('owner'), 'DELETE', `/clients?id=eq.${foreign.id}`, { headers: prefer }),
      database.replay("test.delete($1, 'cleaning_v1', 'clients', 'id = $1', $2)", [as('owner').claims, [foreign.id]]),
    );
    assert.deepEqual((await http(as('owner', 1), 'GET', `/clients?id=eq.${foreign.id}`)).body, [foreign]);
  });
  await t.test('writes without an answer', async () => {
    const replayed = await database.replay("test.post($1, 'cleaning_v1', 'teams', $2, '{}')", [
      as('owner').claims, { name: 'Quiet replay' },
    ]);
    await same(http(as('owner'), 'POST', '/teams', { body: { name: 'Quiet' } }), replayed);
    await same(
      http(as('owner'), 'DELETE', '/teams?name=eq.Quiet'),
      database.replay("test.delete($1, 'cleaning_v1', 'teams', 'name = $1', '{Quiet replay}', '{}')", [as('owner').claims]),
    );
  });
});

test('functions', async () => {
  for (const [caller, name, args, status] of [
    [as('owner'), 'confirm_booking', { booking: NOBODY }, 404],
    [as('worker'), 'convert_lead', { lead: NOBODY }, 403],
    [callers[0], 'confirm_booking', { booking: NOBODY }, 401],
    [as('owner'), 'no_such_function', {}, 404],
  ]) {
    const real = await http(caller, 'POST', `/rpc/${name}`, { body: args });
    const replayed = await database.replay("test.rpc($1, 'cleaning_v1', $2, $3)", [caller.claims, name, args]);
    assert.deepEqual([real.status, replayed.status, real.body.code], [status, status, replayed.code]);
  }
});

test('a file of clients', async () => {
  const caller = as('dispatcher');
  const imported = (csv, more = {}, headers = {}) =>
    http(caller, 'POST', '/rpc/import_clients', { body: { csv, ...more }, headers });
  const csv = '\ufeffname;email;phone\r\n"Zoë ""Z""";zoe@example.org;+1 555 0100\r\nYan;;\r\n';
  const key = { 'idempotency-key': 'import-over-http' };
  for (let i = 0; i < 2; i++) {
    const { status, body } = await imported(csv, { delimiter: ';' }, key);
    assert.deepEqual({ status, body }, { status: 200, body: { imported: 2, skipped: 0, errors: [] } });
  }
  const { body: [zoe] } = await http(caller, 'GET', '/clients?email=eq.zoe@example.org&select=name,phone');
  assert.deepEqual(zoe, { name: 'Zoë "Z"', phone: '+1 555 0100' });
  assert.deepEqual((await http(as('owner', 1), 'GET', '/clients?email=eq.zoe@example.org')).body, []);

  const bad = 'name,email\nXu,xu@example.org\n=1+1,ZOE@example.org\n';
  const refused = await imported(bad);
  assert.deepEqual([refused.status, refused.body.code, refused.body.message], [422, 'PT422', 'import has 1 row with errors']);
  assert.deepEqual(JSON.parse(refused.body.details).map(({ line, column }) => [line, column]), [[3, 'name'], [3, 'email']]);
  assert.deepEqual((await http(caller, 'GET', '/clients?email=eq.xu@example.org')).body, []);
  const partly = await imported(bad, { partial: true });
  assert.deepEqual([partly.status, partly.body.imported, partly.body.skipped], [200, 1, 1]);

  const malformed = await imported('name\n"Xu');
  assert.deepEqual([malformed.status, malformed.body.code], [400, '22P04']);
  assert.equal((await imported(`name\n${'x'.repeat(10 * 1024 * 1024)}`)).status, 413);
  assert.equal((await http(as('finance'), 'POST', '/rpc/import_clients', { body: { csv } })).status, 403);
});

test('reports, to everybody', async (t) => {
  const range = { from: '2025-01-01', to: '2025-12-31' };
  const reports = {
    gst_report: { ...range, basis: 'cash', period: 'quarter' },
    pnl_report: range,
    aged_receivables: { as_of: '2025-06-30' },
    worker_utilisation: range,
  };
  for (const [name, args] of Object.entries(reports)) {
    for (const caller of callers) {
      await t.test(`${caller.name}: ${name}`, async () => {
        const real = await http(caller, 'GET', `/rpc/${name}?${new URLSearchParams(args)}`);
        const replayed = await database.replay("test.rpc($1, 'cleaning_v1', $2, $3, 'GET')", [caller.claims, name, args]);
        const may = /^(owner|admin|finance) /.test(caller.name);
        assert.equal(real.status, may ? 200 : caller.claims ? 403 : 401);
        assert.deepEqual({ status: real.status, body: real.body }, { status: replayed.status, body: replayed.body });
        assert.ok(!may || real.body.length > 0);
      });
    }
  }
  await t.test('filtered, ordered and cut as a table is', async () => {
    const path = '/rpc/gst_report?from=2025-01-01&to=2025-12-31';
    const all = (await http(as('finance'), 'GET', path)).body;
    const some = await http(as('finance'), 'GET', `${path}&select=period_start,net_minor&net_minor=gt.0&order=period_start.desc&limit=2`);
    assert.deepEqual(some.body, all.slice(-2).reverse().map(({ period_start, net_minor }) => ({ period_start, net_minor })));
  });
  await t.test('a range that is none', async () => {
    const real = await http(as('owner'), 'GET', '/rpc/pnl_report?from=2025-02-01&to=2025-01-01');
    assert.deepEqual([real.status, real.body.code, real.body.message], [400, '22023', 'from is after to']);
  });
});

test('a token that does not hold is 401', async () => {
  const [head, payload, signature] = as('owner').token.split('.');
  for (const token of [
    `${head}.${payload}.${signature.slice(0, -2)}AA`,
    `${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.`,
  ]) {
    assert.equal((await http({ token }, 'GET', '/clients')).status, 401);
  }
});
