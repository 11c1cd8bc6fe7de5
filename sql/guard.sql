-- The guard: a schema can be declared to admit only protected tables. The event
-- trigger notes each table that DDL made or altered; the library looks at them
-- when the transaction commits, so that CREATE TABLE and protect() may be two
-- statements of one transaction.

CREATE FUNCTION ringfence.guard_table(rel oid) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_guard_table';
REVOKE EXECUTE ON FUNCTION ringfence.guard_table(oid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.guard_table(oid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.guard_table(oid) IS
	'has the transaction refused at its commit (42501) if that table lies in a guarded schema and is not protected by then';

CREATE FUNCTION ringfence.guard_ddl() RETURNS event_trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.guard_table(coalesce(p.polrelid, c.objid))
	FROM pg_event_trigger_ddl_commands() AS c
	LEFT JOIN pg_policy AS p ON c.classid = 'pg_policy'::regclass AND p.oid = c.objid
	WHERE NOT c.in_extension
		AND (p.oid IS NOT NULL OR c.object_type IN ('table', 'materialized view', 'foreign table'));
	PERFORM ringfence.audit_altered(c.objid, c.objsubid)
	FROM pg_event_trigger_ddl_commands() AS c
	WHERE NOT c.in_extension AND c.command_tag = 'ALTER TABLE' AND c.object_type IN ('table', 'table column');
	PERFORM ringfence.reference_altered(c.objid, c.objsubid)
	FROM pg_event_trigger_ddl_commands() AS c
	WHERE NOT c.in_extension AND c.command_tag = 'ALTER TABLE' AND c.object_type = 'table column';
	PERFORM ringfence.audit_altered(t.oid, 0)
	FROM pg_event_trigger_ddl_commands() AS c
	INNER JOIN pg_class AS t ON t.relnamespace = c.objid AND t.relkind IN ('r', 'p')
	WHERE NOT c.in_extension AND c.command_tag = 'ALTER SCHEMA' AND c.object_type = 'schema';
END
$$;
ALTER FUNCTION ringfence.guard_ddl() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.guard_ddl() FROM PUBLIC;
COMMENT ON FUNCTION ringfence.guard_ddl() IS
	'event trigger function: notes tables for the check at commit, and for the audit log what they are called now; keeps exemptions with renamed columns';

CREATE FUNCTION ringfence.forget_dropped() RETURNS event_trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('ringfence_data.tables') IS NOT NULL THEN
		DELETE FROM ringfence_data.tables AS t
		USING pg_event_trigger_dropped_objects() AS d
		WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND d.objid = t.relation;
	END IF;
	IF to_regclass('ringfence_data.columns') IS NOT NULL THEN
		DELETE FROM ringfence_data.columns AS c
		USING pg_event_trigger_dropped_objects() AS d
		WHERE d.classid = 'pg_class'::regclass AND d.objid = c.relation
			AND (d.objsubid = 0 OR d.address_names[3] = c.column_name);
	END IF;
	IF to_regclass('ringfence_data.reference_exemptions') IS NOT NULL THEN
		DELETE FROM ringfence_data.reference_exemptions AS e
		USING pg_event_trigger_dropped_objects() AS d
		WHERE d.classid = 'pg_class'::regclass AND d.objid = e.relation
			AND (d.objsubid = 0 OR d.address_names[3] = e.column_name);
	END IF;
	IF to_regclass('ringfence_data.retention_policies') IS NOT NULL THEN
		DELETE FROM ringfence_data.retention_policies AS p
		USING pg_event_trigger_dropped_objects() AS d
		WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND d.objid = p.relation;
	END IF;
	IF to_regclass('ringfence_data.partitioned_tables') IS NOT NULL THEN
		DELETE FROM ringfence_data.partitioned_tables AS p
		USING pg_event_trigger_dropped_objects() AS d
		WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND d.objid = p.relation;
	END IF;
	IF to_regclass('ringfence_data.subjects') IS NOT NULL THEN
		DELETE FROM ringfence_data.subjects AS s
		USING pg_event_trigger_dropped_objects() AS d
		WHERE d.classid = 'pg_class'::regclass AND d.objid = s.relation
			AND (d.objsubid = 0 OR d.address_names[3] = s.column_name);
	END IF;
	IF to_regclass('ringfence_data.export_definitions') IS NOT NULL THEN
		DELETE FROM ringfence_data.export_definitions AS e
		USING pg_event_trigger_dropped_objects() AS d
		WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND d.objid = e.relation;
	END IF;
	-- An app's functions go with its schema; one that is dropped alone is missed.
	IF to_regclass('ringfence_data.jobs') IS NOT NULL AND to_regclass('ringfence_data.subject_hooks') IS NOT NULL THEN
		DELETE FROM ringfence_data.job_heartbeats AS h
		USING ringfence_data.jobs AS j, pg_event_trigger_dropped_objects() AS d, pg_event_trigger_dropped_objects() AS s
		WHERE j.job = h.job AND j.command = d.object_identity
			AND s.object_type = 'schema' AND s.object_name = d.schema_name;
		DELETE FROM ringfence_data.jobs AS j
		USING pg_event_trigger_dropped_objects() AS d, pg_event_trigger_dropped_objects() AS s
		WHERE j.command = d.object_identity AND s.object_type = 'schema' AND s.object_name = d.schema_name;
		DELETE FROM ringfence_data.subject_hooks AS k
		USING pg_event_trigger_dropped_objects() AS d, pg_event_trigger_dropped_objects() AS s
		WHERE split_part(k.function, '(', 1) = format('%I.%I', d.address_names[1], d.address_names[2])
			AND d.object_type = 'function' AND s.object_type = 'schema' AND s.object_name = d.schema_name;
	END IF;
	-- A table that lost a policy, unless it is gone as well.
	PERFORM ringfence.guard_table(t.rel)
	FROM pg_event_trigger_dropped_objects() AS d
	CROSS JOIN LATERAL to_regclass(format('%I.%I', d.address_names[1], d.address_names[2])) AS t (rel)
	WHERE d.classid = 'pg_policy'::regclass AND t.rel IS NOT NULL;
END
$$;
ALTER FUNCTION ringfence.forget_dropped() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.forget_dropped() FROM PUBLIC;
COMMENT ON FUNCTION ringfence.forget_dropped() IS
	'event trigger function: takes dropped tables out of ringfence_data.tables, retention_policies, partitioned_tables, subjects and export_definitions, dropped columns out of ringfence_data.columns, reference_exemptions and subjects, and notes tables that lost a policy for the check at commit';

-- What install() needs of a superuser, while it is the database owner's to call:
-- three fixed event triggers, and that ringfence_owner may make schemas (a right
-- that a database cloned from a template does not inherit). The function stays
-- with the superuser that made the extension and is ringfence_owner's alone.
CREATE FUNCTION ringfence.prepare_database() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('GRANT CREATE ON DATABASE %I TO ringfence_owner', current_database());
	IF NOT EXISTS (SELECT FROM pg_event_trigger AS e WHERE e.evtname = 'ringfence_guard') THEN
		CREATE EVENT TRIGGER ringfence_guard ON ddl_command_end
			WHEN TAG IN (
				'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE',
				'CREATE MATERIALIZED VIEW', 'CREATE FOREIGN TABLE', 'IMPORT FOREIGN SCHEMA',
				'CREATE POLICY', 'ALTER POLICY', 'ALTER SCHEMA'
			)
			EXECUTE FUNCTION ringfence.guard_ddl();
		COMMENT ON EVENT TRIGGER ringfence_guard IS
			'refuses unprotected tables in the schemas of ringfence_data.protected_schemas';
	END IF;
	IF NOT EXISTS (SELECT FROM pg_event_trigger AS e WHERE e.evtname = 'ringfence_audit') THEN
		CREATE EVENT TRIGGER ringfence_audit ON ddl_command_end
			WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE')
			EXECUTE FUNCTION ringfence.audit_ddl();
		COMMENT ON EVENT TRIGGER ringfence_audit IS
			'has new partitions and children of audited tables audited';
	END IF;
	IF NOT EXISTS (SELECT FROM pg_event_trigger AS e WHERE e.evtname = 'ringfence_forget') THEN
		CREATE EVENT TRIGGER ringfence_forget ON sql_drop
			WHEN TAG IN ('DROP TABLE', 'ALTER TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP POLICY')
			EXECUTE FUNCTION ringfence.forget_dropped();
		COMMENT ON EVENT TRIGGER ringfence_forget IS
			'takes dropped tables and columns out of ringfence_data.tables and ringfence_data.columns, and minds dropped policies';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prepare_database() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.prepare_database() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.prepare_database() IS
	'lets ringfence_owner make schemas in this database, and makes the event triggers ringfence_guard, ringfence_audit and ringfence_forget if they are missing; for install()';

CREATE FUNCTION ringfence.protect_schema(schema_name name) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regnamespace(quote_ident(schema_name)) IS NULL THEN
		RAISE EXCEPTION 'schema "%" does not exist', schema_name USING ERRCODE = 'invalid_schema_name';
	END IF;
	INSERT INTO ringfence_data.protected_schemas (schema_name)
	VALUES (protect_schema.schema_name)
	ON CONFLICT DO NOTHING;
END
$$;
ALTER FUNCTION ringfence.protect_schema(name) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.protect_schema(name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.protect_schema(name) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.protect_schema(name) IS
	'from now on a new or altered table of that schema must be protected when its transaction commits; 3F000 if there is no such schema';

CREATE FUNCTION ringfence.unprotect_schema(schema_name name) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM ringfence_data.protected_schemas AS s WHERE s.schema_name = unprotect_schema.schema_name;
END
$$;
ALTER FUNCTION ringfence.unprotect_schema(name) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.unprotect_schema(name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.unprotect_schema(name) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.unprotect_schema(name) IS
	'takes back protect_schema(); tables that are protected stay so';

CREATE FUNCTION ringfence.guarded_schemas(OUT schema_name name) RETURNS SETOF name
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 10 SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
AS $$
BEGIN
	IF to_regclass('ringfence_data.protected_schemas') IS NOT NULL THEN
		RETURN QUERY SELECT s.schema_name FROM ringfence_data.protected_schemas AS s;
	END IF;
END
$$;
ALTER FUNCTION ringfence.guarded_schemas() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.guarded_schemas() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.guarded_schemas() TO pg_database_owner;
COMMENT ON FUNCTION ringfence.guarded_schemas() IS
	'the schemas that admit only protected tables';
