-- What a request gets by "Accept": any view or function of this schema as CSV or
-- NDJSON. PostgREST finds the aggregates by the names of the types they return.

CREATE AGGREGATE ringfence_v1.csv(data anyelement) (
	SFUNC = ringfence.csv_add,
	STYPE = bytea,
	SSPACE = 16384,
	FINALFUNC = ringfence.csv_finish_unrecorded,
	FINALFUNC_MODIFY = READ_WRITE,
	COMBINEFUNC = ringfence.csv_merge,
	PARALLEL = SAFE
);
REVOKE EXECUTE ON FUNCTION ringfence_v1.csv(anyelement) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.csv(anyelement) TO ringfence_member, ringfence_operator;
COMMENT ON AGGREGATE ringfence_v1.csv(anyelement) IS
	'rows as CSV, for requests with "Accept: text/csv"; PT403 where the organization''s exports go on record; 54000 beyond 1 GB';

CREATE AGGREGATE ringfence_v1.ndjson(data anyelement) (
	SFUNC = ringfence.ndjson_add,
	STYPE = bytea,
	SSPACE = 16384,
	FINALFUNC = ringfence.ndjson_finish_unrecorded,
	FINALFUNC_MODIFY = READ_WRITE,
	COMBINEFUNC = ringfence.csv_merge,
	PARALLEL = SAFE
);
REVOKE EXECUTE ON FUNCTION ringfence_v1.ndjson(anyelement) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.ndjson(anyelement) TO ringfence_member, ringfence_operator;
COMMENT ON AGGREGATE ringfence_v1.ndjson(anyelement) IS
	'rows as JSON objects, one a line, for requests with "Accept: application/x-ndjson"; PT403 where the organization''s exports go on record; 54000 beyond 1 GB';
