// Requests with an Idempotency-Key, to a real PostgREST: sent again, they have no
// effect and get the answer of before. What they post to is in idempotency.sql.
'use strict';
const { randomUUID } = require('node:crypto');
const { setTimeout: pause } = require('node:timers/promises');
const { after, before, test } = require('node:test');
const assert = require('node:assert/strict');
const { http } = require('./client');
const database = require('./database');

const REPRESENTATION = 'return=representation';
const CONFLICT = /in progress/;

let owner;
let worker;
let stranger;
let nobody;

before(async () => {
  const orgs = await database.orgs();
  nobody = await database.caller();
  owner = await database.caller(orgs[0], 'owner');
  worker = await database.caller(orgs[0], 'worker');
  stranger = await database.caller(orgs[1], 'owner');
});

after(() => database.admin.end());

// A request to the schema of these tests.
function send(caller, method, path, key, { body, prefer, headers } = {}) {
  return http(caller, method, path, {
    body,
    headers: {
      'content-profile': 'once_v1',
      ...(key !== undefined && { 'idempotency-key': key }),
      ...(prefer && { prefer }),
      ...headers,
    },
  });
}

const replayed = (answer) => answer.headers.get('idempotency-replayed');
const payments = (note) => database.value('SELECT count(*)::integer FROM once.payments WHERE note = $1', [note]);
const keys = (key) => database.value('SELECT count(*)::integer FROM ringfence_data.idempotency_keys WHERE key = $1', [key]);

// The headers that say something of the answer's content.
function headers(answer) {
  const names = ['content-type', 'content-range', 'location', 'preference-applied', 'content-profile'];
  return Object.fromEntries(names.map((name) => [name, answer.headers.get(name)]));
}

// Sends a request three times; the second and third must be the first one's
// answer. Gives that.
async function thrice(caller, method, path, options) {
  const key = randomUUID();
  const first = await send(caller, method, path, key, options);
  assert.equal(replayed(first), null);
  for (let again = 0; again < 2; again += 1) {
    const answer = await send(caller, method, path, key, options);
    assert.deepEqual([answer.status, answer.body, headers(answer)], [first.status, first.body, headers(first)]);
    assert.equal(replayed(answer), 'true');
  }
  return first;
}

// A note that tells a test's rows from others.
const note = () => `note ${randomUUID()}`;

test('a row that is posted three times is there once', async (t) => {
  await t.test('answered with the row', async () => {
    const body = { amount: 100, note: note() };
    const answer = await thrice(owner, 'POST', '/payments', { body, prefer: REPRESENTATION });
    assert.equal(answer.status, 201);
    assert.deepEqual([answer.body.length, answer.body[0].amount], [1, 100]);
    assert.equal(await payments(body.note), 1);
  });
  await t.test('with its place', async () => {
    const body = { amount: 100, note: note() };
    const answer = await thrice(owner, 'POST', '/payments', { body, prefer: 'return=headers-only' });
    assert.match(answer.headers.get('location'), /^\/payments\?.*id=eq\./);
    assert.equal(await payments(body.note), 1);
  });
  await t.test('with nothing', async () => {
    const body = { amount: 100, note: note() };
    const answer = await thrice(owner, 'POST', '/payments', { body });
    assert.deepEqual([answer.status, answer.body], [201, null]);
    assert.equal(await payments(body.note), 1);
  });
  await t.test('as CSV', async () => {
    const body = { amount: 100, note: note() };
    const answer = await thrice(owner, 'POST', '/payments', { body, prefer: REPRESENTATION, headers: { accept: 'text/csv' } });
    assert.match(answer.body, /^org_id,id,amount,note\r\n/);
    assert.equal(await payments(body.note), 1);
  });
  await t.test('as one object', async () => {
    const body = { amount: 100, note: note() };
    const answer = await thrice(owner, 'POST', '/payments', {
      body, prefer: REPRESENTATION, headers: { accept: 'application/vnd.pgrst.object+json' },
    });
    assert.equal(answer.body.note, body.note);
    assert.equal(await payments(body.note), 1);
  });
  await t.test('of several', async () => {
    const text = note();
    const body = [1, 2, 3].map((amount) => ({ amount, note: text }));
    const answer = await thrice(owner, 'POST', '/payments?select=amount', { body, prefer: REPRESENTATION });
    assert.deepEqual(answer.body, [{ amount: 1 }, { amount: 2 }, { amount: 3 }]);
    assert.equal(await payments(text), 3);
  });
});

test('without a key each is one', async () => {
  const body = { amount: 100, note: note() };
  for (let i = 0; i < 2; i += 1) {
    const answer = await send(owner, 'POST', '/payments', undefined, { body });
    assert.deepEqual([answer.status, replayed(answer)], [201, null]);
  }
  assert.equal(await payments(body.note), 2);
});

test('a key in quotes is the bare one', async () => {
  const body = { amount: 100, note: note() };
  const key = `a "quoted" \\ ${randomUUID()}`;
  const quoted = `"${key.replace(/["\\]/g, '\\$&')}"`;
  assert.equal(replayed(await send(owner, 'POST', '/payments', key, { body })), null);
  assert.equal(replayed(await send(owner, 'POST', '/payments', quoted, { body })), 'true');
  assert.equal(await payments(body.note), 1);
});

test('changes and deletions', async (t) => {
  const made = async () => {
    const body = { amount: 1, note: note() };
    return (await send(owner, 'POST', '/payments', undefined, { body, prefer: REPRESENTATION })).body[0];
  };
  const amount = (id) => database.value('SELECT amount FROM once.payments WHERE id = $1', [id]);
  await t.test('PATCH', async () => {
    const { id } = await made();
    const key = randomUUID();
    const request = [owner, 'PATCH', `/payments?id=eq.${id}`, key, { body: { amount: 2 }, prefer: REPRESENTATION }];
    const first = await send(...request);
    assert.deepEqual([first.status, first.body[0].amount], [200, 2]);
    await send(owner, 'PATCH', `/payments?id=eq.${id}`, undefined, { body: { amount: 3 } });
    const again = await send(...request);
    assert.deepEqual([again.status, again.body, replayed(again)], [200, first.body, 'true']);
    assert.equal(await amount(id), 3);
  });
  await t.test('PATCH of no row', async () => {
    const answer = await thrice(owner, 'PATCH', `/payments?note=eq.${note()}`, { body: { amount: 2 } });
    assert.equal(answer.status, 204);
  });
  await t.test('PUT', async () => {
    const row = await made();
    const path = `/payments?id=eq.${row.id}&org_id=eq.${row.org_id}`;
    const answer = await thrice(owner, 'PUT', path, { body: { ...row, amount: 2 }, prefer: REPRESENTATION });
    assert.deepEqual([answer.status, answer.body], [200, [{ ...row, amount: 2 }]]);
  });
  await t.test('DELETE', async () => {
    const row = await made();
    const answer = await thrice(owner, 'DELETE', `/payments?id=eq.${row.id}`, { prefer: `${REPRESENTATION}, count=exact` });
    assert.deepEqual([answer.status, answer.body, answer.headers.get('content-range')], [200, [row], '*/1']);
    assert.equal(await payments(row.note), 0);
  });
  await t.test('an upsert', async () => {
    const row = await made();
    const prefer = `${REPRESENTATION}, resolution=merge-duplicates`;
    const path = '/payments?on_conflict=org_id,id';
    const merged = await thrice(owner, 'POST', path, { body: { id: row.id, amount: 2, note: row.note }, prefer });
    assert.deepEqual([merged.status, merged.body], [200, [{ ...row, amount: 2 }]]);
    const added = await thrice(owner, 'POST', path, { body: { amount: 3, note: row.note }, prefer });
    assert.equal(added.status, 201);
    assert.equal(await payments(row.note), 2);
  });
});

test('functions', async (t) => {
  await t.test('with a status and headers of their own', async () => {
    const body = { amount: 5, note: note() };
    const answer = await thrice(owner, 'POST', '/rpc/pay', { body });
    assert.deepEqual([answer.status, answer.headers.get('location')], [202, `/payments?id=eq.${answer.body.id}`]);
    assert.equal(await payments(body.note), 1);
  });
  await t.test('that return nothing', async () => {
    const body = { note: note() };
    const answer = await thrice(owner, 'POST', '/rpc/pay_silently', { body });
    assert.deepEqual([answer.status, answer.body], [204, null]);
    assert.equal(await payments(body.note), 1);
  });
  await t.test('that return a set', async () => {
    const body = { note: note() };
    const answer = await thrice(owner, 'POST', '/rpc/pay_thrice', { body });
    assert.deepEqual([answer.status, answer.body], [200, [1, 2, 3]]);
    assert.equal(await payments(body.note), 3);
  });
  await t.test('that call idempotent()', async () => {
    const body = { key: randomUUID(), amount: 5, note: note() };
    const first = await send(owner, 'POST', '/rpc/pay_once', undefined, { body });
    const again = await send(owner, 'POST', '/rpc/pay_once', undefined, { body });
    assert.deepEqual([again.status, again.body, replayed(again)], [first.status, first.body, 'true']);
    const other = await send(owner, 'POST', '/rpc/pay_once', undefined, { body: { ...body, amount: 6 } });
    assert.deepEqual([other.status, other.body.code], [422, 'PT422']);
    assert.equal(await payments(body.note), 1);
  });
});

test('another request with the same key is 422', async () => {
  const key = randomUUID();
  const body = { amount: 100, note: note() };
  assert.equal((await send(owner, 'POST', '/payments', key, { body })).status, 201);
  for (const [path, options] of [
    ['/payments', { body: { ...body, amount: 101 } }],
    ['/payments', { body: [body] }],
    ['/payments?select=id', { body, prefer: REPRESENTATION }],
  ]) {
    const answer = await send(owner, 'POST', path, key, options);
    assert.deepEqual([answer.status, answer.body.code], [422, 'PT422']);
    assert.equal(replayed(answer), null);
  }
  assert.equal(await payments(body.note), 1);
  assert.equal(replayed(await send(owner, 'POST', '/payments', key, { body })), 'true');
});

test('a key is the caller\'s own, at one endpoint', async () => {
  const key = randomUUID();
  const body = { amount: 100, note: note() };
  for (const caller of [owner, worker, stranger]) {
    const answer = await send(caller, 'POST', '/payments', key, { body });
    assert.deepEqual([answer.status, replayed(answer)], [201, null]);
  }
  const other = await send(owner, 'POST', '/rpc/pay_silently', key, { body: { note: body.note } });
  assert.deepEqual([other.status, replayed(other)], [204, null]);
  const deletion = await send(owner, 'DELETE', `/payments?note=eq.${body.note}`, key);
  assert.deepEqual([deletion.status, replayed(deletion)], [204, null]);
  const listed = async (caller) => {
    const answer = await http(caller, 'GET', `/idempotency_keys?key=eq.${key}&select=method,path&order=method,path`, {
      headers: { 'accept-profile': 'ringfence_v1' },
    });
    return answer.body.map(({ method, path }) => `${method} ${path}`);
  };
  assert.deepEqual(await listed(owner), ['DELETE /payments', 'POST /payments', 'POST /payments', 'POST /rpc/pay_silently']);
  assert.deepEqual(await listed(stranger), ['POST /payments']);
  assert.deepEqual(await listed(worker), []);
});

test('what is no key is 400', async () => {
  const body = { amount: 100, note: note() };
  for (const key of ['', '""', '"', '"a', '"a"b', '"a";b=1', '"a\\b"', 'a\tb', 'k'.repeat(256), `"${'k'.repeat(256)}"`]) {
    const answer = await send(owner, 'POST', '/payments', key, { body });
    assert.deepEqual([key, answer.status, answer.body.code], [key, 400, 'PT400']);
  }
  for (const key of ['k'.repeat(255), `"${'\\"'.repeat(255)}"`, 'one two', 'k\u00e4se']) {
    const answer = await send(owner, 'POST', '/payments', Buffer.from(key).toString('latin1'), { body });
    assert.deepEqual([key, answer.status], [key, 201]);
  }
  assert.equal(await payments(body.note), 4);
});

test('an endpoint that requires a key', async () => {
  const body = { amount: 100, note: note() };
  for (const path of ['/obligatory', '/obligatory?select=id', '/%6fbligatory']) {
    const answer = await send(owner, 'POST', path, undefined, { body });
    assert.deepEqual([answer.status, answer.body.code], [400, 'PT400']);
    assert.match(answer.body.hint, /Idempotency-Key/);
  }
  assert.equal(await payments(body.note), 0);
  await thrice(owner, 'POST', '/obligatory', { body });
  assert.equal(await payments(body.note), 1);
  const read = await http(owner, 'GET', '/obligatory?limit=1', { headers: { 'accept-profile': 'once_v1' } });
  assert.equal(read.status, 200);
});

test('a request that failed leaves no key', async () => {
  const key = randomUUID();
  const body = { note: note() };
  for (let i = 0; i < 2; i += 1) {
    const answer = await send(owner, 'POST', '/rpc/refuse', key, { body });
    assert.deepEqual([answer.status, answer.body.message, replayed(answer)], [402, 'no money', null]);
  }
  const rows = [1, 2].map((amount) => ({ amount, note: body.note }));
  const one = { prefer: REPRESENTATION, headers: { accept: 'application/vnd.pgrst.object+json' } };
  assert.equal((await send(owner, 'POST', '/payments', key, { body: rows, ...one })).status, 406);
  assert.equal((await send(owner, 'POST', '/payments', key, { body: { amount: null, note: body.note } })).status, 400);
  assert.equal(await keys(key), 0);
  assert.equal(await payments(body.note), 0);
  assert.equal((await send(owner, 'POST', '/payments', key, { body: rows[0] })).status, 201);
  assert.equal(await payments(body.note), 1);
});

test('nor does one whose transaction is rolled back', async () => {
  const key = randomUUID();
  const body = { amount: 1, note: note() };
  for (const [tx, seen] of [['rollback', null], ['rollback', null], ['commit', null], ['commit', 'true'], ['rollback', 'true']]) {
    const answer = await send(owner, 'POST', '/payments', key, { body, prefer: `${REPRESENTATION}, tx=${tx}` });
    assert.deepEqual([answer.status, replayed(answer)], [201, seen]);
  }
  assert.equal(await payments(body.note), 1);
});

test('a request in progress', async (t) => {
  await t.test('is waited for', async () => {
    const key = randomUUID();
    const body = { note: note(), seconds: 0.2 };
    const answers = await Promise.all([1, 2].map(() => send(owner, 'POST', '/rpc/pay_slowly', key, { body })));
    assert.deepEqual(answers.map(({ status }) => status), [200, 200]);
    assert.deepEqual(answers.map(replayed).sort(), ['true', null].sort());
    assert.equal(await payments(body.note), 1);
  });
  await t.test('for so long, then it is 409', async () => {
    const key = randomUUID();
    const body = { note: note(), seconds: 1.5 };
    const first = send(owner, 'POST', '/rpc/pay_slowly', key, { body });
    await pause(400);
    const second = await send(owner, 'POST', '/rpc/pay_slowly', key, { body });
    assert.deepEqual([second.status, second.body.code, second.headers.get('retry-after')], [409, 'PT409', '1']);
    assert.match(second.body.message, CONFLICT);
    assert.deepEqual(Object.keys(second.body).sort(), ['code', 'details', 'hint', 'message']);
    assert.equal((await first).status, 200);
    assert.equal(replayed(await send(owner, 'POST', '/rpc/pay_slowly', key, { body })), 'true');
    assert.equal(await payments(body.note), 1);
  });
  await t.test('however many there are, has one effect', async () => {
    const key = randomUUID();
    const body = { amount: 1, note: note() };
    const answers = await Promise.all(Array.from({ length: 24 }, () => (
      send(owner, 'POST', '/payments', key, { body, prefer: REPRESENTATION })
    )));
    assert.ok(answers.every(({ status }) => status === 201));
    assert.equal(new Set(answers.map(({ body: rows }) => rows[0].id)).size, 1);
    assert.equal(answers.filter((answer) => replayed(answer) === null).length, 1);
    assert.equal(await payments(body.note), 1);
  });
  await t.test('of which some are others, too', async () => {
    const text = note();
    const bodies = Array.from({ length: 48 }, (_, i) => ({ amount: i % 6, note: text }));
    const answers = await Promise.all(bodies.map((body) => send(owner, 'POST', '/payments', `${text} ${body.amount}`, { body })));
    assert.ok(answers.every(({ status }) => status === 201));
    assert.equal(await payments(text), 6);
  });
});

test('no answer arrived', async (t) => {
  await t.test('for the caller hung up', async () => {
    const key = randomUUID();
    const body = { note: note(), seconds: 0.3 };
    const headers = { 'content-profile': 'once_v1', 'idempotency-key': key };
    await assert.rejects(http(owner, 'POST', '/rpc/pay_slowly', { body, headers, signal: AbortSignal.timeout(100) }));
    const answer = await send(owner, 'POST', '/rpc/pay_slowly', key, { body });
    assert.deepEqual([answer.status, answer.body], [200, 1]);
    assert.equal(await payments(body.note), 1);
  });
  await t.test('for the connection was lost', async () => {
    const key = randomUUID();
    const body = { note: note(), seconds: 1 };
    const lost = send(owner, 'POST', '/rpc/pay_slowly', key, { body });
    await pause(300);
    await database.value(`SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity AS a
      WHERE a.usename = 'regress_web' AND a.query LIKE '%pay_slowly%' AND a.state = 'active'`);
    assert.ok((await lost).status >= 500);
    const answer = await send(owner, 'POST', '/rpc/pay_slowly', key, { body });
    assert.deepEqual([answer.status, replayed(answer)], [200, null]);
    assert.equal(await payments(body.note), 1);
  });
});

test('an answer that was not kept', async (t) => {
  const minimal = { replayed: true, complete: false };
  await t.test('for its size', async () => {
    const key = randomUUID();
    const text = note();
    const body = [{ amount: 1, note: 'x'.repeat(1100000) }, { amount: 1, note: text }];
    for (const accept of ['application/json', 'text/csv']) {
      const options = { body, prefer: REPRESENTATION, headers: { accept } };
      const first = await send(owner, 'POST', '/payments', `${key} ${accept}`, options);
      assert.equal(first.status, 201);
      const again = await send(owner, 'POST', '/payments', `${key} ${accept}`, options);
      assert.deepEqual([again.status, again.body, replayed(again)], [200, minimal, 'true']);
    }
    assert.equal(await payments(text), 2);
  });
  await t.test('for it is a token', async () => {
    const key = randomUUID();
    const claims = { ...owner.claims, roles: undefined, party: undefined };
    const whole = { token: await database.value('SELECT ringfence.jwt_sign($1)', [claims]) };
    const switchOrg = () => send(whole, 'POST', '/rpc/switch_org', key, {
      body: { org: owner.claims.org_id }, headers: { 'content-profile': 'ringfence_v1' },
    });
    const first = await switchOrg();
    assert.deepEqual([first.status, first.body.split('.').length], [200, 3]);
    const again = await switchOrg();
    assert.deepEqual([again.status, again.body, replayed(again)], [200, minimal, 'true']);
    const stored = await database.value(`SELECT bool_or(position(convert_to($2, 'UTF8') IN response) > 0)
      FROM ringfence_data.idempotency_keys WHERE key = $1`, [key, first.body.split('.')[2]]);
    assert.equal(stored, false);
  });
});

test('callers without a token', async (t) => {
  const letters = (body) => database.value('SELECT count(*)::integer FROM once.letters WHERE body = $1', [body]);
  const write = (key, body, session) => send(nobody, 'POST', '/rpc/write_letter', key, {
    body: { body }, headers: session && { 'x-session-key': session },
  });
  await t.test('with a session key', async () => {
    const [key, session, text] = [randomUUID(), randomUUID(), note()];
    const first = await write(key, text, session);
    const again = await write(key, text, session);
    assert.deepEqual([again.status, again.body, replayed(again)], [200, first.body, 'true']);
    assert.equal((await write(key, `${text}, another`, session)).status, 422);
    assert.equal(replayed(await write(key, text, randomUUID())), null);
    assert.equal(await letters(text), 2);
  });
  await t.test('without one share an answer only by sending the very same', async () => {
    const [key, text] = [randomUUID(), note()];
    const first = await write(key, text);
    const again = await write(key, text);
    assert.deepEqual([again.status, again.body, replayed(again)], [200, first.body, 'true']);
    const other = await write(key, `${text}, another`);
    assert.deepEqual([other.status, replayed(other)], [200, null]);
    assert.equal(await letters(text), 1);
  });
});

test('a key does nothing to what reads', async () => {
  const headers = { 'accept-profile': 'once_v1', 'idempotency-key': randomUUID() };
  for (let i = 0; i < 2; i += 1) {
    const answer = await http(owner, 'GET', '/payments?limit=1', { headers });
    assert.deepEqual([answer.status, replayed(answer)], [200, null]);
  }
  assert.equal((await http(owner, 'GET', '/payments?limit=1', { headers: { ...headers, 'idempotency-key': '' } })).status, 200);
  assert.equal(await keys(headers['idempotency-key']), 0);
});
