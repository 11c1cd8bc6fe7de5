-- Endpoints for members, and the functions that make and change memberships.
-- They belong to ringfence_owner, so row security holds inside them as well:
-- none can touch another organization than that of the context.

CREATE VIEW ringfence_v1.me WITH (security_invoker = true, security_barrier = true) AS
SELECT
	u.id,
	u.email,
	u.name,
	m.org_id,
	o.name AS org_name,
	ARRAY(SELECT jsonb_array_elements_text(ringfence.context() -> 'roles')) AS roles,
	ringfence.context() -> 'party' AS party
FROM ringfence_data.users AS u
LEFT JOIN ringfence_data.memberships AS m
	ON m.user_id = u.id AND m.org_id = ringfence.org_id()
LEFT JOIN ringfence_data.orgs AS o ON o.id = m.org_id
WHERE u.id = ringfence.user_id();
COMMENT ON VIEW ringfence_v1.me IS
	'the signed-in user: one row, or none; roles and party as they are in force for this request';
GRANT SELECT ON ringfence_v1.me TO ringfence_member;

CREATE VIEW ringfence_v1.my_orgs WITH (security_invoker = true, security_barrier = true) AS
SELECT
	o.id,
	o.name,
	o.region,
	o.status,
	m.roles,
	m.status AS membership,
	o.id IS NOT DISTINCT FROM ringfence.org_id() AS current
FROM ringfence_data.memberships AS m
INNER JOIN ringfence_data.orgs AS o ON o.id = m.org_id
WHERE m.user_id = ringfence.user_id();
COMMENT ON VIEW ringfence_v1.my_orgs IS
	'the organizations that the signed-in user belongs or is invited to (membership); "current" is the one of this token';
GRANT SELECT ON ringfence_v1.my_orgs TO ringfence_member;

CREATE VIEW ringfence_v1.members WITH (security_invoker = true, security_barrier = true) AS
SELECT
	m.user_id,
	coalesce(u.email, m.invited_as) AS email,
	u.name,
	m.roles,
	m.party,
	m.status,
	m.created_at
FROM ringfence_data.memberships AS m
LEFT JOIN ringfence_data.users AS u ON u.id = m.user_id
WHERE m.org_id = ringfence.org_id();
COMMENT ON VIEW ringfence_v1.members IS
	'the members of the organization, for its owners and admins; everybody else sees only themselves';
GRANT SELECT ON ringfence_v1.members TO ringfence_member;

-- Finds a user by address or makes one. To the caller both look the same.
CREATE FUNCTION ringfence_data.user_for_email(address text) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_id uuid;
BEGIN
	INSERT INTO ringfence_data.users (email)
	VALUES (lower(btrim(address)))
	ON CONFLICT (lower(email)) DO NOTHING
	RETURNING id INTO found_id;
	IF found_id IS NULL THEN
		SELECT u.id INTO found_id FROM ringfence_data.users AS u WHERE lower(u.email) = lower(btrim(address));
	END IF;
	RETURN found_id;
EXCEPTION WHEN check_violation THEN
	RAISE EXCEPTION 'invalid e-mail address' USING ERRCODE = 'invalid_parameter_value';
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.user_for_email(text) FROM PUBLIC;
COMMENT ON FUNCTION ringfence_data.user_for_email(text) IS
	'the id of the user with that address, made if there is none; for ringfence_owner''s functions; 22023';

CREATE FUNCTION ringfence_data.require_role(VARIADIC roles text[]) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT ringfence.has_role(VARIADIC roles) THEN
		RAISE EXCEPTION 'permission denied for this organization'
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = format('It takes one of the roles: %s.', array_to_string(roles, ', '));
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.require_role(VARIADIC text[]) FROM PUBLIC;
COMMENT ON FUNCTION ringfence_data.require_role(VARIADIC text[]) IS
	'42501 unless the user holds one of these roles; for ringfence_owner''s functions';

-- In which times are read and written alike: what a session can be set to is not
-- what AT TIME ZONE takes. Abbreviations are the latter's alone, and +8 is west of
-- Greenwich to one, east to the other.
CREATE FUNCTION ringfence_data.is_time_zone(zone text) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
BEGIN
	PERFORM set_config('TimeZone', zone, true);
	RETURN (
		SELECT bool_and(timezone(zone, m.moment) = m.moment::timestamp)
		FROM (VALUES (timestamptz '2000-01-01 00:00:00+00'), ('2000-07-01 00:00:00+00')) AS m (moment)
	);
EXCEPTION WHEN invalid_parameter_value OR feature_not_supported THEN
	RETURN false;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.is_time_zone(text) FROM PUBLIC;
COMMENT ON FUNCTION ringfence_data.is_time_zone(text) IS
	'whether a time zone is one, and the same to a session and to AT TIME ZONE; for ringfence_owner''s functions';

-- What an organization's settings may be, whoever writes them. Apps have keys of
-- their own, and check these where they read them.
CREATE FUNCTION ringfence_data.check_settings(settings jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wrong text;
BEGIN
	IF jsonb_typeof(settings) <> 'object' THEN
		RAISE EXCEPTION 'settings of an organization are a JSON object' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	SELECT s.key INTO wrong FROM jsonb_object_keys(settings) AS s (key) WHERE s.key !~ '^[a-z][a-z0-9_]{0,62}$' LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'invalid name "%" of a setting', left(wrong, 63)
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It is up to 63 lower case letters, digits and underscores.';
	END IF;
	IF jsonb_typeof(settings -> 'record_exports') NOT IN ('boolean', 'null') THEN
		RAISE EXCEPTION 'setting record_exports is true or false' USING ERRCODE = 'invalid_parameter_value';
	ELSIF jsonb_typeof(settings -> 'time_zone') NOT IN ('string', 'null') THEN
		RAISE EXCEPTION 'setting time_zone is the name of a time zone' USING ERRCODE = 'invalid_parameter_value';
	ELSIF NOT ringfence_data.is_time_zone(settings ->> 'time_zone') THEN
		RAISE EXCEPTION 'time zone "%" not recognized', settings ->> 'time_zone'
			USING ERRCODE = 'invalid_parameter_value', HINT = 'The view "pg_timezone_names" has names such as America/Vancouver.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.check_settings(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION ringfence_data.check_settings(jsonb) IS
	'22023 unless these can be settings of an organization: a JSON object, time_zone a time zone, record_exports true or false; for ringfence_owner''s functions';

CREATE FUNCTION ringfence_v1.create_org(
	name text,
	owner_email text,
	region text DEFAULT NULL,
	settings jsonb DEFAULT '{}'
) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	new_id uuid := ringfence.uuid7();
BEGIN
	PERFORM ringfence_data.check_settings(settings);
	PERFORM ringfence.begin_org(new_id);
	INSERT INTO ringfence_data.orgs (id, name, region, settings)
	VALUES (new_id, create_org.name, create_org.region, coalesce(create_org.settings, '{}'));
	INSERT INTO ringfence_data.memberships (org_id, user_id, roles)
	VALUES (new_id, ringfence_data.user_for_email(owner_email), ARRAY['owner']);
	RETURN new_id;
EXCEPTION
	WHEN unique_violation THEN
		RAISE EXCEPTION 'an organization of that name exists' USING ERRCODE = 'PT409';
	WHEN check_violation OR not_null_violation THEN
		RAISE EXCEPTION 'invalid name, address or settings of an organization'
			USING ERRCODE = 'invalid_parameter_value',
			DETAIL = 'A name has 1 to 200 characters without blanks around it; settings are a JSON object of 64 kB at most.';
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.create_org(text, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.create_org(text, text, text, jsonb) TO ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence_v1.create_org(text, text, text, jsonb) IS
	'makes an organization with its first owner and returns its id; the transaction goes on in the new organization; for operators and jobs; PT409 if the name is taken, 22023, 42501 if another organization is entered';

CREATE FUNCTION ringfence_v1.set_org_status(status text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ringfence.actor() NOT IN ('operator', 'job') OR ringfence.org_id() IS NULL THEN
		RAISE EXCEPTION 'no organization is entered'
			USING ERRCODE = 'insufficient_privilege', HINT = 'Call ringfence.enter_org(), which records the reason.';
	END IF;
	IF set_org_status.status NOT IN ('active', 'suspended', 'closed') THEN
		RAISE EXCEPTION 'invalid status "%" of an organization', set_org_status.status
			USING ERRCODE = 'invalid_parameter_value', HINT = 'It is active, suspended or closed.';
	END IF;
	-- Its row's lock comes first, as in delete_org().
	UPDATE ringfence_data.orgs AS o
	SET status = set_org_status.status
	WHERE o.id = ringfence.org_id() AND o.status <> 'deleted';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'the organization is deleted' USING ERRCODE = 'PT409';
	ELSIF EXISTS (
		SELECT FROM ringfence_data.org_deletions AS d WHERE d.org_id = ringfence.org_id() AND d.cancelled_at IS NULL
	) THEN
		RAISE EXCEPTION 'the deletion of the organization is ordered'
			USING ERRCODE = 'PT409', HINT = 'ringfence.cancel_org_deletion() takes that back, unless it has begun.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.set_org_status(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.set_org_status(text) TO ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence_v1.set_org_status(text) IS
	'makes the entered organization active, suspended or closed, from its members'' next transaction on; for operators and jobs; 42501 if none is entered, 22023, PT409 if it is deleted or its deletion is ordered';

CREATE FUNCTION ringfence_v1.set_org_settings(settings jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answer jsonb;
BEGIN
	IF ringfence.org_id() IS NULL THEN
		RAISE EXCEPTION 'no organization is set for this transaction' USING ERRCODE = 'insufficient_privilege';
	ELSIF ringfence.actor() NOT IN ('operator', 'job') THEN
		PERFORM ringfence_data.require_role('owner');
	END IF;
	PERFORM ringfence_data.check_settings(set_org_settings.settings);
	UPDATE ringfence_data.orgs AS o
	SET settings = (o.settings || set_org_settings.settings)
		- ARRAY(SELECT s.key FROM jsonb_each(set_org_settings.settings) AS s WHERE s.value = 'null')
	WHERE o.id = ringfence.org_id() AND o.status <> 'deleted'
	RETURNING o.settings INTO answer;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'the organization is deleted' USING ERRCODE = 'PT409';
	END IF;
	RETURN answer;
EXCEPTION WHEN check_violation THEN
	RAISE EXCEPTION 'settings of an organization are too large'
		USING ERRCODE = 'invalid_parameter_value', DETAIL = 'They have 64 kB at most.';
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.set_org_settings(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.set_org_settings(jsonb) TO ringfence_member, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence_v1.set_org_settings(jsonb) IS
	'changes settings of the organization, {"time_zone": "America/Vancouver", "record_exports": true}, and returns them all; others stay as they are, and null takes one away; for owners, and operators and jobs who entered; 42501, 22023 for a time zone that is none and such, PT409 if it is deleted';

CREATE FUNCTION ringfence_v1.invite(email text, roles text[], party jsonb DEFAULT '{}') RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence_data.require_role('owner', 'admin');
	IF 'owner' = ANY (roles) THEN
		PERFORM ringfence_data.require_role('owner');
	END IF;
	INSERT INTO ringfence_data.memberships (org_id, user_id, roles, party, status, invited_as)
	VALUES (
		ringfence.org_id(),
		ringfence_data.user_for_email(invite.email),
		invite.roles,
		invite.party,
		'invited',
		lower(btrim(invite.email))
	);
EXCEPTION
	WHEN unique_violation THEN
		RAISE EXCEPTION 'that address is a member or invited already' USING ERRCODE = 'PT409';
	WHEN check_violation THEN
		RAISE EXCEPTION 'invalid roles or party'
			USING ERRCODE = 'invalid_parameter_value',
			DETAIL = 'Roles are at most 32 names in lower case; party is a JSON object.';
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.invite(text, text[], jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.invite(text, text[], jsonb) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.invite(text, text[], jsonb) IS
	'invites an address into the organization, for owners and admins; only an owner may invite an owner; the answer does not tell whether the address was known; 42501, PT409 if it is a member already, 22023';

CREATE FUNCTION ringfence_v1.accept_invitation(org uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE ringfence_data.memberships AS m
	SET status = 'active'
	WHERE m.org_id = org AND m.user_id = ringfence.user_id() AND m.status = 'invited';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'invitation not found' USING ERRCODE = 'PT404';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.accept_invitation(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.accept_invitation(uuid) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.accept_invitation(uuid) IS
	'accepts an invitation of the signed-in user; switch_org() then gives a token for that organization; PT404';

-- Changes that could leave an organization without an owner take its row's
-- lock first, so that two of them can't each count on the other's owner.
CREATE FUNCTION ringfence_data.keep_an_owner() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (
		SELECT FROM ringfence_data.memberships AS m
		WHERE m.org_id = ringfence.org_id() AND m.status = 'active' AND 'owner' = ANY (m.roles)
	) THEN
		RAISE EXCEPTION 'an organization keeps at least one owner' USING ERRCODE = 'PT409';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.keep_an_owner() FROM PUBLIC;
COMMENT ON FUNCTION ringfence_data.keep_an_owner() IS
	'PT409 if the organization of the context has no active owner left; for ringfence_owner''s functions';

CREATE FUNCTION ringfence_data.lock_member(usr uuid) RETURNS ringfence_data.memberships
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	member ringfence_data.memberships;
BEGIN
	PERFORM 1 FROM ringfence_data.orgs AS o WHERE o.id = ringfence.org_id() FOR NO KEY UPDATE;
	SELECT m.* INTO member
	FROM ringfence_data.memberships AS m
	WHERE m.org_id = ringfence.org_id() AND m.user_id = usr
	FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'member not found' USING ERRCODE = 'PT404';
	END IF;
	RETURN member;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.lock_member(uuid) FROM PUBLIC;
COMMENT ON FUNCTION ringfence_data.lock_member(uuid) IS
	'locks the organization of the context, then a membership in it, and returns that; PT404; for ringfence_owner''s functions';

CREATE FUNCTION ringfence_v1.change_roles(usr uuid, roles text[], party jsonb DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	member ringfence_data.memberships;
BEGIN
	PERFORM ringfence_data.require_role('owner', 'admin');
	member := ringfence_data.lock_member(usr);
	IF 'owner' = ANY (member.roles) OR 'owner' = ANY (change_roles.roles) THEN
		PERFORM ringfence_data.require_role('owner');
	END IF;
	UPDATE ringfence_data.memberships AS m
	SET roles = change_roles.roles, party = coalesce(change_roles.party, m.party)
	WHERE m.org_id = member.org_id AND m.user_id = member.user_id;
	PERFORM ringfence_data.keep_an_owner();
EXCEPTION WHEN check_violation OR not_null_violation THEN
	RAISE EXCEPTION 'invalid roles or party'
		USING ERRCODE = 'invalid_parameter_value',
		DETAIL = 'Roles are at most 32 names in lower case; party is a JSON object.';
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.change_roles(uuid, text[], jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.change_roles(uuid, text[], jsonb) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.change_roles(uuid, text[], jsonb) IS
	'gives a member other roles and, unless NULL, another party, from the next transaction on; for owners and admins; only an owner may make, change or unmake an owner; 42501, PT404, PT409 if no owner would be left, 22023';

CREATE FUNCTION ringfence_v1.remove_member(usr uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	member ringfence_data.memberships;
BEGIN
	IF usr IS DISTINCT FROM ringfence.user_id() THEN
		PERFORM ringfence_data.require_role('owner', 'admin');
	END IF;
	member := ringfence_data.lock_member(usr);
	IF 'owner' = ANY (member.roles) AND usr IS DISTINCT FROM ringfence.user_id() THEN
		PERFORM ringfence_data.require_role('owner');
	END IF;
	DELETE FROM ringfence_data.memberships AS m
	WHERE m.org_id = member.org_id AND m.user_id = member.user_id;
	PERFORM ringfence_data.keep_an_owner();
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.remove_member(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.remove_member(uuid) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.remove_member(uuid) IS
	'removes a member, whose tokens are worth nothing from the next transaction on; for owners and admins, and for oneself; 42501, PT404, PT409 if no owner would be left';

CREATE FUNCTION ringfence_v1.switch_org(org uuid) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- No token gives more than the one it is exchanged for, nor lasts longer.
	IF ringfence.narrowed() THEN
		RAISE EXCEPTION 'a token with roles or parties of its own cannot be exchanged'
			USING ERRCODE = 'insufficient_privilege';
	END IF;
	PERFORM 1
	FROM ringfence_data.memberships AS m
	INNER JOIN ringfence_data.orgs AS o ON o.id = m.org_id
	WHERE m.org_id = org AND m.user_id = ringfence.user_id() AND m.status = 'active' AND o.status = 'active';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'organization not found' USING ERRCODE = 'PT404';
	END IF;
	RETURN ringfence.jwt_sign(jsonb_build_object(
		'role', 'ringfence_member',
		'sub', ringfence.user_id(),
		'org_id', org,
		'jti', ringfence.uuid7()
	), greatest('1 second', least('15 minutes', ringfence.expires_at() - clock_timestamp())));
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.switch_org(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.switch_org(uuid) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.switch_org(uuid) IS
	'a token for another organization of the signed-in user, for 15 minutes or as long as the present one lasts; 42501 if that names roles or parties, PT404 if the user is no active member or the organization is not active, 42704 if no token key is in use';
