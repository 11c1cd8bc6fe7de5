-- Erasure and access: which rows are about a person, and what becomes of them when
-- that person wants to be forgotten, or to know what is known.
--
-- Work on rows goes through retention_execute(), as ringfence_owner's functions
-- call it: as each table's owner, in one organization, for a task that names what
-- was declared here. An erasure locks the person's own row first: who is about to
-- add rows that reference it waits, and who has is waited for. It is one
-- transaction: all of it or nothing.

CREATE FUNCTION ringfence.check_subject_kind(kind text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF kind IS NULL THEN
		RAISE EXCEPTION 'kind of subject must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF to_regclass('ringfence_data.subjects') IS NULL THEN
		RAISE EXCEPTION 'app "core" is not installed'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call ringfence.install(''core'').';
	END IF;
	IF NOT EXISTS (SELECT FROM ringfence_data.subjects AS s WHERE s.kind = check_subject_kind.kind AND s.is_root) THEN
		RAISE EXCEPTION 'unknown kind of subject "%"', kind
			USING ERRCODE = 'invalid_parameter_value', HINT = 'ringfence.declare_subject() makes it known, with its root table.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_subject_kind(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_subject_kind(text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_subject_kind(text) IS
	'refuses a kind of subject that has no root table (22023), or is NULL (22004); for ringfence_owner''s functions; 55000';

-- Declarations.

CREATE FUNCTION ringfence.check_subject_table(kind text, rel regclass, column_name name) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	class pg_class;
	type text := ringfence.column_type(rel, column_name::text);
BEGIN
	SELECT c.* INTO class FROM pg_class AS c WHERE c.oid = rel;
	IF class.relkind IN ('r', 'p') IS NOT TRUE OR class.relpersistence = 't' OR class.relispartition
		OR class.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) THEN
		RAISE EXCEPTION '"%" is not a table that can be about a subject', rel
			USING ERRCODE = 'wrong_object_type', DETAIL = 'It is an ordinary or partitioned table, and no partition.';
	END IF;
	IF ringfence.is_audit_table(rel) OR (class.relnamespace::regnamespace::text = 'ringfence_data' AND class.relname ~ '^ledger_') THEN
		RAISE EXCEPTION 'table % is a record', rel
			USING ERRCODE = 'wrong_object_type', DETAIL = 'An erasure sees to the audit log and the ledger by itself.';
	END IF;
	IF type IS NULL THEN
		RAISE EXCEPTION 'column "%" of table % does not exist', column_name, rel USING ERRCODE = 'undefined_column';
	ELSIF type <> 'uuid' THEN
		RAISE EXCEPTION 'column "%" of table % is not of type uuid', column_name, rel USING ERRCODE = 'datatype_mismatch';
	END IF;
	IF kind <> 'user' AND NOT ringfence.has_org_column(rel) THEN
		RAISE EXCEPTION 'table % has no column "org_id"', rel
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'Only users are of no organization.', HINT = 'Protect the table first.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_subject_table(text, regclass, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_subject_table(text, regclass, name) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_subject_table(text, regclass, name) IS
	'refuses a table that can''t be about subjects of a kind, by that column: 42703, 42804, 42809, 55000; for declare_subject()';

CREATE FUNCTION ringfence.check_subject_rules(kind text, rel regclass, action text, rules jsonb) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	reference regclass;
BEGIN
	IF action NOT IN ('delete', 'anonymize', 'keep') THEN
		RAISE EXCEPTION 'invalid action "%"', action
			USING ERRCODE = 'invalid_parameter_value', HINT = 'It is delete, anonymize or keep.';
	END IF;
	IF action = 'keep' AND rules IS NOT NULL THEN
		RAISE EXCEPTION 'rows that are kept have no rules' USING ERRCODE = 'invalid_parameter_value';
	ELSIF action = 'anonymize' OR rules IS NOT NULL THEN
		PERFORM ringfence.check_rules(rel, rules);
		RETURN;
	ELSIF action = 'keep' THEN
		RETURN;
	END IF;
	-- Rows that the same erasure deletes before don't stand in the way.
	SELECT k.conrelid::regclass INTO reference
	FROM pg_constraint AS k
	WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid = rel AND k.conrelid <> rel AND k.confdeltype IN ('a', 'r')
		AND NOT EXISTS (
			SELECT FROM ringfence_data.subjects AS s
			WHERE s.kind = check_subject_rules.kind AND s.relation = k.conrelid AND s.action = 'delete'
		)
	ORDER BY k.conname
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'rows of table % cannot be deleted', rel
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = format('Rows of table %s reference them.', reference),
			HINT = 'Declare that table first if its rows are to be deleted as well, or give rules by which such rows are anonymized.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_subject_rules(text, regclass, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_subject_rules(text, regclass, text, jsonb) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_subject_rules(text, regclass, text, jsonb) IS
	'refuses what an erasure could not do to a table''s rows: 22023, 42703, and 55000 for rows to be deleted that others keep; for declare_subject()';

CREATE FUNCTION ringfence.declare_subject(
	kind text,
	rel regclass,
	column_name name,
	action text,
	rules jsonb DEFAULT NULL,
	purpose text DEFAULT NULL,
	is_root boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF kind IS NULL OR rel IS NULL OR column_name IS NULL OR action IS NULL OR is_root IS NULL THEN
		RAISE EXCEPTION 'kind, table, column and action must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF kind !~ '^[a-z][a-z0-9_]{0,30}$' OR purpose !~ '^[a-z][a-z0-9_.-]{0,62}$' THEN
		RAISE EXCEPTION 'invalid kind of subject "%", or purpose', kind
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'A kind is up to 31 lower case letters, digits and underscores; a purpose up to 63 of these, dots and hyphens.';
	END IF;
	PERFORM ringfence.check_subject_table(kind, rel, column_name);
	PERFORM ringfence.check_retaining_rights(rel);
	PERFORM ringfence.check_subject_rules(kind, rel, action, rules);
	IF is_root THEN
		-- The root that was takes part in what is declared.
		PERFORM ringfence.check_retaining_rights(s.relation)
		FROM ringfence_data.subjects AS s
		WHERE s.kind = declare_subject.kind AND s.is_root AND s.relation <> rel;
		UPDATE ringfence_data.subjects AS s
		SET is_root = false
		WHERE s.kind = declare_subject.kind AND s.is_root AND (s.relation, s.column_name) <> (rel, declare_subject.column_name);
	END IF;
	INSERT INTO ringfence_data.subjects AS s (kind, relation, column_name, action, rules, purpose, is_root)
	VALUES (
		declare_subject.kind,
		rel,
		declare_subject.column_name,
		declare_subject.action,
		declare_subject.rules,
		declare_subject.purpose,
		declare_subject.is_root
	)
	ON CONFLICT ON CONSTRAINT subjects_pkey DO UPDATE
	SET action = excluded.action, rules = excluded.rules, purpose = excluded.purpose, is_root = excluded.is_root;
END
$$;
ALTER FUNCTION ringfence.declare_subject(text, regclass, name, text, jsonb, text, boolean) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.declare_subject(text, regclass, name, text, jsonb, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.declare_subject(text, regclass, name, text, jsonb, text, boolean) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.declare_subject(text, regclass, name, text, jsonb, text, boolean) IS
	'says that rows of a table are about people of a kind, by the column that holds a person''s id, and what an erasure does to them: delete (those that others reference are anonymized by the rules), anonymize ({"name": "pseudonym", "phone": "null"}) or keep; rows that rest on a consent name its purpose; one table of a kind is the root, where each person has a row; repeatable; 22004, 22023, 42501 for a table of somebody else''s, 42703, 42804, 42809, 55000';

CREATE FUNCTION ringfence.undeclare_subject(kind text, rel regclass) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.check_retaining_rights(rel);
	DELETE FROM ringfence_data.subjects AS s
	WHERE s.kind = undeclare_subject.kind AND s.relation = rel;
END
$$;
ALTER FUNCTION ringfence.undeclare_subject(text, regclass) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.undeclare_subject(text, regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.undeclare_subject(text, regclass) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.undeclare_subject(text, regclass) IS
	'takes back what declare_subject() said of a table for a kind; 42501 for a table of somebody else''s';

-- What a hook leaves behind (a search_path, a deferred trigger, a cursor) is there
-- for what follows, which runs with more rights than whoever registered it: it is
-- those who have these already that write one. Its name may have become another's.
CREATE FUNCTION ringfence.is_erase_hook(fn oid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM pg_proc AS p
		INNER JOIN pg_roles AS r ON r.oid = p.proowner
		WHERE p.oid = fn AND p.prokind = 'f' AND NOT p.proretset AND p.pronargs = 1 AND p.proargtypes[0] = 'uuid'::regtype
			AND (r.rolname = 'ringfence_owner' OR (r.rolsuper AND p.prosecdef))
			AND has_function_privilege('ringfence_owner', p.oid, 'EXECUTE')
			AND has_schema_privilege('ringfence_owner', p.pronamespace, 'USAGE')
	)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.is_erase_hook(oid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_erase_hook(oid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.is_erase_hook(oid) IS
	'whether an erasure may call a function: it takes one uuid, and belongs to ringfence_owner, or to a superuser as whom it runs';

CREATE FUNCTION ringfence.check_erase_hook(fn regprocedure) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT ringfence.is_erase_hook(fn) THEN
		RAISE EXCEPTION 'function % cannot be called by an erasure', fn
			USING ERRCODE = 'invalid_function_definition',
			DETAIL = 'It takes one uuid, returns no set, belongs to ringfence_owner, or to a superuser as SECURITY DEFINER, and ringfence_owner may execute it.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_erase_hook(regprocedure) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_erase_hook(regprocedure) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_erase_hook(regprocedure) IS '42P13 for a function that is_erase_hook() doesn''t let an erasure call';

CREATE FUNCTION ringfence.on_erase(kind text, fn regprocedure) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF kind !~ '^[a-z][a-z0-9_]{0,30}$' THEN
		RAISE EXCEPTION 'invalid kind of subject "%"', kind USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM ringfence.check_erase_hook(fn);
	IF NOT ringfence.installing()
		AND NOT pg_has_role(session_user, (SELECT p.proowner FROM pg_proc AS p WHERE p.oid = fn), 'MEMBER') THEN
		RAISE EXCEPTION 'must be owner of function %', fn
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'It is called with its owner''s rights.',
			HINT = 'Superusers and members of the role that owns the function may.';
	END IF;
	INSERT INTO ringfence_data.subject_hooks (kind, function)
	VALUES (on_erase.kind, fn::text)
	ON CONFLICT DO NOTHING;
END
$$;
ALTER FUNCTION ringfence.on_erase(text, regprocedure) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.on_erase(text, regprocedure) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.on_erase(text, regprocedure) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.on_erase(text, regprocedure) IS
	'has a function called with a person''s id before that person is erased, in the organization''s context, to end what is under way; it must limit itself to ringfence.org_id(), for in an erasure after a restore no row security does; it belongs to ringfence_owner or a superuser; for members of that role, and scripts of apps; repeatable; 22023, 42501, 42P13';

CREATE FUNCTION ringfence.call_erase_hooks(kind text, id uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	hook text;
	called bigint := 0;
BEGIN
	FOR hook IN
		SELECT h.function FROM ringfence_data.subject_hooks AS h WHERE h.kind = call_erase_hooks.kind ORDER BY h.function
	LOOP
		PERFORM ringfence.check_erase_hook(hook::regprocedure);
		EXECUTE format('SELECT %s($1)', hook::regprocedure::regproc) USING id;
		called := called + 1;
	END LOOP;
	RETURN called;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.call_erase_hooks(text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.call_erase_hooks(text, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.call_erase_hooks(text, uuid) IS
	'calls what on_erase() registered for a kind, and returns how many functions that were; 42883 for one that is gone, 42P13 for one that has become another''s';

-- What is declared, and what core knows of every party: accounts of the ledger,
-- memberships, consents. Children come before what they reference.
CREATE FUNCTION ringfence.subject_plan(
	kind text,
	OUT place bigint,
	OUT relation regclass,
	OUT column_name name,
	OUT action text,
	OUT rules jsonb,
	OUT purpose text
) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE STRICT ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT row_number() OVER (ORDER BY p.depth, p.relation::text, p.column_name), p.relation, p.column_name, p.action, p.rules, p.purpose
	FROM (
		SELECT s.relation, s.column_name, s.action, s.rules, s.purpose, ringfence.reference_depth(s.relation) AS depth
		FROM ringfence_data.subjects AS s
		INNER JOIN pg_class AS c ON c.oid = s.relation
		WHERE s.kind = subject_plan.kind
		UNION ALL
		SELECT b.relation, b.column_name, b.action, b.rules, NULL, 0
		FROM (VALUES
			('ringfence_data.consents'::regclass, 'subject_id'::name, 'anonymize', '{"evidence": "null", "reason": "null"}'::jsonb, true),
			('ringfence_data.ledger_accounts', 'party_id', 'anonymize', '{"name": "pseudonym"}', false),
			('ringfence_data.ledger_transfers', 'debit_account_id', 'keep', NULL, false),
			('ringfence_data.memberships', 'party', 'delete', NULL, false)
		) AS b (relation, column_name, action, rules, of_users)
		WHERE b.of_users OR subject_plan.kind <> 'user'
	) AS p
$$;
REVOKE EXECUTE ON FUNCTION ringfence.subject_plan(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.subject_plan(text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.subject_plan(text) IS
	'what an erasure does for a kind of subject, in order: what declare_subject() said, and ledger accounts, memberships and consents';

CREATE FUNCTION ringfence.subject_condition(kind text, rel regclass, column_name name, id uuid, org uuid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT concat_ws(' AND ',
		CASE WHEN org IS NOT NULL AND ringfence.has_org_column(rel) THEN format('t.org_id = %L::uuid', org) END,
		CASE
			WHEN rel = 'ringfence_data.memberships'::regclass AND column_name = 'party' THEN
				format('lower(t.party ->> %L) = %L', kind, id)
			WHEN rel = 'ringfence_data.ledger_transfers'::regclass THEN format(
				'(t.debit_account_id IN (%1$s) OR t.credit_account_id IN (%1$s))', format(
				'SELECT a.id FROM ringfence_data.ledger_accounts AS a WHERE a.org_id = %L AND a.party_id = %L AND a.party_kind = %L',
				org, id, kind))
			ELSE format('t.%I = %L::uuid', column_name, id)
		END,
		CASE rel
			WHEN 'ringfence_data.ledger_accounts'::regclass THEN format('t.party_kind = %L', kind)
			WHEN 'ringfence_data.consents'::regclass THEN format('t.subject_kind = %L', kind)
		END)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.subject_condition(text, regclass, name, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.subject_condition(text, regclass, name, uuid, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.subject_condition(text, regclass, name, uuid, uuid) IS
	'the condition under which a row of a table, called t, is about a subject; of all organizations if none is given';

-- Statements. They are made with the rights of ringfence_jobs, which may look no
-- table of an app up by its name: tasks have its number.

CREATE FUNCTION ringfence.subject_columns(rel regclass) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(format('t.%I', a.attname), ', ' ORDER BY a.attnum)
	FROM pg_attribute AS a
	WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped
		AND a.attname <> ALL (ringfence.audit_secret_columns(rel))
$$;
REVOKE EXECUTE ON FUNCTION ringfence.subject_columns(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.subject_columns(regclass) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.subject_columns(regclass) IS
	'the columns of a table, called t, that a person is told of: all but secrets; NULL if there is none';

CREATE FUNCTION ringfence.subject_key(rel regclass) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((
		SELECT string_agg(format('t.%I', a.attname), ', ' ORDER BY k.place)
		FROM pg_constraint AS c
		CROSS JOIN unnest(c.conkey) WITH ORDINALITY AS k (number, place)
		INNER JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.number
		WHERE c.conrelid = rel AND c.contype = 'p'
	), 't.ctid')
$$;
REVOKE EXECUTE ON FUNCTION ringfence.subject_key(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.subject_key(regclass) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.subject_key(regclass) IS
	'what rows of a table, called t, are ordered by: its primary key, or where they lie';

-- Of who was only invited an organization keeps nothing by a hold: else it could
-- have anybody's account kept, by a hold and an invitation.
CREATE FUNCTION ringfence.subject_free_condition(kind text, rel regclass, org uuid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('(%s%s)', ringfence.hold_condition(rel, org),
		CASE WHEN kind = 'user' AND rel = 'ringfence_data.memberships'::regclass THEN ' OR t.status = ''invited''' END)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.subject_free_condition(text, regclass, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.subject_free_condition(text, regclass, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.subject_free_condition(text, regclass, uuid) IS
	'the condition under which no legal hold keeps a row of a table, called t, from the erasure of a subject of a kind';

-- A membership that is about more than the party stays, as what else it is.
CREATE FUNCTION ringfence.end_party_statement(kind text, condition text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN format(
	'WITH gone AS (
		DELETE FROM ringfence_data.memberships AS t
		WHERE %1$s AND t.roles <@ ARRAY[%2$L] AND t.party - %2$L = ''{}''
		RETURNING 1
	), changed AS (
		UPDATE ringfence_data.memberships AS t
		SET party = t.party - %2$L, roles = array_remove(t.roles, %2$L)
		WHERE %1$s AND NOT (t.roles <@ ARRAY[%2$L] AND t.party - %2$L = ''{}'')
		RETURNING 1
	)
	SELECT jsonb_build_object(''rows'', (SELECT count(*) FROM gone) + (SELECT count(*) FROM changed))',
	condition, kind);
REVOKE EXECUTE ON FUNCTION ringfence.end_party_statement(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.end_party_statement(text, text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.end_party_statement(text, text) IS
	'the statement that ends memberships as a party: deletes those that are nothing else, and takes party and role from others';

CREATE FUNCTION ringfence.subject_rows_statement(task jsonb, org uuid) RETURNS TABLE (rel regclass, statement text)
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	step text := concat_ws(' ', task ->> 'kind', task ->> 'step');
	plan record;
	condition text;
	free text;
BEGIN
	SELECT p.relation, p.rules INTO plan
	FROM ringfence.subject_plan(task ->> 'subject') AS p
	WHERE p.relation = (task ->> 'relation')::oid AND p.column_name = task ->> 'column';
	IF NOT FOUND THEN
		RETURN;
	END IF;
	condition := ringfence.subject_condition(task ->> 'subject', plan.relation, (task ->> 'column')::name, (task ->> 'id')::uuid, org);
	rel := plan.relation;
	free := ringfence.subject_free_condition(task ->> 'subject', rel, org);
	statement := CASE step
		WHEN 'erase lock' THEN format(
			'WITH locked AS MATERIALIZED (SELECT FROM %s AS t WHERE %s ORDER BY %s FOR UPDATE)
			SELECT jsonb_build_object(''rows'', count(*)) FROM locked', rel, condition, ringfence.subject_key(rel))
		WHEN 'erase party' THEN ringfence.end_party_statement(task ->> 'subject', condition || ' AND ' || free)
		WHEN 'erase delete' THEN format(
			'WITH gone AS (DELETE FROM %s AS t WHERE %s AND %s AND (%s) RETURNING 1)
			SELECT jsonb_build_object(''rows'', count(*)) FROM gone', rel, condition, free, ringfence.unreferenced_condition(rel, org))
		WHEN 'erase anonymize' THEN format(
			'WITH changed AS (UPDATE %s AS t SET %s WHERE %s AND %s AND %s RETURNING 1)
			SELECT jsonb_build_object(''rows'', count(*)) FROM changed', rel,
			ringfence.rule_assignments(rel, plan.rules), condition, free, ringfence.rule_todo(rel, plan.rules))
		WHEN 'find share' THEN format(
			'WITH shared AS MATERIALIZED (SELECT FROM %s AS t WHERE %s ORDER BY %s FOR KEY SHARE)
			SELECT jsonb_build_object(''rows'', count(*)) FROM shared', rel, condition, ringfence.subject_key(rel))
		WHEN 'find rows' THEN format('SELECT jsonb_build_object(''rows'', count(*)) FROM %s AS t WHERE %s', rel, condition)
		WHEN 'find held' THEN format(
			'SELECT jsonb_build_object(''rows'', count(*)) FROM %s AS t WHERE %s AND %s IS NOT TRUE', rel, condition, free)
	END;
	RETURN NEXT;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.subject_rows_statement(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.subject_rows_statement(jsonb, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.subject_rows_statement(jsonb, uuid) IS
	'the statement of a step of an erasure in one declared table and column: lock, delete, anonymize, party, or to find rows; what a legal hold keeps none of them changes; for subject_statement()';

CREATE FUNCTION ringfence.subject_export_statement(task jsonb, org uuid) RETURNS TABLE (rel regclass, statement text)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.relation, format(
		'SELECT coalesce(jsonb_agg(to_jsonb(r)), ''[]'') FROM (SELECT %s FROM %s AS t WHERE %s ORDER BY %s) AS r',
		ringfence.subject_columns(p.relation), p.relation, p.conditions, ringfence.subject_key(p.relation))
	FROM (
		SELECT s.relation, string_agg('(' || ringfence.subject_condition(
			task ->> 'subject', s.relation, s.column_name, (task ->> 'id')::uuid, org) || ')', ' OR ') AS conditions
		FROM ringfence.subject_plan(task ->> 'subject') AS s
		WHERE s.relation = (task ->> 'relation')::oid
		GROUP BY s.relation
	) AS p
$$;
REVOKE EXECUTE ON FUNCTION ringfence.subject_export_statement(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.subject_export_statement(jsonb, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.subject_export_statement(jsonb, uuid) IS
	'the statement that reads the rows of a declared table that are about a subject; for subject_statement()';

-- Steps that are of no declared table: the log's records, the books that core
-- keeps, and what concerns users, who are in several organizations at once.
CREATE FUNCTION ringfence.subject_core_statement(task jsonb, org uuid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE concat_ws(' ', task ->> 'kind', task ->> 'step')
		WHEN 'erase hooks' THEN
			format('SELECT to_jsonb(ringfence.call_erase_hooks(%L, %L))', task ->> 'subject', task ->> 'id')
		WHEN 'erase forget' THEN
			format('SELECT to_jsonb(ringfence.audit_forget_subject(%L, %L, %L, %L))',
				task ->> 'relation', task ->> 'column', task ->> 'id', task ->> 'org')
		WHEN 'erase forget members' THEN
			format('SELECT to_jsonb(ringfence.forget_party_records(%L, %L, %L))', task ->> 'subject', task ->> 'id', org)
		WHEN 'erase forget accounts' THEN
			format('SELECT to_jsonb(ringfence.forget_account_records(%L, %L, %L))', task ->> 'subject', task ->> 'id', org)
		WHEN 'erase exports' THEN
			format('SELECT to_jsonb(ringfence.erase_exports(%L, %L))', task ->> 'id', org)
		WHEN 'erase withdraw' THEN
			format('SELECT to_jsonb(ringfence.withdraw_all_consents(%L, %L, %L))', task ->> 'subject', task ->> 'id', org)
		WHEN 'erase record' THEN
			format('SELECT to_jsonb(ringfence.record_erasure(%L, %L, %L, %L, %L, %L))', task ->> 'subject', task ->> 'id', org,
				task ->> 'reason', task -> 'counts', task ->> 'erased_at')
		WHEN 'erase lock owned' THEN
			format('SELECT to_jsonb(ringfence.lock_owned_orgs(%L))', task ->> 'id')
		WHEN 'find orphans' THEN
			format('SELECT to_jsonb(ringfence.count_orphans(%L))', task ->> 'id')
		WHEN 'find holds' THEN
			format('SELECT to_jsonb(ringfence.is_held_subject(%L, %L, %L))', task ->> 'subject', task ->> 'id', org)
		WHEN 'find erased' THEN
			format('SELECT to_jsonb(ringfence.was_erased(%L, %L, %L))', task ->> 'subject', task ->> 'id', org)
		WHEN 'find reach' THEN
			format('SELECT to_jsonb(ringfence.is_user_of(%L, %L))', task ->> 'id', task ->> 'org')
		WHEN 'find traces' THEN
			format('SELECT to_jsonb(ringfence.has_traces(%L, %L, %L))', task ->> 'subject', task ->> 'id', org)
		WHEN 'find orgs' THEN
			'SELECT coalesce(jsonb_agg(o.id ORDER BY o.id), ''[]'') FROM ringfence_data.orgs AS o'
		WHEN 'find erasures' THEN
			'SELECT coalesce(jsonb_agg(jsonb_build_object(''org'', e.org_id, ''kind'', e.kind, ''id'', e.subject_id, ''erased_at'', e.erased_at)
				ORDER BY e.org_id, e.kind, e.subject_id), ''[]'') FROM ringfence_data.erasures AS e'
	END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.subject_core_statement(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.subject_core_statement(jsonb, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.subject_core_statement(jsonb, uuid) IS
	'the statement of a step of an erasure that is of no declared table, NULL if there is no such step; for subject_statement()';

CREATE FUNCTION ringfence.subject_statement(task jsonb, org uuid) RETURNS TABLE (rel regclass, statement text)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'ringfence_data.erasures'::regclass, c.statement
	FROM ringfence.subject_core_statement(task, org) AS c (statement)
	WHERE c.statement IS NOT NULL
	UNION ALL
	SELECT e.rel, e.statement
	FROM ringfence.subject_export_statement(task, org) AS e
	WHERE task ->> 'kind' = 'export'
	UNION ALL
	SELECT r.rel, r.statement
	FROM ringfence.subject_rows_statement(task, org) AS r
	WHERE task ->> 'kind' <> 'export' AND r.statement IS NOT NULL
$$;
REVOKE EXECUTE ON FUNCTION ringfence.subject_statement(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.subject_statement(jsonb, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.subject_statement(jsonb, uuid) IS
	'the statement of a task of kind erase, export or find, {"kind", "step", "subject", "id", "relation", "column"}, and the table whose owner runs it; for retention_statement()';

-- What runs inside those statements: as ringfence_owner, past row security, so
-- that each names the organization itself.

CREATE FUNCTION ringfence.forget_party_records(kind text, id uuid, org uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	member text;
	forgotten bigint := 0;
BEGIN
	FOR member IN
		SELECT DISTINCT l.key
		FROM ringfence_data.audit_log AS l
		WHERE l.org_id = org
			AND l.relation_id IN (
				SELECT r.id FROM ringfence_data.audit_relations AS r WHERE r.relation = 'ringfence_data.memberships'::regclass)
			AND lower(forget_party_records.id::text) IN (lower(l.old -> 'party' ->> kind), lower(l.new -> 'party' ->> kind))
			AND NOT EXISTS (
				SELECT FROM ringfence_data.memberships AS m WHERE m.org_id = org AND m.user_id::text = l.key)
		ORDER BY l.key
	LOOP
		forgotten := forgotten + ringfence.audit_forget('ringfence_data.memberships', member);
	END LOOP;
	RETURN forgotten;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.forget_party_records(text, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.forget_party_records(text, uuid, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.forget_party_records(text, uuid, uuid) IS
	'destroys the personal values in the records of memberships that were a party and are gone; returns the number of records; for an erasure';

-- Another kind may have the same id.
CREATE FUNCTION ringfence.forget_account_records(kind text, id uuid, org uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	account text;
	forgotten bigint := 0;
BEGIN
	FOR account IN
		SELECT a.id::text
		FROM ringfence_data.ledger_accounts AS a
		WHERE a.org_id = org AND a.party_kind = forget_account_records.kind AND a.party_id = forget_account_records.id
		UNION
		SELECT l.key
		FROM ringfence_data.audit_log AS l
		WHERE l.org_id = org
			AND l.relation_id IN (
				SELECT r.id FROM ringfence_data.audit_relations AS r WHERE r.relation = 'ringfence_data.ledger_accounts'::regclass)
			AND forget_account_records.kind IN (l.old ->> 'party_kind', l.new ->> 'party_kind')
			AND forget_account_records.id::text IN (l.old ->> 'party_id', l.new ->> 'party_id')
		ORDER BY 1
	LOOP
		forgotten := forgotten + ringfence.audit_forget('ringfence_data.ledger_accounts', account);
	END LOOP;
	RETURN forgotten;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.forget_account_records(text, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.forget_account_records(text, uuid, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.forget_account_records(text, uuid, uuid) IS
	'destroys the personal values in the records of a party''s ledger accounts; returns the number of records; for an erasure';

CREATE FUNCTION ringfence.was_erased(kind text, id uuid, org uuid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM ringfence_data.erasures AS e
		WHERE e.org_id = coalesce(org, '00000000-0000-0000-0000-000000000000')
			AND e.kind = was_erased.kind AND e.subject_id = was_erased.id
	)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.was_erased(text, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.was_erased(text, uuid, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.was_erased(text, uuid, uuid) IS 'whether a subject is on the list of erasures';

CREATE FUNCTION ringfence.is_user_of(usr uuid, org uuid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(bool_or(m.org_id = org), true) FROM ringfence_data.memberships AS m WHERE m.user_id = usr
$$;
REVOKE EXECUTE ON FUNCTION ringfence.is_user_of(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_user_of(uuid, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.is_user_of(uuid, uuid) IS
	'whether a user belongs or is invited to an organization, or to none at all; for ringfence_owner''s functions';

-- The log knows who was there once, and went by retention since.
CREATE FUNCTION ringfence.has_traces(kind text, id uuid, org uuid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ringfence.was_erased(has_traces.kind, has_traces.id, org) OR EXISTS (
		SELECT FROM ringfence_data.audit_log AS l
		WHERE l.org_id = coalesce(org, '00000000-0000-0000-0000-000000000000')
			AND l.relation_id IN (
				SELECT r.id
				FROM ringfence_data.audit_relations AS r
				INNER JOIN ringfence_data.subjects AS s ON s.relation = r.relation
				WHERE s.kind = has_traces.kind AND s.is_root
			)
			AND l.key = has_traces.id::text
	)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.has_traces(text, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.has_traces(text, uuid, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.has_traces(text, uuid, uuid) IS
	'whether a subject without a row was known once: erased before, or in the audit log; for an erasure';

CREATE FUNCTION ringfence.lock_owned_orgs(usr uuid) RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	WITH locked AS MATERIALIZED (
		SELECT FROM ringfence_data.orgs AS o
		WHERE o.id IN (
			SELECT m.org_id FROM ringfence_data.memberships AS m
			WHERE m.user_id = usr AND m.status = 'active' AND 'owner' = ANY (m.roles)
		)
		ORDER BY o.id
		FOR NO KEY UPDATE
	)
	SELECT count(*) FROM locked
$$;
REVOKE EXECUTE ON FUNCTION ringfence.lock_owned_orgs(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.lock_owned_orgs(uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.lock_owned_orgs(uuid) IS
	'locks the organizations that a user owns, as every change of owners does, and returns their number; for an erasure';

CREATE FUNCTION ringfence.count_orphans(usr uuid) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT count(*)
	FROM ringfence_data.memberships AS m
	INNER JOIN ringfence_data.orgs AS o ON o.id = m.org_id AND o.status IN ('active', 'suspended')
	WHERE m.user_id = usr AND m.status = 'active' AND 'owner' = ANY (m.roles)
		AND NOT EXISTS (
			SELECT FROM ringfence_data.memberships AS other
			WHERE other.org_id = m.org_id AND other.user_id <> usr AND other.status = 'active' AND 'owner' = ANY (other.roles)
		)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.count_orphans(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.count_orphans(uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.count_orphans(uuid) IS
	'how many organizations have that user for their only owner; for an erasure';

-- Who is erased once more stays on the list with the later time: a dump from in
-- between is older than that.
CREATE FUNCTION ringfence.record_erasure(kind text, id uuid, org uuid, reason text, counts jsonb, erased_at timestamptz)
RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO ringfence_data.erasures AS e (org_id, kind, subject_id, erased_at, erased_by, reason, counts)
	VALUES (
		coalesce(org, '00000000-0000-0000-0000-000000000000'),
		record_erasure.kind,
		record_erasure.id,
		coalesce(record_erasure.erased_at, clock_timestamp()),
		ringfence.user_id(),
		record_erasure.reason,
		record_erasure.counts
	)
	ON CONFLICT ON CONSTRAINT erasures_pkey DO UPDATE
	SET erased_at = excluded.erased_at, erased_by = excluded.erased_by, reason = excluded.reason, counts = excluded.counts
	WHERE excluded.erased_at > e.erased_at AND excluded.counts <> '{}';
	RETURN ringfence.audit_event('subject.erased', record_erasure.kind || ':' || record_erasure.id,
		jsonb_build_object('rows', counts), reason, coalesce(org, ringfence.org_id()));
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.record_erasure(text, uuid, uuid, text, jsonb, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.record_erasure(text, uuid, uuid, text, jsonb, timestamptz) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.record_erasure(text, uuid, uuid, text, jsonb, timestamptz) IS
	'puts an erasure on the list, and event subject.erased on record, whose id it returns; for an erasure';

-- The steps.

CREATE FUNCTION ringfence.subject_task(task jsonb, step text, org uuid, relation regclass DEFAULT NULL, column_name name DEFAULT NULL)
RETURNS jsonb
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ringfence.retention_execute(
		task || jsonb_build_object('step', step, 'relation', relation::oid::text, 'column', column_name), org)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.subject_task(jsonb, text, uuid, regclass, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.subject_task(jsonb, text, uuid, regclass, name) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.subject_task(jsonb, text, uuid, regclass, name) IS
	'has a step of a task done, of {"kind", "subject", "id"}, and returns its answer; for an erasure or export';

-- Another owner's rows aren't looked into: their foreign keys refuse, all rows of
-- the statement at once, which then are anonymized.
CREATE FUNCTION ringfence.delete_rows(task jsonb, org uuid, relation regclass, column_name name) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (ringfence.subject_task(task, 'delete', org, relation, column_name) -> 'rows')::bigint;
EXCEPTION WHEN foreign_key_violation OR restrict_violation THEN
	RETURN 0;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.delete_rows(jsonb, uuid, regclass, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.delete_rows(jsonb, uuid, regclass, name) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.delete_rows(jsonb, uuid, regclass, name) IS
	'deletes the rows of a table that are about a subject and not referenced; returns their number, 0 where a foreign key refuses it';

-- Rows are locked before they are deleted, by a statement of its own: what
-- references them is looked for afterwards, when nobody can add to it.
CREATE FUNCTION ringfence.erase_rows(task jsonb, org uuid, relation regclass, column_name name, has_rules boolean)
RETURNS bigint[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	present bigint;
	gone bigint;
	deleted bigint := 0;
	changed bigint := 0;
BEGIN
	LOOP
		present := (ringfence.subject_task(task, 'lock', org, relation, column_name) -> 'rows')::bigint;
		EXIT WHEN present = 0;
		gone := ringfence.delete_rows(task, org, relation, column_name);
		deleted := deleted + gone;
		present := present - gone;
		-- Those that were referenced by rows of the same table come next.
		EXIT WHEN present = 0 OR gone = 0;
	END LOOP;
	IF present > 0 AND NOT has_rules THEN
		RAISE EXCEPTION 'rows of table % about the subject cannot be deleted', relation
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'Other rows reference them.',
			HINT = 'Give rules to ringfence.declare_subject(), by which such rows are anonymized.';
	ELSIF present > 0 THEN
		changed := (ringfence.subject_task(task, 'anonymize', org, relation, column_name) -> 'rows')::bigint;
	END IF;
	RETURN ARRAY[deleted, changed];
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.erase_rows(jsonb, uuid, regclass, name, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.erase_rows(jsonb, uuid, regclass, name, boolean) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.erase_rows(jsonb, uuid, regclass, name, boolean) IS
	'deletes the rows of a table that are about a subject, and anonymizes those that are referenced: how many of each; 55000 where there are no rules for these';

CREATE FUNCTION ringfence.erasure_result(
	relation regclass,
	action text,
	rows bigint,
	rules jsonb DEFAULT NULL
) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_build_object('relation', relation::text, 'action', action, 'rows', rows, 'columns', (
		SELECT jsonb_agg(r.key ORDER BY r.key) FROM jsonb_each(rules) AS r WHERE r.value <> '"keep"'))
$$;
REVOKE EXECUTE ON FUNCTION ringfence.erasure_result(regclass, text, bigint, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.erasure_result(regclass, text, bigint, jsonb) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.erasure_result(regclass, text, bigint, jsonb) IS
	'a line of what an erasure did, as JSON';

CREATE FUNCTION ringfence.erase_table(task jsonb, org uuid, relation regclass, column_name name, action text, rules jsonb)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	done bigint[];
BEGIN
	IF relation = 'ringfence_data.memberships'::regclass AND column_name = 'party' THEN
		RETURN ringfence.erasure_result(relation, action,
			(ringfence.subject_task(task, 'party', org, relation, column_name) -> 'rows')::bigint);
	ELSIF action = 'delete' THEN
		-- That a member has left, every organization reads in its own log.
		done := ringfence.erase_rows(
			task || jsonb_build_object('audit_rows', relation = 'ringfence_data.memberships'::regclass),
			org, relation, column_name, rules IS NOT NULL);
		RETURN jsonb_build_array(ringfence.erasure_result(relation, 'delete', done[1]))
			|| CASE WHEN done[2] > 0 THEN ringfence.erasure_result(relation, 'anonymize', done[2], rules) ELSE '[]' END;
	ELSIF action = 'anonymize' THEN
		RETURN ringfence.erasure_result(relation, action,
			(ringfence.subject_task(task, 'anonymize', org, relation, column_name) -> 'rows')::bigint, rules);
	END IF;
	RETURN ringfence.erasure_result(relation, action,
		(ringfence.subject_task(task || '{"kind": "find"}', 'rows', org, relation, column_name) -> 'rows')::bigint);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.erase_table(jsonb, uuid, regclass, name, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.erase_table(jsonb, uuid, regclass, name, text, jsonb) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.erase_table(jsonb, uuid, regclass, name, text, jsonb) IS
	'does to the rows of one table that are about a subject what was declared; says what it did';

-- A user's rows are on record in the log of each organization that they are of.
CREATE FUNCTION ringfence.forget_subject(task jsonb, org uuid, relation regclass, column_name name) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place text;
	forgotten bigint := 0;
BEGIN
	IF relation = 'ringfence_data.memberships'::regclass AND column_name = 'party' THEN
		-- Once they have ended, by themselves.
		RETURN 0;
	ELSIF relation = 'ringfence_data.ledger_accounts'::regclass THEN
		RETURN ringfence.subject_task(task, 'forget accounts', org)::bigint;
	END IF;
	IF NOT ringfence.has_org_column(relation) THEN
		RETURN ringfence.subject_task(task, 'forget', org, relation, column_name)::bigint;
	ELSIF org IS NOT NULL THEN
		RETURN ringfence.subject_task(task || jsonb_build_object('org', org), 'forget', org, relation, column_name)::bigint;
	END IF;
	FOR place IN
		SELECT jsonb_array_elements_text(ringfence.subject_task(task || '{"kind": "find"}', 'orgs', NULL))
	LOOP
		forgotten := forgotten
			+ ringfence.subject_task(task || jsonb_build_object('org', place), 'forget', NULL, relation, column_name)::bigint;
	END LOOP;
	RETURN forgotten;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.forget_subject(jsonb, uuid, regclass, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.forget_subject(jsonb, uuid, regclass, name) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.forget_subject(jsonb, uuid, regclass, name) IS
	'destroys the personal values in the records of a table''s rows that are or were about a subject; returns the number of records';

CREATE FUNCTION ringfence.lock_subject(task jsonb, org uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	root record;
BEGIN
	IF task ->> 'subject' = 'user' THEN
		PERFORM ringfence.subject_task(task, 'lock owned', NULL);
	END IF;
	SELECT s.relation, s.column_name INTO STRICT root
	FROM ringfence_data.subjects AS s
	WHERE s.kind = task ->> 'subject' AND s.is_root;
	RETURN (ringfence.subject_task(task, 'lock', org, root.relation, root.column_name) -> 'rows')::bigint > 0;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.lock_subject(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.lock_subject(jsonb, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.lock_subject(jsonb, uuid) IS
	'locks a subject''s own row until the transaction ends; false if there is none; for an erasure';

-- Holds on a person, or on a whole organization; of a user, those on that user of
-- any organization that the user is of. Holds on tables and rows stand in the way
-- if one of the person's rows is under them.
CREATE FUNCTION ringfence.is_held_subject(kind text, id uuid, org uuid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM ringfence.held_subject(kind, id, org))
		OR (kind = 'user' AND EXISTS (
			SELECT FROM ringfence.active_holds('ringfence_data.memberships', NULL) AS h
			INNER JOIN ringfence_data.memberships AS m
				ON m.org_id = h.org_id AND m.user_id = is_held_subject.id AND m.status = 'active'
			WHERE h.subject_kind = 'user' AND h.subject_id = is_held_subject.id
				AND (org IS NULL OR h.org_id = org)
		))
$$;
REVOKE EXECUTE ON FUNCTION ringfence.is_held_subject(text, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_held_subject(text, uuid, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.is_held_subject(text, uuid, uuid) IS
	'whether a legal hold is on a subject or its organization; on a user those of organizations that the user is a member of count, or of the one that is given; for an erasure';

CREATE FUNCTION ringfence.is_held(task jsonb, org uuid, purpose text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	find jsonb := task || '{"kind": "find"}';
	plan record;
BEGIN
	IF ringfence.subject_task(find, 'holds', org)::boolean THEN
		RETURN true;
	END IF;
	FOR plan IN
		SELECT p.relation, p.column_name
		FROM ringfence.subject_plan(task ->> 'subject') AS p
		WHERE p.action <> 'keep' AND (is_held.purpose IS NULL OR p.purpose = is_held.purpose)
		ORDER BY p.place
	LOOP
		IF ringfence.subject_task(find, 'held', org, plan.relation, plan.column_name) -> 'rows' > '0' THEN
			RETURN true;
		END IF;
	END LOOP;
	RETURN false;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.is_held(jsonb, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_held(jsonb, uuid, text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.is_held(jsonb, uuid, text) IS
	'whether a legal hold keeps a subject, or a row about it, from being erased; for an erasure';

-- That there is a hold is no secret. Why is told to who may read it anyway: of a
-- hold of their own organization, and on this very person. Others may be on
-- somebody else, and another organization's.
CREATE FUNCTION ringfence.refuse_held_subject(kind text, id uuid) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	reasons text;
BEGIN
	IF ringfence.has_role('owner', 'admin') OR ringfence.actor() IN ('operator', 'job') THEN
		reasons := (
			SELECT string_agg(DISTINCT h.reason, '; ')
			FROM ringfence.active_holds(NULL, ringfence.org_id()) AS h
			WHERE h.org_id = ringfence.org_id() AND h.subject_kind = refuse_held_subject.kind
				AND h.subject_id = refuse_held_subject.id
		);
	END IF;
	RAISE EXCEPTION 'a legal hold keeps this subject'
		USING ERRCODE = 'PT409', DETAIL = coalesce('The reason: ' || reasons || '.', 'It can be erased once the hold is released.');
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.refuse_held_subject(text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.refuse_held_subject(text, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.refuse_held_subject(text, uuid) IS
	'PT409; owners, admins, operators and jobs are told the reasons of holds of the organization of the context on that subject; for an erasure';

-- All tables, or those whose rows rest on a consent. What was done is told to
-- the caller as JSON: [{"relation", "action", "columns", "rows"}, ...].
CREATE FUNCTION ringfence.erase_tables(task jsonb, org uuid, purpose text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	plan record;
	-- Copies first: a user's are those of organizations that they are still of.
	done jsonb := jsonb_build_array(ringfence.erasure_result(
		'ringfence_data.export_parts', 'delete', ringfence.subject_task(task, 'exports', org)::bigint));
	forgotten bigint := 0;
BEGIN
	-- Who is changing such a row has its record in the log before that is gone through.
	FOR plan IN
		SELECT p.relation, p.column_name
		FROM ringfence.subject_plan(task ->> 'subject') AS p
		WHERE (erase_tables.purpose IS NULL OR p.purpose = erase_tables.purpose)
			AND p.relation NOT IN ('ringfence_data.ledger_accounts', 'ringfence_data.ledger_transfers')
		ORDER BY p.place
	LOOP
		PERFORM ringfence.subject_task(task, 'lock', org, plan.relation, plan.column_name);
	END LOOP;
	FOR plan IN
		SELECT p.relation, p.column_name, p.action, p.rules
		FROM ringfence.subject_plan(task ->> 'subject') AS p
		WHERE erase_tables.purpose IS NULL OR p.purpose = erase_tables.purpose
		ORDER BY p.place
	LOOP
		-- The log finds what is about the person by rows that still say so, or by
		-- the records of their end.
		IF plan.relation = 'ringfence_data.memberships'::regclass THEN
			done := done || ringfence.erase_table(task, org, plan.relation, plan.column_name, plan.action, plan.rules);
			forgotten := forgotten + ringfence.forget_subject(task, org, plan.relation, plan.column_name);
		ELSE
			forgotten := forgotten + ringfence.forget_subject(task, org, plan.relation, plan.column_name);
			done := done || ringfence.erase_table(task, org, plan.relation, plan.column_name, plan.action, plan.rules);
		END IF;
	END LOOP;
	IF purpose IS NULL AND task ->> 'subject' <> 'user' THEN
		forgotten := forgotten + ringfence.subject_task(task, 'forget members', org)::bigint;
	END IF;
	RETURN done || ringfence.erasure_result('ringfence_data.audit_log', 'forget', forgotten);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.erase_tables(jsonb, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.erase_tables(jsonb, uuid, text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.erase_tables(jsonb, uuid, text) IS
	'erases a subject from the parts of exports, which all go, from the tables that were declared, or from those that rest on a purpose, and from their records in the audit log; says what it did';

CREATE FUNCTION ringfence.changed_rows(done jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT coalesce(jsonb_object_agg(c.relation, c.rows), '{}')
	FROM (
		SELECT d.value ->> 'relation' AS relation, sum((d.value ->> 'rows')::bigint) AS rows
		FROM jsonb_array_elements(done) AS d
		WHERE d.value ->> 'action' <> 'keep'
		GROUP BY d.value ->> 'relation'
	) AS c
	WHERE c.rows > 0;
END;
REVOKE EXECUTE ON FUNCTION ringfence.changed_rows(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.changed_rows(jsonb) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.changed_rows(jsonb) IS
	'how many rows of each table an erasure changed, by what it said: {"schema.table": rows}';

-- The organization's own context is better for hooks than a task's: row security
-- and triggers hold there. After a restore there is none.
CREATE FUNCTION ringfence.perform_erasure(task jsonb, org uuid, reason text, erased_at timestamptz DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	done jsonb;
BEGIN
	IF org IS NULL OR org = ringfence.org_id() THEN
		PERFORM ringfence.call_erase_hooks(task ->> 'subject', (task ->> 'id')::uuid);
	ELSE
		PERFORM ringfence.subject_task(task || '{"audit_rows": true}', 'hooks', org);
	END IF;
	PERFORM ringfence.subject_task(task, 'withdraw', org);
	done := ringfence.erase_tables(task, org);
	PERFORM ringfence.subject_task(task || jsonb_build_object(
		'reason', reason, 'counts', ringfence.changed_rows(done), 'erased_at', erased_at), 'record', org);
	RETURN done;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.perform_erasure(jsonb, uuid, text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.perform_erasure(jsonb, uuid, text, timestamptz) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.perform_erasure(jsonb, uuid, text, timestamptz) IS
	'erases a subject whose row is locked: hooks, consents, tables, audit log, list; says what it did; for erase_subject() and reapply_erasures()';

CREATE FUNCTION ringfence.erase_locked(task jsonb, org uuid, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT ringfence.lock_subject(task, org)
		AND NOT ringfence.subject_task(task || '{"kind": "find"}', 'traces', org)::boolean THEN
		RAISE EXCEPTION 'subject not found' USING ERRCODE = 'PT404';
	END IF;
	IF ringfence.is_held(task, org) THEN
		PERFORM ringfence.refuse_held_subject(task ->> 'subject', (task ->> 'id')::uuid);
	END IF;
	IF task ->> 'subject' = 'user' AND ringfence.subject_task(task || '{"kind": "find"}', 'orphans', NULL)::bigint > 0 THEN
		RAISE EXCEPTION 'an organization keeps at least one owner'
			USING ERRCODE = 'PT409', HINT = 'Make another member its owner, or close it, first.';
	END IF;
	RETURN ringfence.perform_erasure(task, org, reason);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.erase_locked(jsonb, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.erase_locked(jsonb, uuid, text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.erase_locked(jsonb, uuid, text) IS
	'locks a subject and erases it, unless it is unknown (PT404), held or the only owner of an organization (PT409); for erase_subject()';

-- A dry run is the erasure itself, undone: nothing else would know which rows are
-- still referenced once others are gone.
CREATE FUNCTION ringfence.try_erasure(task jsonb, org uuid, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	done jsonb;
BEGIN
	BEGIN
		done := ringfence.erase_locked(task, org, reason);
		RAISE EXCEPTION USING ERRCODE = 'RFDRY', MESSAGE = 'dry run';
	EXCEPTION WHEN SQLSTATE 'RFDRY' THEN
		RETURN done;
	END;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.try_erasure(jsonb, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.try_erasure(jsonb, uuid, text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.try_erasure(jsonb, uuid, text) IS
	'what erase_locked() would do, which is undone; for a dry run';

-- Who may.

-- The answer is the same whether or not there is such a subject, here or in
-- another organization. Who entered one reaches that one's users.
CREATE FUNCTION ringfence.require_subject_right(kind text, id uuid, org uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	entered boolean := ringfence.actor() IN ('operator', 'job') AND ringfence.org_id() IS NOT NULL;
BEGIN
	IF (CASE
		WHEN kind = 'user' THEN ringfence.user_id() = id OR (entered AND ringfence.subject_task(
			jsonb_build_object('kind', 'find', 'subject', kind, 'id', id, 'org', ringfence.org_id()), 'reach', NULL)::boolean)
		ELSE org = ringfence.org_id()
			AND (entered OR ringfence.has_role('owner', 'admin') OR ringfence.party_id(kind) = id)
	END) IS NOT TRUE THEN
		RAISE EXCEPTION 'permission denied for this subject'
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'It is for owners and admins of the organization, or for oneself; a user''s account for the user alone, and for operators in an organization that the user is of.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.require_subject_right(text, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.require_subject_right(text, uuid, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.require_subject_right(text, uuid, uuid) IS
	'42501 unless the caller is an owner or admin of the organization, has entered it as operator or job, or is that subject; a user is for that user, and for operators and jobs that have entered an organization of theirs; for ringfence_owner''s functions';

CREATE FUNCTION ringfence.check_subject(kind text, id uuid, org uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.check_subject_kind(kind);
	IF id IS NULL THEN
		RAISE EXCEPTION 'id of the subject must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM ringfence.require_subject_right(kind, id, org);
	RETURN jsonb_build_object('subject', kind, 'id', id);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_subject(text, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_subject(text, uuid, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_subject(text, uuid, uuid) IS
	'refuses what is no subject (22004, 22023) or not the caller''s to ask for (42501), and returns the beginning of a task about it';

CREATE FUNCTION ringfence.check_erasure_reason(reason text) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coalesce(reason, '') !~ '[[:alnum:]]' OR length(reason) > 500 THEN
		RAISE EXCEPTION 'a reason must be given'
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It has 1 to 500 characters, a letter or digit among them, and stays on record.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_erasure_reason(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_erasure_reason(text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_erasure_reason(text) IS '22023 for a reason that is none';

CREATE FUNCTION ringfence.erase_subject(
	kind text,
	id uuid,
	reason text,
	dry_run boolean DEFAULT true,
	org uuid DEFAULT ringfence.org_id()
) RETURNS TABLE (relation text, action text, columns text[], rows bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET ringfence.reason = ''
AS $$
DECLARE
	task jsonb := ringfence.check_subject(kind, id, org) || '{"kind": "erase"}';
	home uuid := CASE WHEN kind <> 'user' THEN org END;
	done jsonb;
BEGIN
	PERFORM ringfence.check_erasure_reason(reason);
	-- Until the function returns, which the clause above sees to.
	PERFORM set_config('ringfence.reason', reason, true);
	IF dry_run IS FALSE THEN
		done := ringfence.erase_locked(task, home, reason);
	ELSE
		done := ringfence.try_erasure(task, home, reason);
	END IF;
	RETURN QUERY
	SELECT d.relation, d.action, d.columns, d.rows
	FROM jsonb_to_recordset(done) AS d (relation text, action text, columns text[], rows bigint);
END
$$;
ALTER FUNCTION ringfence.erase_subject(text, uuid, text, boolean, uuid) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.erase_subject(text, uuid, text, boolean, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.erase_subject(text, uuid, text, boolean, uuid) TO ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.erase_subject(text, uuid, text, boolean, uuid) IS
	'erases a person as declare_subject() and on_erase() say: rows deleted or anonymized, accounts of the ledger renamed, consents withdrawn and memberships ended, personal values destroyed in the audit log, all in this transaction; says what it did, or unless dry_run is false would do, by table: delete, anonymize, keep, forget (records of the audit log); repeatable; event subject.erased; for owners and admins, for that person, for operators and jobs that entered the organization; 22004, 22023, 42501, PT404, PT409 under a legal hold or where an organization would have no owner left, 25000, 25006, 55000';

-- Access.

CREATE FUNCTION ringfence.export_rows(task jsonb, org uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	source regclass;
	tables jsonb := '{}'::jsonb;
BEGIN
	FOR source IN
		SELECT p.relation FROM ringfence.subject_plan(task ->> 'subject') AS p GROUP BY p.relation ORDER BY p.relation::text
	LOOP
		tables := tables || jsonb_build_object(source::text, ringfence.subject_task(task, 'rows', org, source));
	END LOOP;
	RETURN tables;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.export_rows(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_rows(jsonb, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.export_rows(jsonb, uuid) IS
	'the rows about a subject, without secrets, by table: {"schema.table": [row, ...], ...}; for export_subject()';

CREATE FUNCTION ringfence.export_subject(kind text, id uuid, org uuid DEFAULT ringfence.org_id()) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	task jsonb := ringfence.check_subject(kind, id, org) || '{"kind": "export"}';
	-- Users read what every organization has of them, operators what the one has.
	home uuid := CASE WHEN kind <> 'user' THEN org WHEN ringfence.user_id() IS DISTINCT FROM id THEN ringfence.org_id() END;
	tables jsonb;
BEGIN
	IF NOT ringfence.subject_present(task, home) THEN
		RAISE EXCEPTION 'subject not found' USING ERRCODE = 'PT404';
	END IF;
	tables := ringfence.export_rows(task, home);
	PERFORM ringfence.audit_event('subject.exported', kind || ':' || id,
		jsonb_build_object('rows', (SELECT jsonb_object_agg(t.key, jsonb_array_length(t.value)) FROM jsonb_each(tables) AS t)));
	RETURN jsonb_build_object(
		'subject', jsonb_build_object('kind', kind, 'id', id),
		'exported_at', clock_timestamp(),
		'tables', tables - 'ringfence_data.consents',
		'consents', tables -> 'ringfence_data.consents');
END
$$;
ALTER FUNCTION ringfence.export_subject(text, uuid, uuid) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.export_subject(text, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_subject(text, uuid, uuid) TO ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.export_subject(text, uuid, uuid) IS
	'everything about a person that was declared, as one JSON document: {"subject": {"kind", "id"}, "exported_at", "tables": {"schema.table": [row, ...]}, "consents": [...]}, without secrets; of a user what all organizations have, to others than that user what the one has; event subject.exported; for owners and admins, for that person, for operators and jobs that entered the organization; 22004, 22023, 42501, PT404, 25000, 25006';

CREATE FUNCTION ringfence.subject_present(task jsonb, org uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	root record;
BEGIN
	SELECT s.relation, s.column_name INTO STRICT root
	FROM ringfence_data.subjects AS s
	WHERE s.kind = task ->> 'subject' AND s.is_root;
	RETURN (ringfence.subject_task(task || '{"kind": "find"}', 'rows', org, root.relation, root.column_name) -> 'rows')::bigint > 0;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.subject_present(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.subject_present(jsonb, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.subject_present(jsonb, uuid) IS
	'whether a subject has a row in the root table of its kind';

CREATE FUNCTION ringfence.share_subject(task jsonb, org uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	root record;
BEGIN
	SELECT s.relation, s.column_name INTO STRICT root
	FROM ringfence_data.subjects AS s
	WHERE s.kind = task ->> 'subject' AND s.is_root;
	RETURN (ringfence.subject_task(task || '{"kind": "find"}', 'share', org, root.relation, root.column_name) -> 'rows')::bigint > 0;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.share_subject(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.share_subject(jsonb, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.share_subject(jsonb, uuid) IS
	'locks a subject''s own row against an erasure until the transaction ends, as a foreign key does; false if there is none';

-- After a restore.

CREATE FUNCTION ringfence.erasure_list() RETURNS jsonb
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ringfence.subject_task('{"kind": "find"}', 'erasures', NULL)
$$;
ALTER FUNCTION ringfence.erasure_list() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.erasure_list() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.erasure_list() TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.erasure_list() IS
	'who was erased, in all organizations: [{"org", "kind", "id", "erased_at"}, ...], nothing personal; to be kept outside the database, for reapply_erasures() after a restore of an older dump';

CREATE FUNCTION ringfence.erasures_to_reapply(list jsonb) RETURNS TABLE (org_id uuid, kind text, subject_id uuid, erased_at timestamptz)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	known jsonb := ringfence.erasure_list();
BEGIN
	IF jsonb_typeof(list) <> 'array' OR EXISTS (
		SELECT FROM jsonb_array_elements(list) AS e
		WHERE (jsonb_typeof(e.value) = 'object' AND e.value ?& '{org,kind,id,erased_at}') IS NOT TRUE
	) THEN
		RAISE EXCEPTION 'invalid list of erasures'
			USING ERRCODE = 'invalid_parameter_value', HINT = 'It is what ringfence.erasure_list() returned.';
	END IF;
	-- A dump that knows of an erasure has it done.
	RETURN QUERY
	SELECT e.org, e.kind, e.id, e.erased_at
	FROM jsonb_to_recordset(coalesce(list, known)) AS e (org uuid, kind text, id uuid, erased_at timestamptz)
	WHERE list IS NULL OR NOT EXISTS (
		SELECT FROM jsonb_to_recordset(known) AS k (org uuid, kind text, id uuid, erased_at timestamptz)
		WHERE (k.org, k.kind, k.id) = (e.org, e.kind, e.id) AND k.erased_at >= e.erased_at
	)
	ORDER BY e.org, e.kind, e.id;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.erasures_to_reapply(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.erasures_to_reapply(jsonb) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.erasures_to_reapply(jsonb) IS
	'the erasures of a list that this database doesn''t know of, or for NULL all that it knows of; 22023';

CREATE FUNCTION ringfence.reapply_erasures(list jsonb DEFAULT NULL)
RETURNS TABLE (org_id uuid, kind text, subject_id uuid, rows bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET ringfence.reason = 'erased before a restore'
AS $$
DECLARE
	erased_at timestamptz;
	home uuid;
	task jsonb;
BEGIN
	FOR org_id, kind, subject_id, erased_at IN
		SELECT e.org_id, e.kind, e.subject_id, e.erased_at FROM ringfence.erasures_to_reapply(list) AS e
	LOOP
		PERFORM ringfence.check_subject_kind(kind);
		home := nullif(org_id, '00000000-0000-0000-0000-000000000000');
		task := jsonb_build_object('kind', 'erase', 'subject', kind, 'id', subject_id);
		rows := NULL;
		PERFORM ringfence.lock_subject(task, home);
		IF ringfence.is_held(task, home) THEN
			RAISE WARNING 'subject %:% is kept by a legal hold', kind, subject_id
				USING HINT = 'Erase it once the hold is released.';
		ELSE
			rows := (
				SELECT coalesce(sum(c.value::bigint), 0)
				FROM jsonb_each_text(ringfence.changed_rows(
					ringfence.perform_erasure(task, home, current_setting('ringfence.reason'), erased_at))) AS c
			);
		END IF;
		RETURN NEXT;
	END LOOP;
END
$$;
ALTER FUNCTION ringfence.reapply_erasures(jsonb) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.reapply_erasures(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.reapply_erasures(jsonb) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.reapply_erasures(jsonb) IS
	'after a restore of a dump: erases again whom a list of erasure_list() names and the database doesn''t know to be erased, or for NULL all that it knows; says how many rows were changed for each; NULL and a warning for who is under a legal hold; 22023, 25000, 42501 in the context of an organization';

-- For verify().

CREATE FUNCTION ringfence.verify_subjects()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('ringfence_data.subjects') IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY
	SELECT 'error', 'erase_hook_missing', h.function,
		format('an erasure of a "%s" calls this function, which is not there, or not one that it may call: it fails', h.kind),
		format('DELETE FROM ringfence_data.subject_hooks AS h WHERE (h.kind, h.function) = (%L, %L);', h.kind, h.function)
	FROM ringfence_data.subject_hooks AS h
	WHERE ringfence.is_erase_hook(to_regprocedure(h.function)) IS NOT TRUE
	UNION ALL
	SELECT DISTINCT 'error', 'subject_root_missing', s.kind::text,
		'tables are declared to be about subjects of this kind, and none of them is the root: nobody can be erased',
		format('SELECT ringfence.declare_subject(%L, %L, %L, %L, %L, is_root => true); -- if this is it', s.kind, s.relation, s.column_name, s.action, s.rules)
	FROM ringfence_data.subjects AS s
	WHERE NOT EXISTS (SELECT FROM ringfence_data.subjects AS r WHERE r.kind = s.kind AND r.is_root)
		AND s.column_name = (SELECT min(m.column_name::text) FROM ringfence_data.subjects AS m WHERE m.kind = s.kind AND m.relation = s.relation)
	UNION ALL
	SELECT DISTINCT 'warning', 'personal_column_kept', format('%s.%I', s.relation, l.column_name),
		format('an erasure anonymizes the row of a "%s" and leaves this column, which is labelled personal, as it is', s.kind),
		format('SELECT ringfence.declare_subject(%L, %L, %L, %L, %L, %L, %L); -- or another rule than "null", or "keep"', s.kind, s.relation, s.column_name,
			s.action, s.rules || jsonb_build_object(l.column_name, 'null'), s.purpose, s.is_root)
	FROM ringfence_data.subjects AS s
	INNER JOIN ringfence_data.columns AS l ON l.relation = s.relation AND l.label = 'personal'
	WHERE s.action = 'anonymize' AND NOT s.rules ? l.column_name::text
	UNION ALL
	SELECT DISTINCT 'warning', 'personal_label_missing', format('%s.%I', s.relation, r.key),
		format('an erasure of a "%s" clears this column, and what it was stays in the audit log: it is not labelled personal', s.kind),
		format('SELECT ringfence.label(%L, %L, ''personal'');', s.relation, r.key)
	FROM ringfence_data.subjects AS s
	CROSS JOIN LATERAL jsonb_each(s.rules) AS r
	WHERE r.value <> '"keep"' AND NOT EXISTS (
		SELECT FROM ringfence_data.columns AS l
		WHERE l.column_name = r.key AND l.label IN ('personal', 'secret')
			AND s.relation IN (SELECT w.child FROM ringfence.with_children(l.relation) AS w)
	) AND r.key <> ALL (ringfence.audit_secret_columns(s.relation)::text[]);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.verify_subjects() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_subjects() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_subjects() IS
	'checks of verify(): can who is declared a subject be erased, and is then nothing personal left';
