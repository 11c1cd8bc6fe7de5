// Files over HTTP: views as CSV and NDJSON, and exports on record, at once and in
// parts. What a digest or a manifest says is compared to the bytes that came.
'use strict';
const { createHash, randomUUID } = require('node:crypto');
const { after, before, test } = require('node:test');
const assert = require('node:assert/strict');
const { http } = require('./client');
const database = require('./database');

const ROLES = ['owner', 'admin', 'dispatcher', 'finance', 'worker', 'client'];
const UNKNOWN = '00000000-0000-7000-8000-000000000000';
const CUT = { url: process.env.POSTGREST_MAX_ROWS_URL };
const CSV = { accept: 'text/csv' };
const NDJSON = { accept: 'application/x-ndjson' };

let orgs;
let callers;
const as = (role, org = 0) => callers.find(({ name }) => name === `${role} of ${orgs[org]}`);

before(async () => {
  orgs = (await database.orgs()).slice(0, 2);
  callers = [await database.caller()];
  for (const org of orgs) {
    for (const role of ROLES) callers.push(await database.caller(org, role));
  }
  await database.admin.query('SET ringfence.export_part_bytes = 4000');
  await database.admin.query('SET ringfence.retention_rest = 0');
});

after(() => database.admin.end());

// Requests for the endpoints of ringfence_v1.
const ask = (caller, path, { headers, ...more } = {}) =>
  http(caller, 'GET', path, { headers: { 'accept-profile': 'ringfence_v1', ...headers }, ...more });
const order = (caller, name, body, { headers, ...more } = {}) =>
  http(caller, 'POST', `/rpc/${name}`, { body, headers: { 'content-profile': 'ringfence_v1', ...headers }, ...more });
const runJob = () => database.admin.query("CALL ringfence.run_job('exports')");

const sha256 = (bytes, form) => createHash('sha256').update(bytes).digest(form);

function assertDigest({ headers, bytes }) {
  assert.equal(headers.get('repr-digest'), `sha-256=:${sha256(bytes, 'base64')}:`);
}

function assertError({ status, body }, expected, code) {
  assert.deepEqual([status, body.code], [expected, code]);
}

// Records of cells; one without quotes that is empty is null.
function records(text) {
  const all = [];
  let record = [];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/g)) {
    record.push(quoted !== undefined ? quoted.replaceAll('""', '"') : plain || null);
    if (end !== ',') {
      all.push(record);
      record = [];
    }
  }
  return all;
}

test('a view as a file has what its JSON has, for everybody', async (t) => {
  const names = ['=1+1', '+1 555 0100', 'Zoë "Z", \n客户 🧹', '-', '@sum', '', "'tis"];
  for (const org of [0, 1]) {
    for (const name of names.filter(Boolean)) {
      assert.equal((await http(as('owner', org), 'POST', '/clients', { body: { name, phone: '' } })).status, 201);
    }
  }
  for (const caller of callers) {
    await t.test(caller.name, async () => {
      const path = '/clients?order=id&select=id,org_id,name,email,phone';
      const json = await http(caller, 'GET', path);
      const csv = await http(caller, 'GET', path, { headers: CSV });
      const ndjson = await http(caller, 'GET', path, { headers: NDJSON });
      assert.deepEqual([csv.status, ndjson.status], [json.status, json.status]);
      if (json.status !== 200) {
        assert.deepEqual([json.status, csv.body.code, ndjson.body.code], [401, '42501', '42501']);
        return;
      }
      assert.equal(csv.headers.get('content-type'), 'text/csv; charset=utf-8');
      assert.match(ndjson.headers.get('content-type'), /^application\/x-ndjson/);
      assert.deepEqual(ndjson.bytes.toString().split('\n').filter(Boolean).map((line) => JSON.parse(line)), json.body);
      const guard = (cell) => (/^'*\s*[=+@-]/.test(cell ?? '') ? `'${cell}` : cell);
      const expected = json.body.map((row) => Object.values(row).map(guard));
      assert.deepEqual(
        records(csv.bytes.toString()),
        expected.length > 0 ? [['id', 'org_id', 'name', 'email', 'phone'], ...expected] : [],
      );
      assert.ok(expected.every((row) => row[1] === caller.claims.org_id));
      assert.ok(!/^(owner|admin) /.test(caller.name) || expected.some((row) => row[2] === "'=1+1"));
    });
  }
});

test('functions and other schemas answer with files too', async () => {
  const report = '/rpc/gst_report?from=2025-01-01&to=2025-12-31&select=currency,period_start,net_minor';
  const rows = (await http(as('finance'), 'GET', report)).body;
  assert.ok(rows.length > 0);
  const csv = await http(as('finance'), 'GET', report, { headers: CSV });
  assert.deepEqual(records(csv.bytes.toString()).slice(1), rows.map((row) => Object.values(row).map(String)));
  assertError(await http(as('worker'), 'GET', report, { headers: CSV }), 403, '42501');

  const merchant = { 'content-profile': 'merchant_v1', 'accept-profile': 'merchant_v1', prefer: 'return=representation' };
  const zone = { tag: 'HTTP', name: '=zone()', lat: 30.27, lng: -97.74, radius_m: 1000 };
  const made = await http(as('owner'), 'POST', '/zones', { body: zone, headers: merchant });
  assert.equal(made.status, 201);
  for (const [org, expected] of [[0, [['tag', 'name'], ['HTTP', "'=zone()"]]], [1, []]]) {
    const zones = await http(as('owner', org), 'GET', '/zones?select=tag,name', { headers: { ...merchant, ...CSV } });
    assert.deepEqual([zones.status, records(zones.bytes.toString())], [200, expected]);
  }
  const lines = await http(as('owner'), 'GET', '/zones?select=name', { headers: { ...merchant, ...NDJSON } });
  assert.equal(lines.bytes.toString(), '{"name":"=zone()"}\n');
  const exported = await ask(as('owner'), '/export_definitions?name=eq.clients&select=name', { headers: CSV });
  assert.equal(exported.bytes.toString(), 'name\r\nclients\r\n');
});

test('an export at once is on record, with its name and digest', async () => {
  const all = { from: null, to: null };
  const file = await http(as('finance'), 'POST', '/rpc/export_sales_ledger', { body: all, headers: CSV });
  assert.equal(file.status, 200);
  assert.equal(file.headers.get('content-type'), 'text/csv; charset=utf-8');
  assert.match(file.headers.get('content-disposition'), /^attachment; filename="sales-ledger-\d{4}-\d\d-\d\d\.csv"$/);
  assertDigest(file);
  const [header, ...rows] = records(file.bytes.toString());
  assert.equal(Number(file.headers.get('export-rows')), rows.length);
  const invoices = (await http(as('finance'), 'GET', '/invoices?order=issue_date,number&select=id')).body;
  assert.deepEqual(rows.map((row) => row[header.indexOf('invoice_id')]), invoices.map(({ id }) => id));

  const { body: [record] } = await ask(as('owner'), `/exports?id=eq.${file.headers.get('export-id')}`);
  assert.deepEqual(
    [record.name, record.state, record.rows, record.bytes, record.sha256, record.requested_by],
    ['sales_ledger', 'done', rows.length, file.bytes.length, sha256(file.bytes, 'hex'), as('finance').claims.sub],
  );
  assert.deepEqual((await ask(as('owner', 1), `/exports?id=eq.${record.id}`)).body, []);
  const other = await http(as('owner', 1), 'POST', '/rpc/export_sales_ledger', { body: all, headers: CSV });
  assert.ok(!records(other.bytes.toString()).some((row) => row.includes(as('owner').claims.org_id)));

  const range = await http(as('owner'), 'POST', '/rpc/export_payments', {
    body: { from: '2025-01-01', to: '2025-03-31' }, headers: CSV,
  });
  assert.equal(range.headers.get('content-disposition'), 'attachment; filename="payments-2025-01-01--2025-03-31.csv"');
  assertDigest(range);
  const text = await http(as('finance'), 'POST', '/rpc/export_sales_ledger', { body: all });
  assert.equal(text.body, file.bytes.toString());

  const refused = async (caller, method, path, more) => {
    const { status, body } = await http(caller, method, path, { headers: CSV, ...more });
    return [status, body.code];
  };
  assert.deepEqual(await refused(as('dispatcher'), 'POST', '/rpc/export_sales_ledger', { body: all }), [403, '42501']);
  assert.deepEqual(await refused(callers[0], 'POST', '/rpc/export_sales_ledger', { body: all }), [401, '42501']);
  assert.deepEqual(
    await refused(as('owner'), 'POST', '/rpc/export_sales_ledger', { body: { from: '2025-02-01', to: '2025-01-01' } }),
    [400, '22023'],
  );
  assert.equal((await refused(as('owner'), 'GET', '/rpc/export_sales_ledger?from=2025-01-01&to=2025-12-31'))[0], 405);
});

test('an export in parts', async (t) => {
  const range = { from: '2025-01-01', to: '2025-12-31' };
  const key = { 'idempotency-key': randomUUID() };
  const started = await order(as('finance'), 'start_export', { name: 'bookings', ...range }, { headers: key });
  const { id } = started.body;
  const location = `/rpc/export_manifest?id=${id}`;
  const part = (number, of = id) => `/rpc/export_part?id=${of}&part=${number}`;
  assert.deepEqual([started.status, started.headers.get('location'), started.body.state], [202, location, 'queued']);
  const again = await order(as('finance'), 'start_export', { name: 'bookings', ...range }, { headers: key });
  assert.deepEqual([again.status, again.headers.get('location'), again.body], [202, location, started.body]);
  const lines = await order(as('owner'), 'start_export', { name: 'bookings', format: 'ndjson', consistent: true, ...range });
  assert.equal(lines.status, 202);

  await t.test('which is not done', async () => {
    assert.equal((await ask(as('finance'), location)).body.state, 'queued');
    assertError(await ask(as('finance'), part(1)), 409, 'PT409');
  });

  await runJob();

  await t.test('is its parts, each by its digest', async () => {
    const { body: manifest } = await ask(as('finance'), location);
    assert.deepEqual([manifest.state, manifest.filename], ['done', 'bookings-2025-01-01--2025-12-31.csv']);
    assert.ok(manifest.parts.length > 10);
    const accepts = [{}, CSV, { accept: '*/*' }, { accept: 'application/json' }, { accept: 'text/html,image/png;q=0.8' }];
    const bodies = [];
    for (const { part: number, bytes, sha256: digest } of manifest.parts) {
      const caller = [as('finance'), as('owner'), as('admin')][number % 3];
      const got = await ask(caller, part(number), { headers: accepts[number % accepts.length] });
      assert.equal(got.status, 200);
      assert.equal(got.headers.get('content-type'), 'text/csv; charset=utf-8');
      const padded = String(number).padStart(String(manifest.parts.length).length, '0');
      assert.equal(
        got.headers.get('content-disposition'),
        `attachment; filename="bookings-2025-01-01--2025-12-31.${padded}.csv"`,
      );
      assertDigest(got);
      assert.deepEqual([got.bytes.length, sha256(got.bytes, 'hex')], [bytes, digest]);
      bodies.push(got.bytes);
    }
    const file = Buffer.concat(bodies);
    assert.deepEqual([file.length, sha256(file, 'hex')], [manifest.bytes, manifest.sha256]);
    const [header, ...rows] = records(file.toString());
    const bookings = (await http(as('finance'), 'GET', '/bookings?order=starts_at,id&select=id,starts_at')).body;
    const ids = rows.map((row) => row[header.indexOf('id')]);
    assert.equal(ids.length, manifest.rows);
    const listed = bookings.map((booking) => booking.id);
    const first = listed.indexOf(ids[0]);
    assert.deepEqual(ids, listed.slice(first, first + ids.length));
  });

  await t.test('is NDJSON as well', async () => {
    const { body: manifest } = await ask(as('owner'), `/rpc/export_manifest?id=${lines.body.id}`);
    const got = await ask(as('owner'), part(1, lines.body.id));
    assert.deepEqual([manifest.consistent, manifest.state], [true, 'done']);
    assert.equal(got.headers.get('content-type'), 'application/x-ndjson');
    assert.match(got.headers.get('content-disposition'), /\.ndjson"$/);
    assertDigest(got);
    assert.equal(got.bytes.toString().trimEnd().split('\n').map((line) => JSON.parse(line)).length, manifest.parts[0].rows);
  });

  await t.test('is none to others', async () => {
    for (const caller of [as('owner', 1), as('finance', 1), as('dispatcher'), as('worker'), as('client')]) {
      assertError(await ask(caller, location), 404, 'PT404');
      assertError(await ask(caller, part(1)), 404, 'PT404');
      assertError(await order(caller, 'cancel_export', { id }), 404, 'PT404');
      assertError(await order(caller, 'retry_export', { id }), 404, 'PT404');
      assert.deepEqual((await ask(caller, `/exports?id=eq.${id}`)).body, []);
    }
    assertError(await ask(callers[0], location), 401, '42501');
    assertError(await ask(callers[0], part(1)), 401, '42501');
  });

  await t.test('has no other parts, and is over', async () => {
    for (const number of [0, -1, 100000]) assertError(await ask(as('finance'), part(number)), 404, 'PT404');
    assertError(await ask(as('finance'), part(1, UNKNOWN)), 404, 'PT404');
    assertError(await order(as('finance'), 'cancel_export', { id }), 409, 'PT409');
    assertError(await order(as('finance'), 'retry_export', { id }), 409, 'PT409');
  });

  await t.test('can be canceled', async () => {
    const { body: export_ } = await order(as('finance'), 'start_export', { name: 'bookings' });
    assert.equal((await order(as('finance'), 'cancel_export', { id: export_.id })).status, 204);
    await runJob();
    assert.equal((await ask(as('finance'), `/rpc/export_manifest?id=${export_.id}`)).body.state, 'canceled');
    assertError(await ask(as('finance'), part(1, export_.id)), 409, 'PT409');
  });

  await t.test('is refused', async () => {
    for (const [caller, body, status, code] of [
      [as('owner'), { name: 'nothing' }, 404, 'PT404'],
      [as('owner'), { name: 'bookings', format: 'xlsx' }, 400, '22023'],
      [as('owner'), { name: 'bookings', options: { delimiter: '||' } }, 400, '22023'],
      [as('owner'), { name: 'clients', ...range }, 400, '22023'],
      [as('worker'), { name: 'bookings' }, 403, '42501'],
      [callers[0], { name: 'bookings' }, 401, '42501'],
    ]) {
      assertError(await order(caller, 'start_export', body), status, code);
    }
  });
});

// By a PostgREST whose db-max-rows is 3.
test('a limit of rows cuts views and says so, and no export', async () => {
  const path = '/bookings?order=id&select=id';
  const all = (await http(as('owner'), 'GET', path)).body;
  assert.ok(all.length > 3);
  for (const headers of [{}, CSV]) {
    const cut = await http(as('owner'), 'GET', path, { headers, ...CUT });
    const ids = headers === CSV ? records(cut.bytes.toString()).slice(1).flat() : cut.body.map(({ id }) => id);
    assert.deepEqual(ids, all.slice(0, 3).map(({ id }) => id));
    assert.deepEqual([cut.status, cut.headers.get('content-range')], [200, '0-2/*']);
    const counted = await http(as('owner'), 'GET', path, { headers: { ...headers, prefer: 'count=exact' }, ...CUT });
    assert.deepEqual([counted.status, counted.headers.get('content-range')], [206, `0-2/${all.length}`]);
  }

  const body = { from: null, to: null };
  const file = await http(as('owner'), 'POST', '/rpc/export_sales_ledger', { body, headers: CSV, ...CUT });
  assert.equal(file.status, 200);
  assertDigest(file);
  const invoices = (await http(as('owner'), 'GET', '/invoices?select=id')).body.length;
  assert.ok(invoices > 3);
  assert.deepEqual([records(file.bytes.toString()).length, file.headers.get('export-rows')], [invoices + 1, String(invoices)]);

  const started = await order(as('owner'), 'start_export', { name: 'bookings' }, CUT);
  await runJob();
  const { body: manifest } = await ask(as('owner'), started.headers.get('location'), CUT);
  assert.deepEqual([manifest.state, manifest.rows], ['done', all.length]);
  assert.ok(manifest.parts.length > 3);
  const parts = [];
  for (const { part } of manifest.parts) {
    const got = await ask(as('owner'), `/rpc/export_part?id=${manifest.id}&part=${part}`, CUT);
    assertDigest(got);
    parts.push(got.bytes);
  }
  assert.equal(sha256(Buffer.concat(parts), 'hex'), manifest.sha256);
});

test('where exports go on record, files of views are refused', async () => {
  const set = (value) =>
    database.admin.query('UPDATE ringfence_data.orgs SET settings = settings || $1 WHERE id = $2', [
      { record_exports: value }, as('owner').claims.org_id,
    ]);
  await set(true);
  try {
    for (const headers of [CSV, NDJSON]) {
      for (const [path, profile] of [
        ['/clients', {}],
        ['/clients?limit=0', {}],
        ['/rpc/pnl_report?from=2025-01-01&to=2025-12-31', {}],
        ['/exports', { 'accept-profile': 'ringfence_v1' }],
        ['/zones', { 'accept-profile': 'merchant_v1' }],
      ]) {
        const refused = await http(as('owner'), 'GET', path, { headers: { ...headers, ...profile } });
        assertError(refused, 403, 'PT403');
        assert.equal(refused.body.message, 'exports of this organization go on record');
      }
      assert.equal((await http(as('owner', 1), 'GET', '/clients', { headers })).status, 200);
    }
    assert.equal((await http(as('owner'), 'GET', '/clients')).status, 200);
    const file = await http(as('owner'), 'POST', '/rpc/export_deposits', { body: { from: null, to: null }, headers: CSV });
    assert.equal(file.status, 200);
    assertDigest(file);
    assert.equal((await order(as('owner'), 'start_export', { name: 'clients' })).status, 202);
  } finally {
    await set(false);
  }
});
