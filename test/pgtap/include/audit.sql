-- What the audit log got since news() was last asked: a line for each record, in
-- order, as "OPERATION table key old -> new", with personal values where they
-- belong; events as "EVENT action subject details". Of ringfence's own tables
-- nothing is told. It reads past row security; what a ROLLBACK takes along it
-- never tells. A member can't ask amid a request, for it sets a setting.
CREATE FUNCTION public.news() RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
AS $$
DECLARE
	seen CONSTANT text := coalesce(nullif(current_setting('test.seen', true), ''), '00000000-0000-0000-0000-000000000000');
BEGIN
	RETURN QUERY
	SELECT concat_ws(' ', l.operation, l.action, regexp_replace(r.name, '^public\.', ''), l.key,
		ringfence.audit_values(l.old, l.personal, 'old')::text, CASE WHEN l.action IS NULL AND l.operation <> 'TRUNCATE' THEN '->' END,
		ringfence.audit_values(l.new, l.personal, 'new')::text)
	FROM ringfence_data.audit_log AS l
	LEFT JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id
	WHERE l.id::text > seen AND coalesce(r.name, '') NOT LIKE 'ringfence_data.%'
	ORDER BY l.recorded_at, l.id;
	PERFORM set_config('test.seen', (SELECT max(l.id::text) FROM ringfence_data.audit_log AS l), false);
END
$$;

-- The newest record, but of entries into organizations: another process notes their
-- end, whenever that is.
CREATE VIEW public.newest AS
SELECT l.org_id, l.id, l.recorded_at, l.transaction_id, l.relation_id, l.user_id, l.operation COLLATE "default" AS operation,
	l.actor COLLATE "default" AS actor, l.login COLLATE "default" AS login, l.role COLLATE "default" AS role,
	l.action COLLATE "default" AS action, l.key COLLATE "default" AS key, l.request_id COLLATE "default" AS request_id,
	l.correlation_id COLLATE "default" AS correlation_id, l.client_ip, l.user_agent, l.reason, l.old, l.new, l.personal
FROM ringfence_data.audit_log AS l
LEFT JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id
WHERE r.relation IS DISTINCT FROM 'ringfence_data.org_entries'::regclass
ORDER BY l.recorded_at DESC, l.id DESC
LIMIT 1;
SELECT count(*) AS before FROM public.news() \gset
