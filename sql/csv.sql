-- Rows as CSV and NDJSON (src/csv*.c, src/ndjson.c). The domains are named as media
-- types are: PostgREST answers with what a function or aggregate returns as one.

CREATE DOMAIN ringfence."text/csv" AS text;
COMMENT ON DOMAIN ringfence."text/csv" IS 'rows as CSV (RFC 4180), as csv() writes them';

CREATE DOMAIN ringfence."application/x-ndjson" AS text;
COMMENT ON DOMAIN ringfence."application/x-ndjson" IS 'rows as JSON objects, one a line, as ndjson() writes them';

CREATE DOMAIN ringfence."*/*" AS bytea;
COMMENT ON DOMAIN ringfence."*/*" IS
	'bytes of any media type: the function that returns them sets the header Content-Type of the answer';

CREATE TYPE ringfence.csv_options AS (
	delimiter text,
	bom boolean,
	null_text text,
	quote text,
	newline text,
	header boolean,
	guard boolean
);
COMMENT ON TYPE ringfence.csv_options IS
	'how a CSV looks, as csv_options() makes it; a field that is NULL stands for its default';

CREATE FUNCTION ringfence.csv_options(
	delimiter text DEFAULT ',',
	bom boolean DEFAULT false,
	null_text text DEFAULT '',
	quote text DEFAULT 'minimal',
	newline text DEFAULT E'\r\n',
	header boolean DEFAULT true,
	guard boolean DEFAULT true
) RETURNS ringfence.csv_options
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_csv_options';
REVOKE EXECUTE ON FUNCTION ringfence.csv_options(text, boolean, text, text, text, boolean, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.csv_options(text, boolean, text, text, text, boolean, boolean)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.csv_options(text, boolean, text, text, text, boolean, boolean) IS
	'how csv() writes: the character between cells; a byte order mark in front; what NULL is, unquoted; quotes around cells that need them (minimal), around all but numbers, times and such as well (text), or around all (all); lines end in CR LF or LF; the names of the columns in the first line; an apostrophe in front of cells that a spreadsheet would take for a formula; 22023 for what can''t be';

CREATE FUNCTION ringfence.csv_guard(cell text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_csv_guard';
REVOKE EXECUTE ON FUNCTION ringfence.csv_guard(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.csv_guard(text)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.csv_guard(text) IS
	'a cell with an apostrophe in front if a spreadsheet would take it for a formula: if behind apostrophes, and then behind blanks, it has = + - @ or their full-width or small forms, a tab, a CR or an LF; else the cell';

CREATE FUNCTION ringfence.csv_unguard(cell text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_csv_unguard';
REVOKE EXECUTE ON FUNCTION ringfence.csv_unguard(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.csv_unguard(text)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.csv_unguard(text) IS
	'a cell without the apostrophe that csv_guard() put in front: csv_unguard(csv_guard(x)) = x for every x';

-- Of the aggregates below, and of those that apps make. By hand nobody can call them:
-- they ask whether it is an aggregate that calls.

CREATE FUNCTION ringfence.csv_add(state bytea, data anyelement) RETURNS bytea
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_csv_add';
REVOKE EXECUTE ON FUNCTION ringfence.csv_add(bytea, anyelement) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.csv_add(bytea, anyelement) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.csv_add(bytea, anyelement) IS 'writes a row; for csv()';

CREATE FUNCTION ringfence.csv_add(state bytea, data anyelement, options ringfence.csv_options) RETURNS bytea
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_csv_add';
REVOKE EXECUTE ON FUNCTION ringfence.csv_add(bytea, anyelement, ringfence.csv_options) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.csv_add(bytea, anyelement, ringfence.csv_options) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.csv_add(bytea, anyelement, ringfence.csv_options) IS
	'writes a row, in the way that the first row''s options say; for csv()';

CREATE FUNCTION ringfence.ndjson_add(state bytea, data anyelement) RETURNS bytea
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_ndjson_add';
REVOKE EXECUTE ON FUNCTION ringfence.ndjson_add(bytea, anyelement) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ndjson_add(bytea, anyelement) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.ndjson_add(bytea, anyelement) IS 'writes a row; for ndjson()';

CREATE FUNCTION ringfence.csv_merge(state bytea, other bytea) RETURNS bytea
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_csv_merge';
REVOKE EXECUTE ON FUNCTION ringfence.csv_merge(bytea, bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.csv_merge(bytea, bytea) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.csv_merge(bytea, bytea) IS
	'joins what two processes wrote, under one header; 22021 and 22P03 for a state that is none, 42804 for rows with different columns; for csv() and ndjson()';

CREATE FUNCTION ringfence.csv_finish(state bytea) RETURNS ringfence."text/csv"
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_csv_finish';
REVOKE EXECUTE ON FUNCTION ringfence.csv_finish(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.csv_finish(bytea) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.csv_finish(bytea) IS 'what was written; for csv()';

CREATE FUNCTION ringfence.ndjson_finish(state bytea) RETURNS ringfence."application/x-ndjson"
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_csv_finish';
REVOKE EXECUTE ON FUNCTION ringfence.ndjson_finish(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ndjson_finish(bytea) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.ndjson_finish(bytea) IS 'what was written; for ndjson()';

CREATE AGGREGATE ringfence.csv(data record) (
	SFUNC = ringfence.csv_add,
	STYPE = bytea,
	SSPACE = 16384,
	FINALFUNC = ringfence.csv_finish,
	FINALFUNC_MODIFY = READ_WRITE,
	COMBINEFUNC = ringfence.csv_merge,
	PARALLEL = SAFE
);
REVOKE EXECUTE ON FUNCTION ringfence.csv(record) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.csv(record)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON AGGREGATE ringfence.csv(record) IS
	'rows as CSV with a header of their columns'' names: RFC 4180, formulas guarded (csv_options()); NULL rows are passed over, and without rows it is ''''; 42804 for rows with different columns, 54000 beyond 1 GB';

CREATE AGGREGATE ringfence.csv(data record, options ringfence.csv_options) (
	SFUNC = ringfence.csv_add,
	STYPE = bytea,
	SSPACE = 16384,
	FINALFUNC = ringfence.csv_finish,
	FINALFUNC_MODIFY = READ_WRITE,
	COMBINEFUNC = ringfence.csv_merge,
	PARALLEL = SAFE
);
REVOKE EXECUTE ON FUNCTION ringfence.csv(record, ringfence.csv_options) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.csv(record, ringfence.csv_options)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON AGGREGATE ringfence.csv(record, ringfence.csv_options) IS
	'rows as CSV in the way that csv_options() says, of the first row: the others'' options are not looked at; without rows it is '''', whatever they are; 22023, 42804 for rows with different columns, 54000 beyond 1 GB';

CREATE AGGREGATE ringfence.ndjson(data record) (
	SFUNC = ringfence.ndjson_add,
	STYPE = bytea,
	SSPACE = 16384,
	FINALFUNC = ringfence.ndjson_finish,
	FINALFUNC_MODIFY = READ_WRITE,
	COMBINEFUNC = ringfence.csv_merge,
	PARALLEL = SAFE
);
REVOKE EXECUTE ON FUNCTION ringfence.ndjson(record) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ndjson(record)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON AGGREGATE ringfence.ndjson(record) IS
	'rows as JSON objects, one a line, as row_to_json() has them; NULL rows are passed over; 54000 beyond 1 GB';

-- For the schemas that PostgREST serves: what it asks for by "Accept". There a read
-- can't be put on record, so that where it must be, it is refused.

CREATE FUNCTION ringfence.refuse_unrecorded_export() RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (
		SELECT FROM ringfence_data.orgs AS o
		WHERE o.id = ringfence.org_id() AND o.settings ->> 'record_exports' = 'true'
	) THEN
		RAISE EXCEPTION 'exports of this organization go on record'
			USING ERRCODE = 'PT403', HINT = 'POST to /rpc/start_export.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.refuse_unrecorded_export() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.refuse_unrecorded_export()
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.refuse_unrecorded_export() IS
	'refuses (PT403) what would leave without a record, where the settings of the context''s organization have record_exports: true';

CREATE FUNCTION ringfence.csv_finish_unrecorded(state bytea) RETURNS ringfence."text/csv"
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_csv_finish_unrecorded';
REVOKE EXECUTE ON FUNCTION ringfence.csv_finish_unrecorded(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.csv_finish_unrecorded(bytea) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.csv_finish_unrecorded(bytea) IS
	'what was written, unless refuse_unrecorded_export() has something against it; for csv() of an app''s API';

CREATE FUNCTION ringfence.ndjson_finish_unrecorded(state bytea) RETURNS ringfence."application/x-ndjson"
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_csv_finish_unrecorded';
REVOKE EXECUTE ON FUNCTION ringfence.ndjson_finish_unrecorded(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ndjson_finish_unrecorded(bytea) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.ndjson_finish_unrecorded(bytea) IS
	'what was written, unless refuse_unrecorded_export() has something against it; for ndjson() of an app''s API';

CREATE FUNCTION ringfence.serve_formats(api regnamespace) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	f record;
BEGIN
	FOR f IN
		SELECT v.name, v.what
		FROM (VALUES
			('csv', 'rows as CSV, for requests with "Accept: text/csv"'),
			('ndjson', 'rows as JSON objects, one a line, for requests with "Accept: application/x-ndjson"')
		) AS v (name, what)
	LOOP
		EXECUTE format('CREATE AGGREGATE %s.%I(data anyelement) (SFUNC = ringfence.%I, STYPE = bytea, SSPACE = 16384, '
			'FINALFUNC = ringfence.%I, FINALFUNC_MODIFY = READ_WRITE, COMBINEFUNC = ringfence.csv_merge, PARALLEL = SAFE)',
			api, f.name, f.name || '_add', f.name || '_finish_unrecorded');
		EXECUTE format('REVOKE EXECUTE ON FUNCTION %s.%I(anyelement) FROM PUBLIC', api, f.name);
		EXECUTE format('GRANT EXECUTE ON FUNCTION %s.%I(anyelement) TO ringfence_member, ringfence_operator', api, f.name);
		EXECUTE format('COMMENT ON AGGREGATE %s.%I(anyelement) IS %L', api, f.name,
			f.what || '; PT403 where the organization''s exports go on record; 54000 beyond 1 GB');
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.serve_formats(regnamespace) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.serve_formats(regnamespace) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.serve_formats(regnamespace) IS
	'has PostgREST answer with CSV or NDJSON whatever a schema serves, for requests that accept it: makes the aggregates csv and ndjson there; 42501, 42723 if they are there';
