-- Tokens: HS256 as an independent signer computes it, and
-- everything that must be refused.
\ir include/tenants.sql
CREATE EXTENSION pgcrypto;
CREATE FUNCTION public.b64(bytes bytea) RETURNS text LANGUAGE sql
AS $$ SELECT translate(encode(bytes, 'base64'), E'+/=\n', '-_') $$;
CREATE FUNCTION public.sign(header text, payload text, secret bytea, algorithm text DEFAULT 'sha256') RETURNS text LANGUAGE sql
AS $$
	SELECT m.message || '.' || b64(hmac(convert_to(m.message, 'UTF8'), secret, algorithm))
	FROM (SELECT b64(convert_to(header, 'UTF8')) || '.' || b64(convert_to(payload, 'UTF8'))) AS m (message)
$$;
\set secret '\\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021'
SELECT ringfence.add_jwt_key('k1', :'secret', 'issuer.test', 'audience.test');
SELECT ringfence.add_jwt_key('k2', decode(repeat('ab', 32), 'hex'), 'issuer.test', 'audience.test');

CREATE FUNCTION public.payload(more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql
AS $$
	SELECT (jsonb_strip_nulls(jsonb_build_object(
		'sub', 'aaaaaaaa-0000-4000-8000-00000000000a', 'org_id', '0aaaaaaa-0000-7000-8000-00000000000a',
		'iss', 'issuer.test', 'aud', 'audience.test',
		'exp', (extract(epoch FROM now()) + 600)::bigint) || more))::text
$$;
CREATE FUNCTION public.token(header text, more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql
AS $$ SELECT sign(header, payload(more), '\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021') $$;
CREATE FUNCTION public.refused(token text, what text, message text DEFAULT 'the token is not valid') RETURNS text LANGUAGE sql
AS $$ SELECT throws_ok(format('SELECT ringfence.jwt_verify(%L)', token), '28000', message, what) $$;
\set header '{"alg":"HS256","typ":"JWT","kid":"k1"}'
SELECT plan(57);

SELECT is(
	ringfence.jwt_verify(token(:'header')) ->> 'sub', :'user_a', 'a token by an independent signer is verified');
SELECT is(
	ringfence.jwt_verify(ringfence.jwt_sign('{"sub": "x", "n": 1}')) - '{iat,exp}'::text[],
	'{"sub": "x", "n": 1, "iss": "issuer.test", "aud": "audience.test"}', 'what we sign we verify, with the key''s issuer and audience');
SELECT is(
	sign(convert_from(decode(rpad(translate(split_part(t.token, '.', 1), '-_', '+/'), 4 * ((length(split_part(t.token, '.', 1)) + 3) / 4), '='), 'base64'), 'UTF8'),
		convert_from(decode(rpad(translate(split_part(t.token, '.', 2), '-_', '+/'), 4 * ((length(split_part(t.token, '.', 2)) + 3) / 4), '='), 'base64'), 'UTF8'),
		decode(repeat('ab', 32), 'hex')),
	t.token, 'and an independent signer computes the same signature')
FROM (SELECT ringfence.jwt_sign_with('{"sub": "ü"}', 'k2', '1 minute')) AS t (token);
SELECT is(
	(ringfence.jwt_verify(t.token) ->> 'exp')::bigint - (ringfence.jwt_verify(t.token) ->> 'iat')::bigint,
	3600::bigint, 'the lifetime is as asked')
FROM (SELECT ringfence.jwt_sign('{"exp": 1, "iss": "me", "iat": 5}', '1 hour')) AS t (token);

-- Algorithms
SELECT refused(token('{"alg":"none","kid":"k1"}'), 'alg none is refused');
SELECT refused(b64('{"alg":"none","kid":"k1"}') || '.' || b64(convert_to(payload(), 'UTF8')) || '.', 'and without a signature');
SELECT refused(b64('{"alg":"none","kid":"k1"}') || '.' || b64(convert_to(payload(), 'UTF8')), 'and without its dot');
SELECT refused(token('{"alg":"None","kid":"k1"}'), 'in any spelling');
SELECT refused(token('{"alg":"RS256","kid":"k1"}'), 'a public-key algorithm over our secret is refused');
SELECT refused(token('{"alg":"HS512","kid":"k1"}'), 'another HMAC is refused');
SELECT refused(sign('{"alg":"HS512","kid":"k1"}', payload(), :'secret', 'sha512'), 'even where it would hold');
SELECT refused(token('{"alg":["HS256"],"kid":"k1"}'), 'an algorithm that is no string is refused');
SELECT refused(token('{"alg":"HS256","alg":"HS256","kid":"k1"}'), 'one named twice too');
SELECT refused(token('{"kid":"k1"}'), 'and none at all');

-- Keys
SELECT refused(token('{"alg":"HS256"}'), 'a token without a key id is refused');
SELECT refused(token('{"alg":"HS256","kid":"k2"}'), 'one signed with another key than it names');
SELECT refused(token('{"alg":"HS256","kid":"nope"}'), 'one of an unknown key');
SELECT refused(token('{"alg":"HS256","kid":""}'), 'one of an empty key id');
SELECT refused(token('{"alg":"HS256","kid":"' || repeat('k', 100) || '"}'), 'one of an endless key id');
SELECT refused(token('{"alg":"HS256","kid":"k1","crit":["exp"]}'), 'a critical extension that we don''t know is refused');
SELECT refused(token('{"alg":"HS256","kid":"k1","typ":"JWE"}'), 'a token of another type is refused');
SELECT lives_ok(format('SELECT ringfence.jwt_verify(%L)', token('{"alg":"HS256","kid":"k1","x":{"deep":[1]}}')), 'an unknown header field is not');

-- Form
SELECT refused('', 'an empty token is refused');
SELECT refused('..', 'empty parts');
SELECT refused('a.b.c', 'parts that are no base64url');
SELECT refused(token(:'header') || '.x', 'a fourth part');
SELECT refused(token(:'header') || '=', 'padding');
SELECT refused(token(:'header') || E'\n', 'a line end');
SELECT refused(' ' || token(:'header'), 'a blank');
SELECT refused(left(token(:'header'), -1), 'a signature cut short');
SELECT refused(left(t.token, -1) || CASE right(t.token, 1) WHEN 'A' THEN 'B' ELSE 'A' END, 'a changed signature') FROM (SELECT token(:'header')) AS t (token);
SELECT refused(
	left(t.token, -1) || substr('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_',
		strpos('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_', right(t.token, 1)) + 1, 1),
	'another spelling of the same signature') FROM (SELECT token(:'header')) AS t (token);
SELECT refused(replace(token(:'header'), split_part(token(:'header'), '.', 2), b64(convert_to(payload('{"sub": "bbbbbbbb-0000-4000-8000-00000000000b"}'), 'UTF8'))), 'a changed payload');
SELECT refused(token(:'header', jsonb_build_object('x', repeat('x', 8000))), 'a token that is too long');
SELECT refused(repeat('a', 10000000), 'ten megabytes of anything');
SELECT refused(sign(:'header', '[]', :'secret'), 'a payload that is no object');
SELECT refused(sign(:'header', '{"exp": 1', :'secret'), 'a payload cut short');
SELECT refused(sign(:'header', repeat('[', 2000), :'secret'), 'a payload nested too deep');

-- Claims
SELECT refused(token(:'header', '{"exp": null}'), 'a token without exp is refused');
SELECT refused(token(:'header', '{"exp": "99999999999"}'), 'an exp that is no number');
SELECT refused(token(:'header', '{"exp": 1e999}'), 'an exp without end');
SELECT refused(token(:'header', '{"exp": 1}'), 'a token of 1970', 'the token has expired');
SELECT lives_ok(format('SELECT ringfence.jwt_verify(%L)', token(:'header', jsonb_build_object('exp', extract(epoch FROM now()) - 10))), 'clocks may differ by the leeway');
SELECT refused(token(:'header', jsonb_build_object('nbf', extract(epoch FROM now()) + 600)), 'a token for later', 'the token is not valid yet');
SELECT refused(token(:'header', '{"nbf": "now"}'), 'an nbf that is no number');
SELECT refused(token(:'header', '{"iss": "other.test"}'), 'another issuer');
SELECT refused(token(:'header', '{"iss": null}'), 'no issuer');
SELECT refused(token(:'header', '{"aud": "other.test"}'), 'another audience');
SELECT refused(token(:'header', '{"aud": null}'), 'no audience');
SELECT lives_ok(format('SELECT ringfence.jwt_verify(%L)', token(:'header', '{"aud": ["other.test", "audience.test"]}')), 'an audience among several will do');

-- The keys' own management
SELECT ringfence.retire_jwt_key('k1');
SELECT refused(token(:'header'), 'a retired key verifies nothing');
SELECT throws_ok($$SELECT ringfence.jwt_sign_with('{}', 'k1', '1 minute')$$, '42704', NULL, 'and signs nothing');
SELECT ringfence.add_jwt_key('k3', NULL, 'issuer.test', 'audience.test', clock_timestamp() + interval '1 hour');
SELECT is(
	convert_from(decode(rpad(translate(split_part(t.token, '.', 1), '-_', '+/'), 4 * ((length(split_part(t.token, '.', 1)) + 3) / 4), '='), 'base64'), 'UTF8')::jsonb ->> 'kid',
	'k2', 'a key for later does not sign yet')
FROM (SELECT ringfence.jwt_sign('{}')) AS t (token);
SELECT lives_ok(format('SELECT ringfence.jwt_verify(%L)', ringfence.jwt_sign_with('{}', 'k3', '1 minute')), 'but verifies already');
SELECT is(jsonb_array_length(ringfence.jwks() -> 'keys'), 2, 'and is among those that PostgREST is given');
SELECT throws_ok($$SELECT ringfence.add_jwt_key('short', 'too short')$$, '22023', 'token key is not acceptable', 'a short secret is refused, unsaid');
SELECT is(
	(SELECT k ->> 'k' FROM jsonb_array_elements(ringfence.jwks() -> 'keys') AS k WHERE k ->> 'kid' = 'k2'),
	b64(decode(repeat('ab', 32), 'hex')), 'jwks() is what PostgREST is given');

SELECT * FROM finish();
