-- Exports on record: what can be exported, how its rows are read, and the
-- synchronous form, export_now(). Large exports are in export_job.sql.
--
-- Rows are read by the library, as ringfence_member in the context of whoever asked,
-- so that row security holds for an export as it does for a request, whoever runs
-- it. It is told what by names of what was declared, and has the statement made of
-- them by export_statement().

-- Declarations.

CREATE FUNCTION ringfence.is_key_type(rel regclass, column_name name) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT regexp_replace(ringfence.column_type(rel, column_name::text), '\(\d+(,\d+)?\)', '') IN (
			'smallint', 'integer', 'bigint', 'numeric', 'boolean', 'uuid', 'text', 'character varying', 'bytea',
			'date', 'timestamp without time zone', 'timestamp with time zone')
		OR EXISTS (
			SELECT FROM pg_attribute AS a
			INNER JOIN pg_type AS t ON t.oid = a.atttypid
			WHERE a.attrelid = rel AND a.attname = column_name AND t.typtype = 'e'
		)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.is_key_type(regclass, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_key_type(regclass, name) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.is_key_type(regclass, name) IS
	'whether values of a column have one order, and come back from text as they were: an export can go on after any of them';

-- Asked when an export is declared and again each time: a view may have been altered
-- since.
CREATE FUNCTION ringfence.is_exportable(rel regclass) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE c.relkind
		WHEN 'v' THEN EXISTS (
			SELECT FROM pg_options_to_table(c.reloptions) AS o WHERE o.option_name = 'security_invoker' AND o.option_value::boolean
		)
		ELSE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND NOT c.relispartition
			AND coalesce(ringfence.row_class(rel), 'system') <> 'system' AND c.relrowsecurity
		END AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
	FROM pg_class AS c
	WHERE c.oid = rel
$$;
REVOKE EXECUTE ON FUNCTION ringfence.is_exportable(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_exportable(regclass) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.is_exportable(regclass) IS
	'whether row security holds for who reads a relation: a view with security_invoker, or a protected table';

CREATE FUNCTION ringfence.check_export_relation(rel regclass) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	class pg_class;
BEGIN
	SELECT c.* INTO class FROM pg_class AS c WHERE c.oid = rel;
	IF ringfence.is_exportable(rel) IS NOT TRUE THEN
		RAISE EXCEPTION '"%" cannot be exported', rel
			USING ERRCODE = 'wrong_object_type',
			DETAIL = 'It must be a protected table, or a view with security_invoker: another one reads with its owner''s rights.',
			HINT = CASE WHEN class.relkind = 'v' THEN format('ALTER VIEW %s SET (security_invoker = true);', rel) ELSE 'Protect it first.' END;
	END IF;
	IF NOT ringfence.installing() AND NOT pg_has_role(session_user, class.relowner, 'MEMBER') THEN
		RAISE EXCEPTION 'must be owner of relation %', rel
			USING ERRCODE = 'insufficient_privilege', HINT = 'Superusers and members of the role that owns it may declare what it exports.';
	END IF;
	IF NOT has_schema_privilege('ringfence_member', class.relnamespace, 'USAGE')
		OR NOT has_table_privilege('ringfence_member', rel, 'SELECT') THEN
		RAISE EXCEPTION 'role "ringfence_member" may not read %', rel
			USING ERRCODE = 'insufficient_privilege', HINT = 'An export reads as this role, all columns.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_export_relation(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_export_relation(regclass) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_export_relation(regclass) IS
	'whether the session''s user may declare an export of a relation, and members can read it: 42501, 42809; for declare_export()';

CREATE FUNCTION ringfence.check_export_columns(rel regclass, key name[], range_column name) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wrong name;
BEGIN
	IF cardinality(key) NOT BETWEEN 1 AND 8 OR array_ndims(key) > 1 OR array_position(key, NULL) IS NOT NULL
		OR (SELECT count(DISTINCT k) FROM unnest(key) AS k) < cardinality(key) THEN
		RAISE EXCEPTION 'invalid key of an export'
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It is one to eight columns, each once.';
	END IF;
	SELECT c.name INTO wrong
	FROM unnest(key || range_column) AS c (name)
	WHERE c.name IS NOT NULL AND ringfence.column_type(rel, c.name::text) IS NULL
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'column "%" of relation % does not exist', wrong, rel USING ERRCODE = 'undefined_column';
	END IF;
	SELECT c.name INTO wrong FROM unnest(key) AS c (name) WHERE NOT ringfence.is_key_type(rel, c.name) LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'column "%" of relation % cannot be a key', wrong, rel
			USING ERRCODE = 'datatype_mismatch', DETAIL = 'A key is of numbers, text, dates, times, uuid, bytea, boolean or an enum.';
	END IF;
	IF range_column IS NOT NULL AND regexp_replace(ringfence.column_type(rel, range_column::text), '\(\d\)', '')
		NOT IN ('date', 'timestamp with time zone') THEN
		RAISE EXCEPTION 'column "%" of relation % is of type %', range_column, rel, ringfence.column_type(rel, range_column::text)
			USING ERRCODE = 'datatype_mismatch', DETAIL = 'A range of days is of a date or a timestamp with time zone.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_export_columns(regclass, name[], name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_export_columns(regclass, name[], name) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_export_columns(regclass, name[], name) IS
	'whether an export can go by these columns: 22023, 42703, 42804; for declare_export()';

CREATE FUNCTION ringfence.declare_export(
	name text,
	relation regclass,
	key name[],
	roles text[],
	range_column name DEFAULT NULL,
	filename text DEFAULT NULL,
	description text DEFAULT ''
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.require_core();
	IF name IS NULL OR relation IS NULL OR key IS NULL OR roles IS NULL THEN
		RAISE EXCEPTION 'name, relation, key and roles must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF cardinality(roles) = 0 OR EXISTS (SELECT FROM unnest(roles) AS r WHERE r !~ '^[a-z][a-z0-9_]{0,30}$' OR r IS NULL) THEN
		RAISE EXCEPTION 'invalid roles of export "%"', name
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'They are names of roles of members, one at least.';
	END IF;
	PERFORM ringfence.check_export_relation(relation);
	PERFORM ringfence.check_export_columns(relation, key, range_column);
	-- Who takes a name over could have had what it was about.
	PERFORM ringfence.check_export_relation(d.relation)
	FROM ringfence_data.export_definitions AS d
	WHERE d.name = declare_export.name AND d.relation <> declare_export.relation;
	INSERT INTO ringfence_data.export_definitions AS d (name, relation, key, roles, range_column, filename, description)
	VALUES (
		declare_export.name,
		declare_export.relation,
		declare_export.key,
		declare_export.roles,
		declare_export.range_column,
		coalesce(declare_export.filename, replace(declare_export.name, '_', '-')),
		coalesce(declare_export.description, '')
	)
	ON CONFLICT ON CONSTRAINT export_definitions_pkey DO UPDATE
	SET relation = excluded.relation, key = excluded.key, roles = excluded.roles, range_column = excluded.range_column,
		filename = excluded.filename, description = excluded.description, declared_at = clock_timestamp();
EXCEPTION WHEN check_violation THEN
	RAISE EXCEPTION 'invalid name of export "%", or of its file', name
		USING ERRCODE = 'invalid_parameter_value',
		DETAIL = 'A name is up to 63 lower case letters, digits and underscores; a file''s is of letters, digits, underscores and hyphens.';
END
$$;
ALTER FUNCTION ringfence.declare_export(text, regclass, name[], text[], name, text, text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.declare_export(text, regclass, name[], text[], name, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.declare_export(text, regclass, name[], text[], name, text, text) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.declare_export(text, regclass, name[], text[], name, text, text) IS
	'lets members with one of the roles export the rows that they see in a view with security_invoker or a protected table, in the order of the key, whose columns are never NULL and identify a row in its organization, org_id left out; a range of days is of the range column, which leads the key best; repeatable; 22004, 22023, 42501 for a relation of somebody else''s or that members can''t read, 42703, 42804, 42809, 55000';

CREATE FUNCTION ringfence.undeclare_export(name text) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.require_core();
	IF NOT ringfence.installing() AND EXISTS (
		SELECT FROM ringfence_data.export_definitions AS d
		INNER JOIN pg_class AS c ON c.oid = d.relation
		WHERE d.name = undeclare_export.name AND NOT pg_has_role(session_user, c.relowner, 'MEMBER')
	) THEN
		RAISE EXCEPTION 'must be owner of the relation of export "%"', name USING ERRCODE = 'insufficient_privilege';
	END IF;
	DELETE FROM ringfence_data.export_definitions AS d WHERE d.name = undeclare_export.name;
	RETURN FOUND;
END
$$;
ALTER FUNCTION ringfence.undeclare_export(text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.undeclare_export(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.undeclare_export(text) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.undeclare_export(text) IS
	'takes back what declare_export() said; false if there is no such export; those that were made stay; 42501, 55000';

-- What is asked for.

CREATE FUNCTION ringfence.org_time_zone(org uuid) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	zone CONSTANT text := coalesce((SELECT o.settings ->> 'time_zone' FROM ringfence_data.orgs AS o WHERE o.id = org), 'UTC');
BEGIN
	-- 22023 for one that is none.
	PERFORM timezone(zone, timestamptz '2000-01-01 00:00:00+00');
	RETURN zone;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.org_time_zone(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.org_time_zone(uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.org_time_zone(uuid) IS
	'the time zone of an organization''s settings (time_zone), or UTC; 22023 for one that is none';

CREATE FUNCTION ringfence.export_options(options jsonb) RETURNS ringfence.csv_options
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wrong text;
BEGIN
	IF options IS NULL OR options = 'null' THEN
		RETURN NULL;
	END IF;
	IF jsonb_typeof(options) <> 'object' THEN
		RAISE EXCEPTION 'options must be a JSON object' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	SELECT o.key INTO wrong
	FROM jsonb_each(options) AS o
	WHERE (o.key IN ('delimiter', 'null_text', 'quote', 'newline') AND jsonb_typeof(o.value) = 'string'
		OR o.key IN ('bom', 'header', 'guard') AND jsonb_typeof(o.value) = 'boolean') IS NOT TRUE
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'invalid option "%"', left(wrong, 63)
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Options are delimiter, null_text, quote and newline, which are strings, and bom, header and guard, true or false.';
	END IF;
	RETURN ringfence.csv_options(
		delimiter => coalesce(options ->> 'delimiter', ','),
		bom => coalesce((options ->> 'bom')::boolean, false),
		null_text => coalesce(options ->> 'null_text', ''),
		quote => coalesce(options ->> 'quote', 'minimal'),
		newline => coalesce(options ->> 'newline', E'\r\n'),
		header => coalesce((options ->> 'header')::boolean, true),
		guard => coalesce((options ->> 'guard')::boolean, true));
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.export_options(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_options(jsonb) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.export_options(jsonb) IS
	'options of CSV as csv_options() makes them of a JSON object; NULL for NULL; 22023';

CREATE FUNCTION ringfence.export_filename(stem text, from_date date, to_date date, format text, today date) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN stem || '-' || CASE
	WHEN from_date IS NOT NULL AND to_date IS NOT NULL THEN to_char(from_date, 'YYYY-MM-DD') || '--' || to_char(to_date, 'YYYY-MM-DD')
	WHEN from_date IS NOT NULL THEN 'from-' || to_char(from_date, 'YYYY-MM-DD')
	WHEN to_date IS NOT NULL THEN 'to-' || to_char(to_date, 'YYYY-MM-DD')
	ELSE to_char(today, 'YYYY-MM-DD')
END || '.' || format;
REVOKE EXECUTE ON FUNCTION ringfence.export_filename(text, date, date, text, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_filename(text, date, date, text, date) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.export_filename(text, date, date, text, date) IS
	'what a file is called: "sales-ledger-2026-01-01--2026-03-31.csv"; one without a range after the day';

-- Whose member asks, and for what: the same for every way to ask.
CREATE FUNCTION ringfence.check_export(
	name text,
	from_date date,
	to_date date,
	format text,
	options jsonb,
	OUT roles text[],
	OUT filename text,
	OUT time_zone text,
	OUT has_range boolean
) RETURNS record
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	definition record;
BEGIN
	PERFORM ringfence.require_core();
	IF ringfence.actor() <> 'user' OR ringfence.org_id() IS NULL THEN
		RAISE EXCEPTION 'no organization is set for this transaction'
			USING ERRCODE = 'insufficient_privilege', DETAIL = 'Exports are for members of an organization.';
	END IF;
	SELECT d.roles, d.filename, d.range_column INTO definition
	FROM ringfence_data.export_definitions AS d
	WHERE d.name = check_export.name;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'export not found' USING ERRCODE = 'PT404', HINT = 'The view "export_definitions" lists them.';
	ELSIF NOT ringfence.has_role(VARIADIC definition.roles) THEN
		RAISE EXCEPTION 'permission denied for this export'
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = pg_catalog.format('It takes one of the roles: %s.', array_to_string(definition.roles, ', '));
	END IF;
	IF format IN ('csv', 'ndjson') IS NOT TRUE THEN
		RAISE EXCEPTION 'invalid format of an export' USING ERRCODE = 'invalid_parameter_value', HINT = 'It is csv or ndjson.';
	ELSIF options IS NOT NULL AND format <> 'csv' THEN
		RAISE EXCEPTION 'options are for the format csv' USING ERRCODE = 'invalid_parameter_value';
	ELSIF definition.range_column IS NULL AND coalesce(from_date, to_date) IS NOT NULL THEN
		RAISE EXCEPTION 'the export has no range' USING ERRCODE = 'invalid_parameter_value', HINT = 'Ask for it without "from" and "to".';
	ELSIF from_date > to_date OR EXISTS (
		-- Others are no timestamps, or look like one of these in the file's name.
		SELECT FROM unnest(ARRAY[from_date, to_date]) AS d (day) WHERE d.day NOT BETWEEN '0001-01-01' AND '9999-12-31'
	) THEN
		RAISE EXCEPTION 'invalid range of an export'
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It is from a day to the same or a later one, both included, of the years 1 to 9999.';
	END IF;
	PERFORM ringfence.export_options(options);
	roles := definition.roles;
	time_zone := ringfence.org_time_zone(ringfence.org_id());
	has_range := definition.range_column IS NOT NULL;
	filename := ringfence.export_filename(definition.filename, from_date, to_date, format,
		timezone(time_zone, ringfence.retention_now())::date);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_export(text, date, date, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_export(text, date, date, text, jsonb) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_export(text, date, date, text, jsonb) IS
	'whether the caller may ask for this export, and what the definition says of it: 22023, 42501, 55000, PT404; for ringfence_owner''s functions';

-- Statements.

-- Where clocks go back over midnight it strikes twice, and the first counts.
CREATE FUNCTION ringfence.day_start(zone text, day date) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (
	SELECT CASE WHEN timezone(zone, m.midnight - interval '1 hour')::date = day THEN m.midnight - interval '1 hour' ELSE m.midnight END
	FROM (SELECT timezone(zone, day::timestamp)) AS m (midnight)
);
REVOKE EXECUTE ON FUNCTION ringfence.day_start(text, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.day_start(text, date) TO ringfence_owner, ringfence_member, ringfence_jobs;
COMMENT ON FUNCTION ringfence.day_start(text, date) IS 'the first moment of a day, as a zone counts it';

-- Days begin and end in the organization's time zone. From the second part on rows
-- begin with the last one of the part before, which is there to be passed over: if
-- there are two with its key, that shows.
CREATE FUNCTION ringfence.export_statement(
	rel regclass,
	key name[],
	range_column name,
	zone text,
	from_date date,
	to_date date,
	format text,
	after text[],
	what text
) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET timezone = 'UTC'
AS $$
	SELECT CASE what
		WHEN 'rows' THEN pg_catalog.format('SELECT %s, %s FROM %s AS t WHERE %s%s ORDER BY %2$s',
			CASE format WHEN 'ndjson' THEN pg_catalog.format('(t.*)::%s', rel) ELSE (
				SELECT string_agg(pg_catalog.format('t.%I', a.attname), ', ' ORDER BY a.attnum)
				FROM pg_attribute AS a
				WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped
			) END,
			k.columns, rel, r.condition, CASE WHEN after IS NOT NULL THEN pg_catalog.format(' AND (%s) >= (%s)', k.columns, k.values) ELSE '' END)
		WHEN 'count' THEN pg_catalog.format('SELECT count(*) FROM %s AS t WHERE %s', rel, r.condition)
		WHEN 'unkeyed' THEN pg_catalog.format('SELECT count(*) FROM (SELECT FROM %s AS t WHERE %s AND (%s) LIMIT 1) AS u', rel, r.condition, k.nulls)
	END
	FROM (
		SELECT string_agg(pg_catalog.format('t.%I', c.name), ', ' ORDER BY c.place) AS columns,
			string_agg(pg_catalog.format('%L::%s', after[c.place], ringfence.column_type(rel, c.name::text)), ', ' ORDER BY c.place) AS values,
			string_agg(pg_catalog.format('t.%I IS NULL', c.name), ' OR ' ORDER BY c.place) AS nulls
		FROM unnest(key) WITH ORDINALITY AS c (name, place)
	) AS k
	CROSS JOIN LATERAL (
		SELECT coalesce(nullif(concat_ws(' AND ',
			CASE WHEN from_date IS NOT NULL THEN pg_catalog.format('t.%I >= %L::%s', range_column,
				CASE WHEN w.whole_days THEN from_date::text ELSE ringfence.day_start(zone, from_date)::text END, w.type) END,
			CASE WHEN to_date IS NOT NULL THEN pg_catalog.format('t.%I < %L::%s', range_column,
				CASE WHEN w.whole_days THEN (to_date + 1)::text ELSE ringfence.day_start(zone, to_date + 1)::text END, w.type) END), ''), 'true') AS condition
		FROM (
			SELECT t.type, t.type = 'date' AS whole_days
			FROM (SELECT ringfence.column_type(rel, range_column::text)) AS t (type)
		) AS w
	) AS r
$$;
REVOKE EXECUTE ON FUNCTION ringfence.export_statement(regclass, name[], name, text, date, date, text, text[], text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_statement(regclass, name[], name, text, date, date, text, text[], text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.export_statement(regclass, name[], name, text, date, date, text, text[], text) IS
	'the statement that reads the rows of an export in a range of days, from a key on, and behind their columns, or the row itself for ndjson, the key once more; for "count" the one that counts them all, for "unkeyed" the one that counts 1 if there is a row with a NULL in its key';

-- The form in which the library takes its orders.
CREATE TYPE ringfence.export_reading AS (
	statement text,
	keys integer,
	format text,
	options ringfence.csv_options,
	zone text,
	roles text[],
	requested_as text,
	after text[],
	consistent boolean,
	header boolean
);
COMMENT ON TYPE ringfence.export_reading IS
	'what the library is to read for an export: the statement, how many columns behind the others are the key, how rows are written, where times are, who may have it, as whom (JSON) and after which key it is read';

CREATE FUNCTION ringfence.export_now_order(name text, from_date date, to_date date, format text, options ringfence.csv_options)
RETURNS SETOF ringfence.export_reading
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ringfence.export_statement(d.relation, d.key, d.range_column, z.zone, from_date, to_date, format, NULL, 'rows'),
		cardinality(d.key), format, options, z.zone, d.roles, NULL, NULL::text[], true, true
	FROM ringfence_data.export_definitions AS d
	CROSS JOIN LATERAL ringfence.org_time_zone(ringfence.org_id()) AS z (zone)
	WHERE d.name = export_now_order.name AND ringfence.is_exportable(d.relation)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.export_now_order(text, date, date, text, ringfence.csv_options) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_now_order(text, date, date, text, ringfence.csv_options) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.export_now_order(text, date, date, text, ringfence.csv_options) IS
	'what export_read() is to read: statement, how many columns behind the others are the key, how it is written; no row for an export that is not declared, or of a view that was altered since and reads with its owner''s rights';

CREATE FUNCTION ringfence.export_read(
	name text,
	from_date date,
	to_date date,
	format text,
	options ringfence.csv_options,
	OUT data text,
	OUT rows bigint
) RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_export_read';
REVOKE EXECUTE ON FUNCTION ringfence.export_read(text, date, date, text, ringfence.csv_options) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_read(text, date, date, text, ringfence.csv_options) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.export_read(text, date, date, text, ringfence.csv_options) IS
	'the rows of an export that the caller sees, as ringfence_member, all in one text, and their number; 22000 for a key that does not identify rows, 22023, 42704, 54000 beyond 1 GB';

-- Answers.

CREATE FUNCTION ringfence.add_response_headers(headers jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM set_config('response.headers', (
		coalesce(nullif(current_setting('response.headers', true), ''), '[]')::jsonb || headers
	)::text, true);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.add_response_headers(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.add_response_headers(jsonb) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.add_response_headers(jsonb) IS
	'adds to the headers that PostgREST answers with: [{"name": "value"}, ...]';

CREATE FUNCTION ringfence.digest_header(sha256 bytea) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN jsonb_build_object('Repr-Digest', 'sha-256=:' || encode(sha256, 'base64') || ':');
REVOKE EXECUTE ON FUNCTION ringfence.digest_header(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.digest_header(bytea) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.digest_header(bytea) IS 'the header of RFC 9530 that tells the SHA-256 of what is answered';

-- PostgREST makes JSON of a file for whoever doesn't ask for its media type: that is
-- neither the file nor of its digest.
CREATE FUNCTION ringfence.answers_with(media_type text) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	headers CONSTANT text := nullif(current_setting('request.headers', true), '');
BEGIN
	RETURN headers IS NULL
		OR lower(btrim(split_part(split_part(headers::json ->> 'accept', ',', 1), ';', 1))) IS NOT DISTINCT FROM media_type;
EXCEPTION WHEN data_exception THEN
	RETURN false;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.answers_with(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.answers_with(text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.answers_with(text) IS
	'whether a request asks for this media type first, by its header Accept; true outside of a request';

-- As ringfence_owner, so that nobody but this function puts exports on record; the
-- rows are read as ringfence_member all the same.
CREATE FUNCTION ringfence.export_now(
	name text,
	"from" date,
	"to" date,
	format text DEFAULT 'csv',
	options ringfence.csv_options DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	export_id CONSTANT uuid := ringfence.uuid7();
	began CONSTANT timestamptz := clock_timestamp();
	-- (A row with a NULL in it is not "IS NOT NULL".)
	given CONSTANT jsonb := CASE WHEN options IS DISTINCT FROM NULL THEN to_jsonb(options) END;
	checked record;
	answer text;
	row_count bigint;
	row_bytes bigint;
	digest bytea;
BEGIN
	SELECT c.roles, c.filename, c.time_zone INTO checked FROM ringfence.check_export(name, "from", "to", format, given) AS c;
	-- Before all rows are read, not after.
	IF current_setting('transaction_read_only')::boolean THEN
		RAISE EXCEPTION 'cannot put an export on record in a read-only transaction'
			USING ERRCODE = 'read_only_sql_transaction', HINT = 'POST it, to the primary server.';
	END IF;
	SELECT r.data, r.rows INTO answer, row_count FROM ringfence.export_read(name, "from", "to", format, options) AS r;
	SELECT sha256(b.bytes), octet_length(b.bytes) INTO digest, row_bytes FROM convert_to(answer, 'UTF8') AS b (bytes);
	INSERT INTO ringfence_data.exports (id, name, roles, format, options, from_date, to_date, time_zone, consistent, filename,
		state, created_at, started_at, finished_at, expected_rows, rows, bytes, sha256, as_of)
	VALUES (export_id, export_now.name, checked.roles, export_now.format, given, "from", "to", checked.time_zone, true, checked.filename,
		'done', began, began, clock_timestamp(), row_count, row_count, row_bytes, digest, began);
	PERFORM ringfence.audit_event('export.made', export_id::text, jsonb_build_object(
		'name', name, 'from', "from", 'to', "to", 'format', format,
		'rows', row_count, 'bytes', row_bytes, 'sha256', encode(digest, 'hex')));
	PERFORM ringfence.add_response_headers(jsonb_build_array(
		jsonb_build_object('Export-Id', export_id),
		jsonb_build_object('Export-Rows', row_count::text)));
	IF ringfence.answers_with(CASE format WHEN 'csv' THEN 'text/csv' ELSE 'application/x-ndjson' END) THEN
		PERFORM ringfence.add_response_headers(jsonb_build_array(
			jsonb_build_object('Content-Disposition', pg_catalog.format('attachment; filename="%s"', checked.filename)),
			ringfence.digest_header(digest)));
	END IF;
	RETURN answer;
END
$$;
ALTER FUNCTION ringfence.export_now(text, date, date, text, ringfence.csv_options) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.export_now(text, date, date, text, ringfence.csv_options) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_now(text, date, date, text, ringfence.csv_options) TO ringfence_member;
COMMENT ON FUNCTION ringfence.export_now(text, date, date, text, ringfence.csv_options) IS
	'an export in one answer, of the rows that the caller sees, in the order of the key, whole or an error; "from" and "to" are days, both included, NULL for no limit; puts it on record in ringfence_data.exports and, as export.made, in the audit log, and its id and rows in the response''s headers, for a request that accepts its media type also its name and SHA-256; 22000 for a key that does not identify rows, 22023, 25006 in a read-only transaction, 42501, 54000 beyond 1 GB, 55000, PT404';
