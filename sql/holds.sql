-- Legal holds: what they are placed on is neither removed nor anonymized until
-- they are released or over, whatever policies, erasures and the end of an
-- organization would have it.

-- A hold of no organization is on all of them.
CREATE FUNCTION ringfence.holding_org(org uuid) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(org, '00000000-0000-0000-0000-000000000000'::uuid);
REVOKE EXECUTE ON FUNCTION ringfence.holding_org(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.holding_org(uuid)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.holding_org(uuid) IS
	'the organization, or 00000000-0000-0000-0000-000000000000 for none, as tables have it that nothing references';

-- Of a table that says whose its rows are, and no organization, every one's.
CREATE FUNCTION ringfence.active_holds(
	rel regclass,
	org uuid,
	OUT id uuid,
	OUT org_id uuid,
	OUT relation regclass,
	OUT subject_kind text,
	OUT subject_id uuid,
	OUT rows jsonb,
	OUT reason text
) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 5
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT h.id, h.org_id, h.relation, h.subject_kind, h.subject_id, h.rows, h.reason
	FROM ringfence_data.legal_holds AS h
	WHERE (h.org_id IN (ringfence.holding_org(org), ringfence.holding_org(NULL))
			OR (active_holds.org IS NULL AND ringfence.has_org_column(active_holds.rel)))
		AND (h.relation IS NULL OR active_holds.rel IS NULL OR h.relation = active_holds.rel)
		AND h.released_at IS NULL
		AND (h.until IS NULL OR h.until > ringfence.retention_now())
$$;
REVOKE EXECUTE ON FUNCTION ringfence.active_holds(regclass, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.active_holds(regclass, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.active_holds(regclass, uuid) IS
	'the holds in force on an organization''s rows of a table, or of any table for NULL: its own and those on all organizations; without an organization those of every one that has rows in the table';

-- What holds on persons are on, as a condition on rows called alias. Of core's own
-- tables it is known which rows are about a party.
CREATE FUNCTION ringfence.held_rows(rel regclass, subject_kind text, subject_ids uuid[], alias text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(c.condition, ' OR ' ORDER BY c.condition)
	FROM (
		SELECT format('%I.%I = ANY (%L::uuid[])', alias, s.column_name, subject_ids::text) AS condition
		FROM ringfence_data.subjects AS s
		WHERE s.kind = held_rows.subject_kind AND s.relation = rel
		UNION ALL
		SELECT format(b.condition, alias, subject_kind, subject_ids::text)
		FROM (VALUES
			('ringfence_data.memberships', 'lower(%1$I.party ->> %2$L) = ANY (%3$L::text[])'),
			('ringfence_data.ledger_accounts', '(%1$I.party_kind = %2$L AND %1$I.party_id = ANY (%3$L::uuid[]))'),
			('ringfence_data.consents', '(%1$I.subject_kind = %2$L AND %1$I.subject_id = ANY (%3$L::uuid[]))')
		) AS b (relation, condition)
		WHERE rel = to_regclass(b.relation)
	) AS c
$$;
REVOKE EXECUTE ON FUNCTION ringfence.held_rows(regclass, text, uuid[], text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.held_rows(regclass, text, uuid[], text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.held_rows(regclass, text, uuid[], text) IS
	'the condition under which a row of a table is about one of these persons: by what declare_subject() says, or in core''s own tables; NULL where none is';

-- Values stand in the condition, so that the table's owner needs no right to read
-- holds. A column that is NULL is about nobody.
CREATE FUNCTION ringfence.hold_condition(rel regclass, org uuid, alias text DEFAULT 't') RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH holds AS MATERIALIZED (
		SELECT h.org_id, h.subject_kind, h.subject_id, h.rows,
			CASE WHEN org IS NULL AND h.org_id <> ringfence.holding_org(NULL) THEN format('%I.org_id = %L AND ', alias, h.org_id)
				ELSE '' END AS whose
		FROM ringfence.active_holds(rel, org) AS h
	), conditions AS (
		SELECT h.whose || '(' || ringfence.filter_condition(rel, h.rows, alias) || ')' AS condition
		FROM holds AS h
		WHERE h.rows IS NOT NULL
		UNION
		SELECT g.whose || '(' || ringfence.held_rows(rel, g.subject_kind, g.subject_ids, alias) || ')'
		FROM (
			SELECT h.whose, h.subject_kind, array_agg(h.subject_id ORDER BY h.subject_id) AS subject_ids
			FROM holds AS h
			WHERE h.subject_kind IS NOT NULL
			GROUP BY h.whose, h.subject_kind
		) AS g
		UNION
		SELECT h.whose || 'true' FROM holds AS h WHERE h.subject_kind IS NULL AND h.rows IS NULL
	)
	SELECT CASE WHEN bool_or(c.condition = 'true') THEN 'false'
		ELSE coalesce(string_agg(format('(%s) IS NOT TRUE', c.condition), ' AND ' ORDER BY c.condition), 'true') END
	FROM conditions AS c
	WHERE c.condition IS NOT NULL
$$;
REVOKE EXECUTE ON FUNCTION ringfence.hold_condition(regclass, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.hold_condition(regclass, uuid, text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.hold_condition(regclass, uuid, text) IS
	'the condition under which no hold is on a row of an organization, or without one of any: "true" where there is none, "false" where all rows are held';

CREATE FUNCTION ringfence.check_hold(
	reason text,
	rel regclass,
	subject_kind text,
	subject_id uuid,
	rows jsonb,
	until timestamptz
) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.require_core();
	IF coalesce(reason, '') !~ '[[:alnum:]]' OR length(reason) > 1000 THEN
		RAISE EXCEPTION 'a reason is required for a hold'
			USING ERRCODE = 'not_null_violation', DETAIL = 'It has 1 to 1000 characters, a letter or digit among them.';
	END IF;
	IF (subject_kind IS NULL) <> (subject_id IS NULL) OR (rows IS NOT NULL AND (rel IS NULL OR subject_kind IS NOT NULL)) THEN
		RAISE EXCEPTION 'invalid hold'
			USING ERRCODE = 'invalid_parameter_value',
			DETAIL = 'A subject has a kind and an id; rows are of a table, and said without a subject.';
	END IF;
	IF rel IS NOT NULL THEN
		PERFORM ringfence.check_retained_table(rel);
	END IF;
	IF subject_kind IS NOT NULL AND NOT EXISTS (
		SELECT FROM ringfence_data.subjects AS s WHERE s.kind = check_hold.subject_kind
	) THEN
		RAISE EXCEPTION 'no table is declared to be about a "%"', subject_kind
			USING ERRCODE = 'undefined_object', HINT = 'ringfence.declare_subject() says what is about whom.';
	END IF;
	PERFORM ringfence.check_filter(rel, rows);
	IF until <= ringfence.retention_now() THEN
		RAISE EXCEPTION 'a hold cannot end in the past' USING ERRCODE = 'invalid_parameter_value';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_hold(text, regclass, text, uuid, jsonb, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_hold(text, regclass, text, uuid, jsonb, timestamptz) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_hold(text, regclass, text, uuid, jsonb, timestamptz) IS
	'refuses what place_hold() can''t place: 22023, 23502, 42703, 42704, 42809';

CREATE FUNCTION ringfence.place_hold(
	reason text,
	rel regclass DEFAULT NULL,
	subject_kind text DEFAULT NULL,
	subject_id uuid DEFAULT NULL,
	rows jsonb DEFAULT NULL,
	until timestamptz DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	hold_id CONSTANT uuid := ringfence.uuid7();
BEGIN
	PERFORM ringfence.check_hold(reason, rel, subject_kind, subject_id, rows, until);
	INSERT INTO ringfence_data.legal_holds
		(org_id, id, relation, subject_kind, subject_id, rows, reason, until, placed_by, placed_login)
	VALUES (ringfence.holding_org(ringfence.org_id()), hold_id, rel, place_hold.subject_kind, place_hold.subject_id,
		place_hold.rows, place_hold.reason, place_hold.until, ringfence.user_id(), session_user);
	RETURN hold_id;
END
$$;
ALTER FUNCTION ringfence.place_hold(text, regclass, text, uuid, jsonb, timestamptz) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.place_hold(text, regclass, text, uuid, jsonb, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.place_hold(text, regclass, text, uuid, jsonb, timestamptz)
	TO ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.place_hold(text, regclass, text, uuid, jsonb, timestamptz) IS
	'keeps rows of the organization of the context, or without one of all organizations, from retention and erasure: all of them, those of a table, those about a subject, or those that a filter picks; in force for what begins after this transaction has ended, having waited for what is under way; returns its id for release_hold(); 22023, 23502, 42703, 42704, 42809';

CREATE FUNCTION ringfence.release_hold(hold uuid, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coalesce(reason, '') !~ '[[:alnum:]]' OR length(reason) > 1000 THEN
		RAISE EXCEPTION 'a reason is required to release a hold' USING ERRCODE = 'not_null_violation';
	END IF;
	UPDATE ringfence_data.legal_holds AS h
	SET released_at = clock_timestamp(), released_by = ringfence.user_id(), released_login = session_user,
		release_reason = release_hold.reason
	WHERE h.org_id = ringfence.holding_org(ringfence.org_id()) AND h.id = hold AND h.released_at IS NULL;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'hold not found'
			USING ERRCODE = 'PT404', DETAIL = 'It is another organization''s, or released already, or there is none.';
	END IF;
END
$$;
ALTER FUNCTION ringfence.release_hold(uuid, text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.release_hold(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.release_hold(uuid, text) TO ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.release_hold(uuid, text) IS
	'ends a hold of the organization of the context, or without one a hold on all organizations; the row stays; 23502 without a reason, PT404';

CREATE FUNCTION ringfence.held_subject(kind text, id uuid, org uuid, OUT hold uuid, OUT reason text) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT h.id, h.reason
	FROM ringfence.active_holds(NULL, org) AS h
	WHERE (h.subject_kind IS NULL AND h.relation IS NULL)
		OR (h.subject_kind = held_subject.kind AND h.subject_id = held_subject.id)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.held_subject(text, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.held_subject(text, uuid, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.held_subject(text, uuid, uuid) IS
	'the holds on a whole organization or on a subject in it; those on tables and rows are hold_condition()''s to tell';

-- With its schema, whatever the search_path, so that it can be passed back.
CREATE FUNCTION ringfence.relation_name(rel regclass) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$SELECT rel::text$$;
REVOKE EXECUTE ON FUNCTION ringfence.relation_name(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.relation_name(regclass)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.relation_name(regclass) IS 'the name of a table with its schema, as ringfence_v1 writes and reads it';
