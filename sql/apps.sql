-- Apps: tables, policies and endpoints from scripts beside the extension's own,
-- made as ordinary objects of ringfence_owner.

CREATE FUNCTION ringfence.app_files(OUT app text, OUT version text, OUT target text) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_app_files';
REVOKE EXECUTE ON FUNCTION ringfence.app_files() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.app_files() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.app_files() IS
	'the app scripts of this server: those that install a version (target is NULL) and those that update one to another';

CREATE FUNCTION ringfence.app_script(app text, version text, target text DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_app_script';
REVOKE EXECUTE ON FUNCTION ringfence.app_script(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.app_script(text, text, text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.app_script(text, text, text) IS
	'the text of an app script; 22023 for a name that is none, 58P01 if there is no such file';

CREATE FUNCTION ringfence.run_script(script text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_run_script';
REVOKE EXECUTE ON FUNCTION ringfence.run_script(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.run_script(text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.run_script(text) IS
	'runs the statements of a script one by one in this transaction, as the current user';

CREATE FUNCTION ringfence.installing() RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ringfence_installing';
REVOKE EXECUTE ON FUNCTION ringfence.installing() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.installing() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.installing() IS
	'whether an app''s script is being run, which declares what is its own';

CREATE FUNCTION ringfence.app_header(script text, field text) RETURNS name[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN coalesce(
	regexp_split_to_array(
		substring(split_part(script, E'\n\n', 1) FROM '(?n)^-- ' || field || ': *(\S.*)$'),
		'\s*,\s*')::name[],
	'{}');
REVOKE EXECUTE ON FUNCTION ringfence.app_header(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.app_header(text, text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.app_header(text, text) IS
	'a field of the comment that heads an app script ("-- requires: core"), as a list';

-- Versions compare as lists of numbers: 0.10 comes after 0.9.
CREATE FUNCTION ringfence.latest_app_version(app text) RETURNS text
LANGUAGE sql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.version
	FROM ringfence.app_files() AS f
	WHERE f.app = latest_app_version.app AND f.target IS NULL
	ORDER BY string_to_array(f.version, '.')::int[] DESC
	LIMIT 1
$$;
REVOKE EXECUTE ON FUNCTION ringfence.latest_app_version(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.latest_app_version(text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.latest_app_version(text) IS
	'the newest version of an app that this server can install, or NULL';

CREATE FUNCTION ringfence.installed_app_version(app text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('ringfence_data.apps') IS NULL THEN
		RETURN NULL;
	END IF;
	RETURN (SELECT a.version FROM ringfence_data.apps AS a WHERE a.app = installed_app_version.app);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.installed_app_version(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.installed_app_version(text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.installed_app_version(text) IS
	'the version of an app that is installed in this database, or NULL';

CREATE FUNCTION ringfence.install(app text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	newest text;
	script text;
	required text;
BEGIN
	-- One installation at a time. The first one in a database has no table to
	-- lock yet; of two, the second finds core's schema taken.
	IF to_regclass('ringfence_data.apps') IS NOT NULL THEN
		LOCK TABLE ringfence_data.apps IN SHARE ROW EXCLUSIVE MODE;
	END IF;
	IF ringfence.installed_app_version(app) IS NOT NULL THEN
		RAISE EXCEPTION 'app "%" is already installed', app
			USING ERRCODE = 'duplicate_object', HINT = 'ringfence.upgrade() brings it to a newer version.';
	END IF;
	newest := ringfence.latest_app_version(app);
	IF newest IS NULL THEN
		RAISE EXCEPTION 'app "%" does not exist', app
			USING ERRCODE = 'undefined_object', HINT = 'ringfence.apps() lists those that can be installed.';
	END IF;
	script := ringfence.app_script(app, newest);
	FOREACH required IN ARRAY ringfence.app_header(script, 'requires') LOOP
		IF ringfence.installed_app_version(required) IS NULL THEN
			PERFORM ringfence.install(required);
		END IF;
	END LOOP;

	PERFORM ringfence.prepare_database();
	PERFORM ringfence.run_script(script);
	INSERT INTO ringfence_data.apps (app, version, schemas, requires)
	VALUES (
		install.app,
		newest,
		ringfence.app_header(script, 'schemas'),
		ringfence.app_header(script, 'requires')::text[]
	);
END
$$;
ALTER FUNCTION ringfence.install(text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.install(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.install(text) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.install(text) IS
	'installs an app and those it requires, whole or not at all; its objects are ordinary ones of ringfence_owner, so pg_dump keeps them and DROP EXTENSION does not drop them; 42710 if it is installed, 42704 if there is no such app';

CREATE FUNCTION ringfence.upgrade(app text) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	installed text;
	newest text := ringfence.latest_app_version(app);
	path text[];
BEGIN
	LOCK TABLE ringfence_data.apps IN SHARE ROW EXCLUSIVE MODE;
	SELECT a.version INTO installed FROM ringfence_data.apps AS a WHERE a.app = upgrade.app FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'app "%" is not installed', app
			USING ERRCODE = 'undefined_object', HINT = 'Call ringfence.install().';
	END IF;
	IF newest IS NULL OR newest = installed THEN
		RETURN installed;
	END IF;

	WITH RECURSIVE files AS MATERIALIZED (
		SELECT f.version, f.target
		FROM ringfence.app_files() AS f
		WHERE f.app = upgrade.app AND f.target IS NOT NULL
	), walk AS (
		SELECT ARRAY[installed] AS steps
		UNION ALL
		SELECT w.steps || f.target
		FROM walk AS w
		INNER JOIN files AS f ON f.version = w.steps[cardinality(w.steps)]
		WHERE f.target <> ALL (w.steps)
	)
	SELECT w.steps INTO path
	FROM walk AS w
	WHERE w.steps[cardinality(w.steps)] = newest
	ORDER BY cardinality(w.steps), w.steps
	LIMIT 1;
	IF path IS NULL THEN
		RAISE EXCEPTION 'app "%" has no update path from version % to version %', app, installed, newest
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Its update scripts are missing from this server.';
	END IF;

	FOR step IN 2..cardinality(path) LOOP
		PERFORM ringfence.run_script(ringfence.app_script(app, path[step - 1], path[step]));
	END LOOP;
	UPDATE ringfence_data.apps AS a
	SET version = newest,
		schemas = ringfence.app_header(ringfence.app_script(upgrade.app, newest), 'schemas'),
		requires = ringfence.app_header(ringfence.app_script(upgrade.app, newest), 'requires')::text[]
	WHERE a.app = upgrade.app;
	RETURN newest;
END
$$;
ALTER FUNCTION ringfence.upgrade(text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.upgrade(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.upgrade(text) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.upgrade(text) IS
	'brings an installed app to the newest version that this server has, by its update scripts in order, whole or not at all; returns the version it has now; 42704, 55000 if a script is missing';

CREATE FUNCTION ringfence.uninstall(app text, force boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
DECLARE
	app_row record;
	dependent text;
	filled text;
	dropped name;
BEGIN
	LOCK TABLE ringfence_data.apps IN SHARE ROW EXCLUSIVE MODE;
	SELECT a.* INTO app_row FROM ringfence_data.apps AS a WHERE a.app = uninstall.app FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'app "%" is not installed', app USING ERRCODE = 'undefined_object';
	END IF;
	SELECT string_agg(a.app, ', ' ORDER BY a.app) INTO dependent
	FROM ringfence_data.apps AS a
	WHERE uninstall.app = ANY (a.requires);
	IF dependent IS NOT NULL THEN
		RAISE EXCEPTION 'app "%" is required by %', app, dependent
			USING ERRCODE = 'dependent_objects_still_exist', HINT = 'Uninstall those first.';
	END IF;
	IF NOT force THEN
		SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid::regclass::text) INTO filled
		FROM pg_class AS c
		WHERE c.relnamespace IN (SELECT to_regnamespace(quote_ident(s)) FROM unnest(app_row.schemas) AS s)
			AND c.relkind = 'r'
			AND c.oid NOT IN (
				SELECT t.relation FROM ringfence_data.tables AS t
				WHERE t.row_class = 'system' AND app = 'core'
			)
			AND ringfence.has_rows(c.oid);
		IF filled IS NOT NULL THEN
			RAISE EXCEPTION 'app "%" has rows', app
				USING ERRCODE = 'dependent_objects_still_exist',
				DETAIL = format('Tables with rows: %s.', filled),
				HINT = 'Export what you need, then call ringfence.uninstall() with force => true: it drops every row.';
		END IF;
	END IF;

	DELETE FROM ringfence_data.protected_schemas AS s WHERE s.schema_name = ANY (app_row.schemas);
	DELETE FROM ringfence_data.apps AS a WHERE a.app = uninstall.app;
	FOREACH dropped IN ARRAY app_row.schemas LOOP
		EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', dropped);
	END LOOP;
END
$$;
ALTER FUNCTION ringfence.uninstall(text, boolean) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.uninstall(text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.uninstall(text, boolean) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.uninstall(text, boolean) IS
	'drops an app''s schemas with all that is in them; refused (2BP01) while another app requires it and, unless forced, while any of its tables has rows';

CREATE FUNCTION ringfence.apps(
	OUT app text,
	OUT installed text,
	OUT available text,
	OUT requires text[],
	OUT schemas name[]
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	FOR app, available IN
		SELECT f.app, ringfence.latest_app_version(f.app)
		FROM ringfence.app_files() AS f
		GROUP BY f.app
		ORDER BY f.app
	LOOP
		installed := ringfence.installed_app_version(app);
		requires := ringfence.app_header(ringfence.app_script(app, available), 'requires')::text[];
		schemas := ringfence.app_header(ringfence.app_script(app, available), 'schemas');
		RETURN NEXT;
	END LOOP;
END
$$;
ALTER FUNCTION ringfence.apps() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.apps() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.apps() TO pg_database_owner;
COMMENT ON FUNCTION ringfence.apps() IS
	'the apps that this server has scripts for: installed version or NULL, newest version, what each requires and the schemas it makes';
