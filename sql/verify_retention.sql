-- verify(), part six: what is personal leaves some day, or is kept for a reason,
-- and the jobs that see to it run.

CREATE FUNCTION ringfence.verify_retention()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('ringfence_data.retention_policies') IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY
	SELECT 'warning', 'personal_unretained', l.relation::text,
		format('nothing says how long its personal columns are kept: %s', string_agg(l.column_name::text, ', ' ORDER BY l.column_name)),
		format('SELECT ringfence.retain_forever(%L, ''nobody has said yet how long''); -- or ringfence.retain() with a period', l.relation)
	FROM ringfence_data.columns AS l
	INNER JOIN pg_class AS c ON c.oid = l.relation AND NOT c.relispartition
	WHERE l.label = 'personal' AND ringfence.column_type(l.relation, l.column_name::text) IS NOT NULL
		AND l.relation NOT IN (SELECT p.relation FROM ringfence_data.retention_policies AS p)
		AND l.relation NOT IN (SELECT p.rel FROM ringfence.partitions_leaving() AS p (rel))
	GROUP BY l.relation;

	RETURN QUERY
	SELECT 'error', 'retention_stale', format('%s, %s', p.relation, p.step),
		format('the policy names a column that does not exist: %s', n.name),
		format('SELECT ringfence.unretain(%s::oid::regclass, %L); -- and ringfence.retain() anew', p.relation::oid, p.step)
	FROM ringfence_data.retention_policies AS p
	CROSS JOIN LATERAL (
		SELECT p.column_name::text
		UNION SELECT r.key FROM jsonb_object_keys(coalesce(p.rules, '{}')) AS r (key)
		UNION SELECT f.key FROM jsonb_object_keys(coalesce(p.filter, '{}')) AS f (key)
	) AS n (name)
	WHERE n.name IS NOT NULL AND ringfence.column_type(p.relation, n.name) IS NULL;

	RETURN QUERY
	SELECT 'warning', CASE WHEN r.errors > 0 THEN 'retention_failing' ELSE 'retention_waiting' END, 'ringfence_data.retention_runs',
		CASE WHEN r.errors > 0 THEN format('the last run failed in part: %s', r.last_error)
			ELSE format('the last run had no time left, waiting for %s', r.waiting_for) END,
		'CALL ringfence.run_retention();'
	FROM (
		SELECT l.errors, l.last_error, l.waiting_for
		FROM ringfence_data.retention_runs AS l
		WHERE l.finished_at IS NOT NULL AND l.state <> 'interrupted'
		ORDER BY l.id DESC
		LIMIT 1
	) AS r
	WHERE r.errors > 0 OR r.waiting_for IS NOT NULL;

	RETURN QUERY
	SELECT 'error', 'retention_index_missing', format('%s, %s', p.relation, p.step),
		'each batch of the policy reads the whole table', ringfence.retention_index(p.relation, p.column_name, t.todo)
	FROM ringfence_data.retention_policies AS p
	CROSS JOIN LATERAL (SELECT ringfence.rule_todo(p.relation, p.rules, '') AS todo) AS t
	WHERE p.action IN ('delete', 'anonymize')
		AND ringfence.column_type(p.relation, p.column_name) IS NOT NULL
		AND NOT ringfence.has_retention_index(p.relation, p.column_name,
			array_remove(ARRAY[t.todo, CASE WHEN p.filter IS NOT NULL THEN ringfence.filter_condition(p.relation, p.filter, '') END], NULL));
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.verify_retention() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_retention() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_retention() IS
	'checks of verify(): tables with personal columns have a policy, and policies have the columns and the index that they need';
