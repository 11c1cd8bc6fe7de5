-- Prints what plpgsql_check says and fails where it says anything. A trigger
-- function is checked for each table that it stands on.
CREATE EXTENSION plpgsql_check;

-- Functions whose dynamic statements hold lists of quoted names, or expressions
-- built of them, in text variables: read, and found safe. What plpgsql_check
-- can't follow through a variable, it calls vulnerable.
CREATE TEMPORARY TABLE reviewed (function regproc PRIMARY KEY);
INSERT INTO reviewed (function)
SELECT to_regproc(r.name)
	FROM (VALUES
		('ringfence.adopt_refuse_unassigned'),
		('ringfence.audit_ddl'),
		('ringfence.audit_present_row'),
		('ringfence.create_policies'),
		('ringfence.lead_key_with_org'),
		('ringfence.ledger_guard'),
		('ringfence.foreign_key_problems'),
		('ringfence.add_foreign_key')) AS r (name)
	WHERE to_regproc(r.name) IS NOT NULL;

CREATE TEMPORARY TABLE findings AS
SELECT c.function, c.relation, f.lineno, f.level, f.sqlstate, f.message, f.detail, f.query
	FROM (
			SELECT p.oid::regprocedure AS function, coalesce(t.tgrelid, 0)::regclass AS relation
				FROM pg_proc AS p
					JOIN pg_namespace AS n ON n.oid = p.pronamespace
					JOIN pg_language AS l ON l.oid = p.prolang
					LEFT JOIN LATERAL (
						SELECT DISTINCT d.tgrelid
							FROM pg_trigger AS d
							WHERE d.tgfoid = p.oid
								AND p.prorettype = 'trigger'::regtype) AS t ON true
				WHERE l.lanname = 'plpgsql'
					AND n.nspname ~ '^(ringfence|cleaning|merchant)'
					AND (p.prorettype <> 'trigger'::regtype OR t.tgrelid IS NOT NULL)) AS c
		CROSS JOIN LATERAL plpgsql_check_function_tb(c.function, c.relation,
			fatal_errors => false, extra_warnings => true, performance_warnings => false,
			security_warnings => true) AS f
	WHERE NOT (f.level = 'security' AND c.function::oid IN (SELECT r.function FROM reviewed AS r))
		-- A result that comes from RETURN QUERY EXECUTE.
		AND f.detail IS DISTINCT FROM 'cannot to determine result of dynamic SQL'
		-- What a range is called in requests.
		AND f.message !~ '^name of parameter "(from|to)" is reserved keyword$';

SELECT function, relation, lineno, level, sqlstate, message, detail, query
	FROM findings
	ORDER BY function::text, relation::text, lineno;

SELECT count(*) AS checked
	FROM pg_proc AS p
		JOIN pg_namespace AS n ON n.oid = p.pronamespace
		JOIN pg_language AS l ON l.oid = p.prolang
	WHERE l.lanname = 'plpgsql' AND n.nspname ~ '^(ringfence|cleaning|merchant)';

DO $$
BEGIN
	IF EXISTS (SELECT FROM findings) THEN
		RAISE EXCEPTION 'plpgsql_check found % defects', (SELECT count(*) FROM findings);
	END IF;
END
$$;
