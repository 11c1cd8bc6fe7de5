-- Claim links: the office invites somebody to have a place for a merchant, by mail;
-- who has the link and is that merchant accepts. A link is good for a day and for
-- once. Of its token only a hash is kept, in a column that no tenant reads, and
-- that never reaches the audit log.

CREATE TABLE merchant.claim_links (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	place_id text COLLATE "C" NOT NULL REFERENCES merchant.places (id),
	merchant_id uuid NOT NULL,
	email text NOT NULL,
	token_hash bytea NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz NOT NULL DEFAULT now() + interval '24 hours',
	accepted_at timestamptz,
	PRIMARY KEY (org_id, id),
	CONSTRAINT claim_links_merchant_id_fkey FOREIGN KEY (org_id, merchant_id) REFERENCES merchant.merchants (org_id, id),
	CONSTRAINT claim_links_email_check CHECK (email ~ '^[^@\s[:cntrl:]]+@[^@\s[:cntrl:]]+$' AND length(email) <= 254),
	CONSTRAINT claim_links_token_hash_check CHECK (octet_length(token_hash) = 32),
	CONSTRAINT claim_links_expires_at_check CHECK (expires_at > created_at AND expires_at <= created_at + interval '24 hours'),
	CONSTRAINT claim_links_accepted_at_check CHECK (accepted_at BETWEEN created_at AND expires_at)
);
-- ANALYZE would copy hashes into pg_statistic.
ALTER TABLE merchant.claim_links ALTER COLUMN token_hash SET STATISTICS 0;
CREATE INDEX claim_links_place_id_idx ON merchant.claim_links (place_id);
CREATE INDEX claim_links_merchant_id_idx ON merchant.claim_links (org_id, merchant_id);
CREATE INDEX claim_links_expires_at_idx ON merchant.claim_links (org_id, expires_at);

COMMENT ON TABLE merchant.claim_links IS 'Invitations to have a place for a merchant, made by invite_claim() and accepted by accept_claim().';
COMMENT ON COLUMN merchant.claim_links.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN merchant.claim_links.id IS 'key within the organization';
COMMENT ON COLUMN merchant.claim_links.place_id IS 'the place';
COMMENT ON COLUMN merchant.claim_links.merchant_id IS 'the merchant who may accept';
COMMENT ON COLUMN merchant.claim_links.email IS 'e-mail address that the link is sent to, at most 254 characters';
COMMENT ON COLUMN merchant.claim_links.token_hash IS 'SHA-256 of the token''s secret half; no tenant reads it';
COMMENT ON COLUMN merchant.claim_links.created_at IS 'when it was made';
COMMENT ON COLUMN merchant.claim_links.expires_at IS 'until when it is good: 24 hours at most';
COMMENT ON COLUMN merchant.claim_links.accepted_at IS 'when it was accepted; NULL if it was not';

SELECT ringfence.protect('merchant.claim_links', '{"owner,admin": "select delete"}', columns => '{
	"select": ["org_id", "id", "place_id", "merchant_id", "email", "created_at", "expires_at", "accepted_at"]
}');
SELECT ringfence.label('merchant.claim_links', l.column_name, l.label)
FROM (VALUES ('email', 'personal'), ('token_hash', 'secret')) AS l (column_name, label);

CREATE VIEW merchant_v1.claim_links WITH (security_invoker = true) AS
SELECT l.org_id, l.id, l.place_id, l.merchant_id, l.email, l.created_at, l.expires_at, l.accepted_at
FROM merchant.claim_links AS l;
GRANT SELECT, DELETE ON merchant_v1.claim_links TO ringfence_member;
COMMENT ON VIEW merchant_v1.claim_links IS 'Invitations to claim a place
Read by owner and admin, and deleted, which makes the link worth nothing; made by invite_claim(). Gone a day after they expired.';
COMMENT ON COLUMN merchant_v1.claim_links.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN merchant_v1.claim_links.id IS 'key within the organization';
COMMENT ON COLUMN merchant_v1.claim_links.place_id IS 'the place';
COMMENT ON COLUMN merchant_v1.claim_links.merchant_id IS 'the merchant who may accept';
COMMENT ON COLUMN merchant_v1.claim_links.email IS 'e-mail address that the link is sent to';
COMMENT ON COLUMN merchant_v1.claim_links.created_at IS 'when it was made';
COMMENT ON COLUMN merchant_v1.claim_links.expires_at IS 'until when it is good';
COMMENT ON COLUMN merchant_v1.claim_links.accepted_at IS 'when it was accepted; null if it was not';

CREATE TYPE merchant_v1.claim_invitation AS (
	id uuid,
	token text,
	expires_at timestamptz
);
COMMENT ON TYPE merchant_v1.claim_invitation IS 'what invite_claim() answers';
COMMENT ON COLUMN merchant_v1.claim_invitation.id IS 'the claim link';
COMMENT ON COLUMN merchant_v1.claim_invitation.token IS 'for accept_claim(), to be sent to the address; it is shown this once';
COMMENT ON COLUMN merchant_v1.claim_invitation.expires_at IS 'until when it is good';

-- Four random uuids have 488 random bits, of which their hash keeps 256.
CREATE FUNCTION merchant.random_secret() RETURNS bytea
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
	|| uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
REVOKE EXECUTE ON FUNCTION merchant.random_secret() FROM PUBLIC;
COMMENT ON FUNCTION merchant.random_secret() IS '32 bytes of the server''s cryptographic generator';

-- How long a comparison takes tells where two values differ. Here they are hashed
-- with a nonce first, so that it tells nothing of the values.
CREATE FUNCTION merchant.same_secret(a bytea, b bytea) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	nonce CONSTANT bytea := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
BEGIN
	RETURN sha256(nonce || sha256(nonce || a)) = sha256(nonce || sha256(nonce || b));
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.same_secret(bytea, bytea) FROM PUBLIC;
COMMENT ON FUNCTION merchant.same_secret(bytea, bytea) IS
	'whether two values are the same, in a time that does not depend on where they differ; NULL if one is NULL';

CREATE FUNCTION merchant_v1.invite_claim(place text, merchant uuid, email text) RETURNS merchant_v1.claim_invitation
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	secret CONSTANT bytea := merchant.random_secret();
	answer merchant_v1.claim_invitation;
BEGIN
	PERFORM ringfence_data.require_role('owner', 'admin');
	IF NOT EXISTS (SELECT FROM merchant.places AS p WHERE p.id = invite_claim.place) THEN
		RAISE EXCEPTION 'place not found' USING ERRCODE = 'PT404';
	END IF;
	IF NOT EXISTS (SELECT FROM merchant.merchants AS m WHERE m.org_id = org AND m.id = invite_claim.merchant) THEN
		RAISE EXCEPTION 'merchant not found' USING ERRCODE = 'PT404';
	END IF;
	IF EXISTS (SELECT FROM merchant.claims AS c WHERE c.org_id = org AND c.place_id = invite_claim.place) THEN
		RAISE EXCEPTION 'place is claimed already' USING ERRCODE = 'PT409';
	END IF;
	INSERT INTO merchant.claim_links AS l (org_id, place_id, merchant_id, email, token_hash)
	VALUES (org, invite_claim.place, invite_claim.merchant, invite_claim.email, sha256(secret))
	RETURNING l.id, l.expires_at INTO answer.id, answer.expires_at;
	answer.token := replace(answer.id::text, '-', '') || encode(secret, 'hex');
	RETURN answer;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.invite_claim(text, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.invite_claim(text, uuid, text) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.invite_claim(text, uuid, text) IS 'Invite a merchant to claim a place
By owner and admin. Answers with the token, this once: send it to the address; it is good for 24 hours and for one claim. 404 place or merchant not found; 403 not allowed; 409 the place is claimed; 400 bad address.';
-- It answers with a token.
SELECT ringfence.keep_idempotency_keys('POST', '/rpc/invite_claim', '24:00:00', false);

CREATE FUNCTION merchant_v1.accept_claim(token text) RETURNS merchant_v1.claims
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	seller CONSTANT uuid := ringfence.party_id('merchant');
	valid CONSTANT boolean := coalesce(accept_claim.token COLLATE "C" ~ '^[0-9a-f]{96}$', false);
	given CONSTANT text := CASE WHEN valid THEN accept_claim.token ELSE repeat('0', 96) END;
	link record;
BEGIN
	IF NOT ringfence.has_role('merchant') OR seller IS NULL THEN
		RAISE EXCEPTION 'only a merchant may do this' USING ERRCODE = 'insufficient_privilege';
	END IF;
	SELECT l.id, l.place_id, l.token_hash INTO link
	FROM merchant.claim_links AS l
	WHERE l.org_id = org AND l.id = left(given, 32)::uuid AND l.merchant_id = seller
		AND l.accepted_at IS NULL AND l.expires_at > now()
	FOR NO KEY UPDATE;
	-- What is unknown, expired, used, somebody else's or wrong is answered the same,
	-- after the same work.
	IF merchant.same_secret(coalesce(link.token_hash, sha256('')), sha256(decode(right(given, 64), 'hex'))) IS NOT TRUE
		OR link.id IS NULL OR NOT valid THEN
		RAISE EXCEPTION 'claim link not found'
			USING ERRCODE = 'PT404', DETAIL = 'It may have expired, or been used.', HINT = 'Ask for another one.';
	END IF;
	UPDATE merchant.claim_links AS l
	SET accepted_at = greatest(now(), l.created_at)
	WHERE l.org_id = org AND l.id = link.id;
	INSERT INTO merchant.claims (org_id, place_id, merchant_id)
	VALUES (org, link.place_id, seller)
	ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'place is claimed already' USING ERRCODE = 'PT409';
	END IF;
	RETURN (SELECT c FROM merchant_v1.claims AS c WHERE c.org_id = org AND c.place_id = link.place_id);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.accept_claim(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.accept_claim(text) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.accept_claim(text) IS 'Claim a place by a link
By the merchant who was invited. Answers with the claim. 404 for a token that is unknown, expired, used, or another merchant''s, all alike; 403 not a merchant; 409 the place was claimed meanwhile.';
