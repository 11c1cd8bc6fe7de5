-- What a request gets by "Accept": any view or function of this schema as CSV or
-- NDJSON. PostgREST finds the aggregates by the names of the types they return.
SELECT ringfence.serve_formats('ringfence_v1');
