-- The statements of policies, made of what was registered and of nothing else. The
-- table is t.

-- Tables go by their oids: a name is looked up with the right to use its schema,
-- which jobs don't have.
CREATE FUNCTION ringfence.policy_document(rel regclass, step text) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT to_jsonb(p) || jsonb_build_object('relation', p.relation::oid)
	FROM ringfence_data.retention_policies AS p
	WHERE p.relation = rel AND p.step = policy_document.step
$$;
REVOKE EXECUTE ON FUNCTION ringfence.policy_document(regclass, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.policy_document(regclass, text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.policy_document(regclass, text) IS
	'a step of a table''s policy as a JSON object, the table by its oid; NULL if there is none';

-- What has come due is what a column says, earlier than a moment.
CREATE FUNCTION ringfence.moment_literal(policy jsonb, moment timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $$
	SELECT format('%L::%s', CASE
		WHEN c.type = 'date' THEN moment::date::text
		WHEN c.type LIKE '%without%' THEN moment::timestamp::text
		ELSE moment::text
	END, c.type)
	FROM (
		SELECT ringfence.column_type((policy ->> 'relation')::oid::regclass, policy ->> 'column_name') AS type
	) AS c
$$;
REVOKE EXECUTE ON FUNCTION ringfence.moment_literal(jsonb, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.moment_literal(jsonb, timestamptz) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.moment_literal(jsonb, timestamptz) IS
	'a moment as a literal of the type of the column that a policy counts from, in UTC';

CREATE FUNCTION ringfence.due_condition(policy jsonb, moment text, org uuid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT concat_ws(' AND ',
		CASE WHEN org IS NOT NULL AND ringfence.has_org_column(p.rel) THEN format('t.org_id = %L', org) END,
		format('t.%I < %s', policy ->> 'column_name', moment),
		nullif(ringfence.filter_condition(p.rel, nullif(policy -> 'filter', 'null')), 'true'),
		ringfence.rule_todo(p.rel, nullif(policy -> 'rules', 'null')))
	FROM (SELECT (policy ->> 'relation')::oid::regclass AS rel) AS p
$$;
REVOKE EXECUTE ON FUNCTION ringfence.due_condition(jsonb, text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.due_condition(jsonb, text, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.due_condition(jsonb, text, uuid) IS
	'which rows of a table, t, a policy''s step has yet to do: of that organization, older than an expression says, under its filter, not yet as its rules want them';

-- What a batch begins with: behind a row that was passed over one by one, behind a
-- value whose rows are all done, or with a value that was reached.
CREATE FUNCTION ringfence.batch_begin(policy jsonb, task jsonb) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN NOT task ? 'due' THEN ''
		WHEN task ? 'place' AND NOT task ? 'past' THEN format(' AND (t.%I, t.ctid) > (%L::%s, %L::tid)',
			policy ->> 'column_name', task ->> 'due', c.type, task ->> 'place')
		ELSE format(' AND t.%I %s %L::%s', policy ->> 'column_name', CASE WHEN task ? 'past' THEN '>' ELSE '>=' END,
			task ->> 'due', c.type)
	END
	FROM (
		SELECT ringfence.column_type((policy ->> 'relation')::oid::regclass, policy ->> 'column_name') AS type
	) AS c
$$;
REVOKE EXECUTE ON FUNCTION ringfence.batch_begin(jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.batch_begin(jsonb, jsonb) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.batch_begin(jsonb, jsonb) IS
	'the condition, behind others, under which a row comes after what a run has done of a policy''s step; for batch_statement()';

-- One batch: rows in the order of the index, up to the value that is so many rows
-- further on. Those that nothing keeps are removed or changed as the index has them.
-- A row that somebody has locked or changed, now or once, has an xmax: of these the
-- ones that are free are locked first, and the others passed over; without it a batch
-- would wait for them, and to lock every row costs as much as to delete it.
--
-- More rows of one value than a batch has ("tie": those of an import, or of a day) are
-- taken as they come. And where rows fail, and one is looked for, they go one behind
-- the other, by value and place.
CREATE FUNCTION ringfence.batch_statement(policy jsonb, task jsonb, cutoff timestamptz, org uuid) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel CONSTANT regclass := (policy ->> 'relation')::oid;
	batch CONSTANT integer := greatest((task ->> 'batch')::integer, 1);
	is_delete CONSTANT boolean := policy ->> 'action' = 'delete';
	one_by_one CONSTANT boolean := batch < 100;
	place CONSTANT text := format(CASE WHEN one_by_one THEN '(t.%I, t.ctid)' ELSE 't.%I' END, policy ->> 'column_name');
	due CONSTANT text := ringfence.due_condition(policy, ringfence.moment_literal(policy, cutoff), org) || ringfence.batch_begin(policy, task);
	kept CONSTANT text := CASE
		WHEN task ? 'skip' THEN 'false'
		WHEN is_delete THEN format('%s AND %s', ringfence.hold_condition(rel, org), ringfence.unreferenced_condition(rel, org))
		ELSE ringfence.hold_condition(rel, org)
	END;
	change CONSTANT text := CASE WHEN is_delete THEN format('DELETE FROM %s AS t', rel)
		ELSE format('UPDATE %s AS t SET %s', rel, ringfence.rule_assignments(rel, policy -> 'rules')) END;
	by_place CONSTANT text := CASE WHEN is_delete THEN ' USING' ELSE ' FROM' END
		|| ' locked AS k WHERE t.ctid = k.place AND t.tableoid = k.rel AND ';
	-- The row of that value up to which all were done or passed over one by one.
	passed CONSTANT jsonb := CASE WHEN task ? 'place' THEN jsonb_build_object('place', task -> 'place') ELSE '{}'::jsonb END;
	free text;
BEGIN
	IF task ? 'lock' THEN
		RETURN format('SELECT jsonb_build_object(''locked'', (SELECT count(*) FROM (
			SELECT FROM %s AS t WHERE %s ORDER BY t.%I LIMIT %s FOR UPDATE SKIP LOCKED) AS l))',
			rel, due, policy ->> 'column_name', batch + 1);
	ELSIF task ? 'tie' THEN
		free := format('%s AND t.%I = %L::%s AND %s', due, policy ->> 'column_name', task ->> 'due',
			ringfence.column_type(rel, policy ->> 'column_name'), kept);
		RETURN format('WITH locked AS MATERIALIZED (
			SELECT t.ctid AS place, t.tableoid AS rel FROM %1$s AS t WHERE %2$s LIMIT %3$s FOR UPDATE SKIP LOCKED
		), freed AS (
			%4$s%5$s%2$s RETURNING 1
		)
		SELECT jsonb_build_object(''done'', (SELECT count(*) FROM freed), ''due'', %6$L,
			CASE WHEN (SELECT count(*) FROM locked) < %3$s THEN ''past'' ELSE ''tie'' END, true)
			|| CASE WHEN (SELECT count(*) FROM locked) < %3$s THEN ''{}'' ELSE %7$L::jsonb END',
			rel, free, batch, change, by_place, task ->> 'due', passed);
	END IF;
	free := format('%s AND %s AND %s', due, CASE
		WHEN one_by_one THEN format('%s <= (coalesce((SELECT l.due FROM last AS l), ''infinity''),
			coalesce((SELECT l.place FROM last AS l), ''(4294967295,65535)''))', place)
		ELSE format('%s < coalesce((SELECT l.due FROM last AS l), ''infinity'')', place)
	END, kept);
	RETURN format('WITH last AS MATERIALIZED (
		SELECT t.%1$I AS due, t.ctid AS place FROM %2$s AS t WHERE %3$s ORDER BY %4$s OFFSET %5$s LIMIT 1
	), locked AS MATERIALIZED (
		SELECT t.ctid AS place, t.tableoid AS rel FROM %2$s AS t WHERE %6$s AND t.xmax <> ''0'' FOR UPDATE SKIP LOCKED
	), freed AS (
		%7$s%8$s%6$s RETURNING 1
	), quiet AS (
		%7$s WHERE %6$s AND t.xmax = ''0'' RETURNING 1
	)
	SELECT jsonb_build_object(''done'', (SELECT count(*) FROM freed) + (SELECT count(*) FROM quiet)) || coalesce((
		SELECT CASE
			WHEN %9$L THEN jsonb_build_object(''due'', l.due::text, ''place'', l.place::text)
			WHEN l.due > (SELECT t.%1$I FROM %2$s AS t WHERE %3$s ORDER BY t.%1$I LIMIT 1) THEN jsonb_build_object(''due'', l.due::text)
			ELSE jsonb_build_object(''due'', l.due::text, ''tie'', true) || %10$L
		END
		FROM last AS l), ''{}'')',
		policy ->> 'column_name', rel, due, CASE WHEN one_by_one THEN '1, 2' ELSE '1' END, batch - 1, free,
		change, by_place, one_by_one, passed);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.batch_statement(jsonb, jsonb, timestamptz, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.batch_statement(jsonb, jsonb, timestamptz, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.batch_statement(jsonb, jsonb, timestamptz, uuid) IS
	'the statement that removes or changes up to "batch" rows that have come due, from where the task says that the last batch ended, or with "skip" just passes over them; it answers {"done"}, and if there may be more, where to go on: {"due"}, with "place", "past" or "tie"';

-- Organizations that have anything due, by their own periods, which are few: from
-- one to the next by the index.
CREATE FUNCTION ringfence.due_statement(policy jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel CONSTANT regclass := (policy ->> 'relation')::oid;
	moment text := ringfence.moment_literal(policy, ringfence.retention_cutoff(policy, NULL));
	-- The condition of a partial index, without which it can't be used.
	todo CONSTANT text := concat_ws(' AND ', 'true', ringfence.rule_todo(rel, nullif(policy -> 'rules', 'null')),
		ringfence.filter_condition(rel, nullif(policy -> 'filter', 'null')));
BEGIN
	IF NOT ringfence.has_org_column(rel) THEN
		RETURN format('SELECT CASE WHEN EXISTS (SELECT FROM %s AS t WHERE %s) THEN jsonb_build_array(NULL) ELSE ''[]'' END',
			rel, ringfence.due_condition(policy, moment, NULL));
	END IF;
	SELECT coalesce('CASE o.org_id ' || string_agg(format('WHEN %L THEN %s', v.org_id,
			ringfence.moment_literal(policy, ringfence.retention_cutoff(policy, v.org_id))), ' ') || ' ELSE ' || moment || ' END', moment)
	INTO moment
	FROM ringfence_data.retention_overrides AS v
	WHERE v.relation = rel AND v.step = policy ->> 'step';
	RETURN format('WITH RECURSIVE orgs AS (
		(SELECT t.org_id FROM %1$s AS t WHERE %2$s ORDER BY t.org_id LIMIT 1)
		UNION ALL
		SELECT (SELECT t.org_id FROM %1$s AS t WHERE t.org_id > o.org_id AND %2$s ORDER BY t.org_id LIMIT 1)
		FROM orgs AS o WHERE o.org_id IS NOT NULL
	)
	SELECT coalesce(jsonb_agg(o.org_id), ''[]'')
	FROM orgs AS o
	WHERE EXISTS (SELECT FROM %1$s AS t WHERE t.org_id = o.org_id AND %3$s)',
		rel, todo, ringfence.due_condition(policy, moment, NULL));
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.due_statement(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.due_statement(jsonb) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.due_statement(jsonb) IS
	'the statement that lists the organizations with rows that have come due, as a JSON array; [null] where rows say of none whose they are';

CREATE FUNCTION ringfence.preview_statement(policy jsonb, cutoff timestamptz, org uuid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('SELECT jsonb_build_object(''rows'', count(*), ''oldest'', min(t.%I),
		''held'', count(*) FILTER (WHERE (%s) IS NOT TRUE), ''referenced'', count(*) FILTER (WHERE NOT (%s)))
		FROM %s AS t WHERE %s',
		policy ->> 'column_name', ringfence.hold_condition(p.rel, org),
		CASE WHEN policy ->> 'action' = 'delete' THEN ringfence.unreferenced_condition(p.rel, org) ELSE 'true' END,
		p.rel, ringfence.due_condition(policy, ringfence.moment_literal(policy, cutoff), org))
	FROM (SELECT (policy ->> 'relation')::oid::regclass AS rel) AS p
$$;
REVOKE EXECUTE ON FUNCTION ringfence.preview_statement(jsonb, timestamptz, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.preview_statement(jsonb, timestamptz, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.preview_statement(jsonb, timestamptz, uuid) IS
	'the statement that counts what has come due: {"rows", "oldest", "held", "referenced"}';

-- The period is the organization's own where it chose one.
CREATE FUNCTION ringfence.retention_cutoff(policy jsonb, org uuid) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
	SELECT ringfence.retention_now() - coalesce(
		(
			SELECT least(greatest(o.keep, (policy ->> 'min_keep')::interval), (policy ->> 'max_keep')::interval)
			FROM ringfence_data.retention_overrides AS o
			WHERE o.org_id = retention_cutoff.org AND o.relation = (policy ->> 'relation')::oid::regclass AND o.step = policy ->> 'step'
		),
		(policy ->> 'keep')::interval)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.retention_cutoff(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_cutoff(jsonb, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_cutoff(jsonb, uuid) IS
	'before when rows of an organization have come due under a policy, by its own period if it chose one';

CREATE FUNCTION ringfence.retention_statement(task jsonb, org uuid, OUT rel regclass, OUT statement text) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 1
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
	kind CONSTANT text := task ->> 'kind';
	policy jsonb;
BEGIN
	IF kind IN ('erase', 'find', 'export') THEN
		RETURN QUERY SELECT s.rel, s.statement FROM ringfence.subject_statement(task, org) AS s;
		RETURN;
	ELSIF kind IN ('org_delete', 'org_anonymize', 'org_export') THEN
		RETURN QUERY SELECT s.rel, s.statement FROM ringfence.org_statement(task, org) AS s;
		RETURN;
	ELSIF kind = 'partition' THEN
		RETURN QUERY SELECT s.rel, s.statement FROM ringfence.partition_statement(task, org) AS s;
		RETURN;
	END IF;
	SELECT ringfence.policy_document(p.relation, p.step) INTO policy
	FROM ringfence_data.retention_policies AS p
	WHERE p.relation = (task ->> 'relation')::oid AND p.step = task ->> 'step' AND p.action IN ('delete', 'anonymize');
	IF policy IS NULL OR kind IN ('policy', 'due', 'estimate', 'preview') IS NOT TRUE THEN
		RETURN;
	END IF;
	rel := (policy ->> 'relation')::oid::regclass;
	IF ringfence.column_type(rel, policy ->> 'column_name') IS NULL THEN
		RAISE EXCEPTION 'column "%" of table % does not exist', policy ->> 'column_name', rel USING ERRCODE = 'undefined_column';
	END IF;
	statement := CASE kind
		WHEN 'policy' THEN ringfence.batch_statement(policy, task, ringfence.retention_cutoff(policy, org), org)
		WHEN 'preview' THEN ringfence.preview_statement(policy, ringfence.retention_cutoff(policy, org), org)
		WHEN 'due' THEN ringfence.due_statement(policy)
		ELSE format('EXPLAIN (FORMAT JSON) SELECT FROM %s AS t WHERE %s', rel,
			ringfence.due_condition(policy, ringfence.moment_literal(policy, ringfence.retention_cutoff(policy, NULL)), NULL))
	END;
	RETURN NEXT;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.retention_statement(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_statement(jsonb, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_statement(jsonb, uuid) IS
	'the table that a task is about and the statement that does it, in answer of one JSON value; no row where nothing of that name is registered; for retention_execute()';

-- What references a row keeps it: removing it would be refused, or take along
-- what is held. Deeper than that, rows that go by ON DELETE CASCADE are looked
-- into as well.
CREATE FUNCTION ringfence.unreferenced_condition(rel regclass, org uuid DEFAULT NULL, alias text DEFAULT 't', depth integer DEFAULT 0)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	child_alias CONSTANT text := alias || depth;
	reference record;
	keeps text;
	conditions text[] := ARRAY[]::text[];
BEGIN
	IF depth > 8 THEN
		RAISE EXCEPTION 'foreign keys of table % go round in a circle', rel
			USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = 'Deleting a row would cascade without an end.';
	END IF;
	FOR reference IN
		SELECT k.conrelid::regclass AS child, k.confdeltype,
			(
				SELECT string_agg(format('%I.%I = %I.%I', child_alias, c.attname, alias, p.attname), ' AND ' ORDER BY n.place)
				FROM unnest(k.conkey, k.confkey) WITH ORDINALITY AS n (child_column, parent_column, place)
				INNER JOIN pg_attribute AS c ON c.attrelid = k.conrelid AND c.attnum = n.child_column
				INNER JOIN pg_attribute AS p ON p.attrelid = k.confrelid AND p.attnum = n.parent_column
			) AS matches
		FROM pg_constraint AS k
		WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid = rel
			-- Another owner's rows are that owner's to read, and the key's to keep.
			AND (SELECT c.relowner FROM pg_class AS c WHERE c.oid = k.conrelid)
				= (SELECT p.relowner FROM pg_class AS p WHERE p.oid = k.confrelid)
		ORDER BY k.conname, k.oid
	LOOP
		keeps := CASE
			WHEN reference.confdeltype IN ('a', 'r') THEN 'true'
			WHEN reference.confdeltype = 'c' THEN nullif(format('(%s AND %s) IS NOT TRUE',
				ringfence.hold_condition(reference.child, org, child_alias),
				ringfence.unreferenced_condition(reference.child, org, child_alias, depth + 1)),
				'(true AND true) IS NOT TRUE')
			ELSE nullif(format('(%s) IS NOT TRUE', ringfence.hold_condition(reference.child, org, child_alias)), '(true) IS NOT TRUE')
		END;
		IF keeps IS NOT NULL THEN
			conditions := conditions || format('NOT EXISTS (SELECT FROM %s AS %I WHERE %s AND %s)',
				reference.child, child_alias, reference.matches, keeps);
		END IF;
	END LOOP;
	RETURN coalesce(nullif(array_to_string(conditions, ' AND '), ''), 'true');
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.unreferenced_condition(regclass, uuid, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.unreferenced_condition(regclass, uuid, text, integer) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.unreferenced_condition(regclass, uuid, text, integer) IS
	'the condition under which a row can be deleted: no foreign key refuses it, and no row that would go or change with it is held; "true" where nothing references the table; 55000';

CREATE FUNCTION ringfence.has_held_children(rel regclass, org uuid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM ringfence.active_holds(NULL, org) AS h
	) AND EXISTS (
		SELECT FROM unnest((ringfence.retention_reach(rel)).cascaded) AS c (child)
		WHERE c.child <> rel AND ringfence.hold_condition(c.child::regclass, org) <> 'true'
	)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.has_held_children(regclass, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.has_held_children(regclass, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.has_held_children(regclass, uuid) IS
	'whether a hold is on a table whose rows would go with the table''s by ON DELETE CASCADE';

-- What goes or changes by a statement on a table: rows of its own, and by ON DELETE
-- CASCADE those of others.
CREATE FUNCTION ringfence.retention_reach(rel regclass, OUT own oid[], OUT cascaded oid[]) RETURNS record
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE reach AS (
		SELECT w.child::oid AS relation FROM ringfence.with_children(rel) AS w
		UNION
		SELECT w.child::oid
		FROM reach AS r
		INNER JOIN pg_constraint AS k ON k.confrelid = r.relation AND k.contype = 'f' AND k.confdeltype = 'c'
		CROSS JOIN LATERAL ringfence.with_children(k.conrelid::regclass) AS w
	)
	SELECT ARRAY(SELECT w.child::oid FROM ringfence.with_children(rel) AS w), ARRAY(SELECT r.relation FROM reach AS r)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.retention_reach(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_reach(regclass) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_reach(regclass) IS
	'a table with its partitions and children, and all whose rows go with its rows by ON DELETE CASCADE: of these retention_execute() has the audit log record no rows';

-- Children before parents: how long the longest chain of tables is whose rows
-- reference the table's; at most 20, where they go round in a circle.
CREATE FUNCTION ringfence.reference_depth(rel regclass) RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	WITH RECURSIVE chain AS (
		SELECT rel::oid AS parent, 1 AS depth
		UNION
		SELECT k.conrelid, c.depth + 1
		FROM chain AS c
		INNER JOIN pg_catalog.pg_constraint AS k
			ON k.contype = 'f' AND k.conparentid = 0 AND k.confrelid = c.parent AND k.conrelid <> c.parent
		WHERE c.depth < 20
	)
	SELECT max(c.depth) FROM chain AS c;
END;
REVOKE EXECUTE ON FUNCTION ringfence.reference_depth(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.reference_depth(regclass) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.reference_depth(regclass) IS
	'1 for a table that no other references, more for those whose children have children: rows leave in this order';
