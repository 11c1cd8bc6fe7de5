-- Claim links: the office invites a merchant to claim a place; the token is shown
-- once and is nowhere in the database; it is good for a day, for one claim and for
-- that merchant, and whatever else is given looks the same.
\ir include/postgrest.sql
\ir include/merchant.sql
SELECT plan(54);
SELECT pg_temp.volt() \g /dev/null
SELECT test.claims('Volt Austin', 'owner') AS owner, test.claims('Volt Austin', 'driver') AS driver,
	test.claims('Volt Austin', 'merchant') AS merchant, test.claims('Volt Dallas', 'owner') AS stranger,
	test.claims('Volt Dallas', 'merchant') AS strange_merchant, test.claims('Volt Austin', 'accountant') AS accountant,
	pg_temp.m_id('0', 'a', 0) AS org, pg_temp.m_id('2', 'a', 1) AS asada, pg_temp.m_id('2', 'a', 2) AS bagels, pg_temp.m_id('2', 'b', 1) AS theirs \gset
INSERT INTO ringfence_data.users (id, email) VALUES (pg_temp.m_id('9', 'a', 9), 'bagels@a.example');
INSERT INTO ringfence_data.memberships (org_id, user_id, roles, party)
VALUES (:'org', pg_temp.m_id('9', 'a', 9), '{merchant}', jsonb_build_object('merchant', :'bagels'));
SELECT :'merchant'::jsonb || jsonb_build_object('sub', pg_temp.m_id('9', 'a', 9),
	'party', jsonb_build_object('merchant', :'bagels')) AS bagels_claims \gset
CREATE FUNCTION public.invitation(place text, merchant uuid, email text DEFAULT 'asada@a.example') RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object('place', place, 'merchant', merchant, 'email', email);

-- Inviting.

SELECT is(r.status || ' ' || r.code || ' ' || r.message, '404 PT404 place not found', 'no such place')
	FROM test.rpc(:'owner', 'merchant_v1', 'invite_claim', invitation('pl:9', :'asada')) AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '404 PT404 merchant not found', 'another organization''s merchant is none')
	FROM test.rpc(:'owner', 'merchant_v1', 'invite_claim', invitation('pl:4', :'theirs')) AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '409 PT409 place is claimed already', 'a place that is claimed')
	FROM test.rpc(:'owner', 'merchant_v1', 'invite_claim', invitation('pl:1', :'bagels')) AS r;
SELECT is(r.status || ' ' || r.code, '400 23514', 'no address')
	FROM test.rpc(:'owner', 'merchant_v1', 'invite_claim', invitation('pl:4', :'asada', 'nobody')) AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '403 42501 permission denied for this organization', 'nobody but the office invites: ' || w.who)
	FROM (VALUES ('driver', :'driver'), ('merchant', :'merchant'), ('accountant', :'accountant')) AS w (who, claims),
		LATERAL test.rpc(w.claims::jsonb, 'merchant_v1', 'invite_claim', invitation('pl:4', :'asada')) AS r;
SELECT status AS answer, body ->> 'token' AS token, body ->> 'id' AS link, body ->> 'expires_at' AS expires_at
	FROM test.rpc(:'owner', 'merchant_v1', 'invite_claim', invitation('pl:4', :'asada')) \gset
SELECT is(:'answer'::text, '200', 'the owner invites');
SELECT matches(:'token'::text, '^[0-9a-f]{96}$', 'and gets a token');
SELECT is(expires_at - created_at, '24:00', 'for a day') FROM merchant.claim_links WHERE id = :'link';
SELECT is(expires_at, :'expires_at', 'as it is told') FROM merchant.claim_links WHERE id = :'link';
SELECT is(token_hash, sha256(decode(right(:'token', 64), 'hex')), 'a hash of its secret half is kept') FROM merchant.claim_links WHERE id = :'link';
SELECT isnt(a.body ->> 'token', b.body ->> 'token', 'another invitation has another one')
	FROM test.rpc(:'owner', 'merchant_v1', 'invite_claim', invitation('pl:4', :'bagels')) AS a,
		test.rpc(:'owner', 'merchant_v1', 'invite_claim', invitation('pl:4', :'bagels')) AS b;

-- The token is nowhere.

SELECT is((r.body -> 0) - '{created_at,expires_at}'::text[], jsonb_build_object('org_id', :'org', 'id', :'link', 'place_id', 'pl:4', 'merchant_id', :'asada',
	'email', 'asada@a.example', 'accepted_at', NULL), 'the owner reads the link, without token and hash')
	FROM test.get(:'owner', 'merchant_v1', 'claim_links', 'WHERE id = $1', ARRAY[:'link']) AS r;
SELECT is(r.status || ' ' || r.body, '200 []', 'nobody else does: ' || w.who)
	FROM (VALUES ('the merchant', :'merchant'), ('a driver', :'driver'), ('an accountant', :'accountant'), ('another organization', :'stranger')) AS w (who, claims),
		LATERAL test.get(w.claims::jsonb, 'merchant_v1', 'claim_links', 'WHERE id = $1', ARRAY[:'link']) AS r;
SELECT is((SELECT count(*) FROM test.get(:'owner', 'ringfence_v1', 'audit_log', 'WHERE relation = $1', ARRAY['merchant.claim_links']) AS r
	WHERE r.body::text ~ right(:'token', 64) OR r.body::text ~ encode(sha256(decode(right(:'token', 64), 'hex')), 'hex')), 0::bigint,
	'the audit log has neither token nor hash');
SELECT is((SELECT r.body -> 0 -> 'new' ->> 'email' FROM test.get(:'owner', 'ringfence_v1', 'audit_log', 'WHERE relation = $1 ORDER BY recorded_at LIMIT 1',
	ARRAY['merchant.claim_links']) AS r), 'asada@a.example', 'but the rest');
SELECT is(r.status || ' ' || (r.body ->> 'token' ~ '^[0-9a-f]{96}$')::text, '200 true', 'with a key')
	FROM test.rpc(:'owner', 'merchant_v1', 'invite_claim', invitation('pl:4', :'bagels'), headers => '{"idempotency-key": "invite-1"}') AS r;
SELECT isnt(coalesce(r.body ->> 'token', ''), :'token', 'a repetition has no effect')
	FROM test.rpc(:'owner', 'merchant_v1', 'invite_claim', invitation('pl:4', :'bagels'), headers => '{"idempotency-key": "invite-1"}') AS r;
SELECT is((SELECT k.complete FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'invite-1'), false, 'and the answer with the token is not kept');
SELECT is((SELECT count(*) FROM merchant.claim_links WHERE merchant_id = :'bagels'), 3::bigint, 'that was one more link');

-- Accepting: what is no good token is not found, whatever is wrong with it.

CREATE FUNCTION public.answer(claims jsonb, token text) RETURNS text LANGUAGE sql
AS $$ SELECT concat_ws(' | ', r.status, r.code, r.message, r.details, r.hint) FROM test.rpc(claims, 'merchant_v1', 'accept_claim', jsonb_build_object('token', token)) AS r $$;
\set not_found '404 | PT404 | claim link not found | It may have expired, or been used. | Ask for another one.'
SELECT is(answer(:'bagels_claims', :'token'), :'not_found', 'another merchant''s');
SELECT is(answer(:'strange_merchant', :'token'), :'not_found', 'another organization''s');
SELECT is(answer(:'merchant', t.token), :'not_found', t.what)
	FROM (VALUES ('none', NULL), ('an empty one', ''), ('no token', 'x'), ('a wrong secret', left(:'token', 95) || translate(right(:'token', 1), '0123456789abcdef', '123456789abcdef0')),
		('an unknown link', repeat('f', 32) || right(:'token', 64)), ('zeros', repeat('0', 96)), ('the link alone', left(:'token', 32)),
		('capital letters', upper(:'token') || CASE WHEN upper(:'token') = :'token' THEN 'x' ELSE '' END), ('more than a token', :'token' || '0')) AS t (what, token);
SELECT is(answer(:'driver', :'token'), '403 | 42501 | only a merchant may do this', 'a driver accepts nothing');
SELECT is(answer(:'owner', :'token'), '403 | 42501 | only a merchant may do this', 'nor does the office');
UPDATE merchant.claim_links SET created_at = created_at - interval '1 day', expires_at = expires_at - interval '1 day' WHERE id = :'link';
SELECT is(answer(:'merchant', :'token'), :'not_found', 'one that has expired');
UPDATE merchant.claim_links SET expires_at = now() + interval '1 minute', created_at = now() - interval '23 hours' WHERE id = :'link';
SELECT is(r.status || ' ' || (r.body ->> 'place_id') || ' ' || (r.body ->> 'merchant_id'), '200 pl:4 ' || :'asada', 'the merchant accepts, a minute before')
	FROM test.rpc(:'merchant', 'merchant_v1', 'accept_claim', jsonb_build_object('token', :'token')) AS r;
SELECT is(answer(:'merchant', :'token'), :'not_found', 'one that was used');
SELECT is((SELECT merchant_id FROM merchant.claims WHERE org_id = :'org' AND place_id = 'pl:4'), :'asada'::uuid, 'the place is the merchant''s');

-- Whoever comes second.
DELETE FROM merchant.claims WHERE org_id = :'org' AND place_id = 'pl:4';
SELECT body ->> 'token' AS token, body ->> 'id' AS link FROM test.rpc(:'owner', 'merchant_v1', 'invite_claim', invitation('pl:4', :'asada')) \gset
INSERT INTO merchant.claims (org_id, place_id, merchant_id) VALUES (:'org', 'pl:4', :'bagels');
SELECT is(answer(:'merchant', :'token'), '409 | PT409 | place is claimed already', 'a place that was claimed meanwhile');
SELECT is((SELECT accepted_at FROM merchant.claim_links WHERE id = :'link'), NULL, 'does not use the link up');
DELETE FROM merchant.claims WHERE org_id = :'org' AND place_id = 'pl:4';
SELECT is(r.status || ' ' || r.body, '200 []', 'another organization deletes no link')
	FROM test.delete(:'stranger', 'merchant_v1', 'claim_links', 'id = $1', ARRAY[:'link']) AS r;
SELECT is(r.status || ' ' || (r.body -> 0 ->> 'id'), '200 ' || :'link', 'the owner takes an invitation back')
	FROM test.delete(:'owner', 'merchant_v1', 'claim_links', 'id = $1', ARRAY[:'link']) AS r;
SELECT is(answer(:'merchant', :'token'), :'not_found', 'and it is worth nothing');

-- In raw SQL.
SELECT throws_ok(format('INSERT INTO merchant.claim_links (org_id, place_id, merchant_id, email, token_hash, expires_at)
	VALUES (%L, ''pl:4'', %L, ''a@b'', sha256(''''), now() + interval ''25 hours'')', :'org', :'asada'), '23514',
	'new row for relation "claim_links" violates check constraint "claim_links_expires_at_check"', 'no link is good for longer than a day');
BEGIN;
SELECT pg_temp.act('owner');
SELECT throws_ok('SELECT token_hash FROM merchant.claim_links', '42501', 'permission denied for table claim_links', 'the hash is not for tenants');
SELECT throws_ok('UPDATE merchant.claim_links SET expires_at = now()', '42501', 'permission denied for table claim_links', 'nor is a link changed');
ROLLBACK;
SELECT is(merchant.same_secret(a::bytea, b::bytea), same, format('%L and %L', a, b))
	FROM (VALUES ('x', 'x', true), ('x', 'y', false), ('', 'x', false), (NULL, 'x', NULL), (NULL, NULL, NULL)) AS s (a, b, same);

SELECT * FROM finish();
