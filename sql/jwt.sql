-- Tokens. Whoever may sign can become anybody, so only ringfence_owner's own
-- functions do, and the database's owner may manage the keys.

CREATE FUNCTION ringfence.jwt_verify(token text) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL RESTRICTED STRICT
AS 'MODULE_PATHNAME', 'ringfence_jwt_verify';
REVOKE EXECUTE ON FUNCTION ringfence.jwt_verify(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.jwt_verify(text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.jwt_verify(text) IS
	'the claims of a compact HS256 token whose signature, issuer, audience, nbf and exp hold (RFC 7519); 28000 otherwise';

CREATE FUNCTION ringfence.jwt_sign_with(claims jsonb, kid text, lifetime interval) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_jwt_sign';
REVOKE EXECUTE ON FUNCTION ringfence.jwt_sign_with(jsonb, text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.jwt_sign_with(jsonb, text, interval) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.jwt_sign_with(jsonb, text, interval) IS
	'signs claims with the key of that id; iss, aud, iat and exp are set here, whatever the claims say; 42704 for an unknown or retired key, 54000 for claims that are too large';

CREATE FUNCTION ringfence.jwt_sign(claims jsonb, lifetime interval DEFAULT '15 minutes') RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	newest text;
BEGIN
	SELECT k.kid INTO newest
	FROM ringfence_data.jwt_keys AS k
	WHERE k.retired_at IS NULL AND k.signs_from <= clock_timestamp()
	ORDER BY k.signs_from DESC, k.kid DESC
	LIMIT 1;
	IF newest IS NULL THEN
		RAISE EXCEPTION 'no token key is in use'
			USING ERRCODE = 'undefined_object', HINT = 'Make one with ringfence.add_jwt_key().';
	END IF;
	RETURN ringfence.jwt_sign_with(claims, newest, lifetime);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.jwt_sign(jsonb, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.jwt_sign(jsonb, interval) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.jwt_sign(jsonb, interval) IS
	'signs claims with the latest key that signs already, for a lifetime between a second and a year; 42704 if there is no key';

CREATE FUNCTION ringfence.random_secret(bytes int) RETURNS bytea
LANGUAGE c VOLATILE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_random_secret';
REVOKE EXECUTE ON FUNCTION ringfence.random_secret(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.random_secret(int) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.random_secret(int) IS
	'that many random bytes, 16 to 1024, fit for a key; 22023';

CREATE FUNCTION ringfence.add_jwt_key(
	kid text,
	secret bytea DEFAULT NULL,
	issuer text DEFAULT 'ringfence',
	audience text DEFAULT 'ringfence',
	signs_from timestamptz DEFAULT clock_timestamp()
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO ringfence_data.jwt_keys (kid, secret, issuer, audience, signs_from)
	VALUES (
		add_jwt_key.kid,
		coalesce(add_jwt_key.secret, ringfence.random_secret(64)),
		add_jwt_key.issuer,
		add_jwt_key.audience,
		add_jwt_key.signs_from
	);
EXCEPTION
	WHEN unique_violation THEN
		RAISE EXCEPTION 'token key "%" exists', add_jwt_key.kid
			USING ERRCODE = 'duplicate_object', HINT = 'A key is never replaced: add one of another id, then retire this one.';
	WHEN check_violation OR not_null_violation THEN
		-- The server's own DETAIL would hold the secret.
		RAISE EXCEPTION 'token key is not acceptable'
			USING ERRCODE = 'invalid_parameter_value',
			DETAIL = 'An id has 1 to 63 bytes, a secret at least 32 bytes; issuer and audience must be given.';
END
$$;
ALTER FUNCTION ringfence.add_jwt_key(text, bytea, text, text, timestamptz) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.add_jwt_key(text, bytea, text, text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.add_jwt_key(text, bytea, text, text, timestamptz) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.add_jwt_key(text, bytea, text, text, timestamptz) IS
	'adds an HS256 key: with a secret of at least 32 bytes, or with 64 random ones made here, which appear in no statement and no log; it verifies at once and signs from the time given, so that others can learn of it first; 42710 if the id is taken, 22023';

CREATE FUNCTION ringfence.retire_jwt_key(kid text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE ringfence_data.jwt_keys AS k
	SET retired_at = clock_timestamp()
	WHERE k.kid = retire_jwt_key.kid AND k.retired_at IS NULL;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'token key "%" does not exist or was retired', retire_jwt_key.kid
			USING ERRCODE = 'undefined_object';
	END IF;
END
$$;
ALTER FUNCTION ringfence.retire_jwt_key(text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.retire_jwt_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retire_jwt_key(text) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.retire_jwt_key(text) IS
	'takes a key out of use: tokens signed with it are refused from now on; 42704 if there is none';

CREATE FUNCTION ringfence.jwks() RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_build_object('keys', coalesce(jsonb_agg(
		jsonb_build_object(
			'kty', 'oct',
			'alg', 'HS256',
			'kid', k.kid,
			'k', translate(encode(k.secret, 'base64'), E'+/=\n', '-_')
		) ORDER BY k.created_at, k.kid), '[]'))
	FROM ringfence_data.jwt_keys AS k
	WHERE k.retired_at IS NULL
$$;
ALTER FUNCTION ringfence.jwks() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.jwks() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.jwks() TO pg_database_owner;
COMMENT ON FUNCTION ringfence.jwks() IS
	'the keys in use as a JSON Web Key Set, secrets included: what PostgREST wants as jwt-secret';
