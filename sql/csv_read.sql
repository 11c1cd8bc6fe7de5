-- CSV text as rows (src/csv_read.c, src/csv_split.c).

CREATE FUNCTION ringfence.csv_rows(
	csv text,
	delimiter text DEFAULT ','
) RETURNS TABLE (line integer, cells text[])
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_csv_rows';
REVOKE EXECUTE ON FUNCTION ringfence.csv_rows(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.csv_rows(text, text)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.csv_rows(text, text) IS
	'the records of CSV text (RFC 4180) in order, the header too: the line of the text that each begins on, from 1, and its cells, NULL for an empty cell without quotes; lines without a byte are passed over; the delimiter is one character of ASCII that is no letter, digit, quote or line end; 22P04 with the line for what is no CSV, 22023 for another delimiter';

CREATE FUNCTION ringfence.csv_table(
	csv text,
	columns text[],
	required text[] DEFAULT '{}',
	delimiter text DEFAULT ',',
	max_rows integer DEFAULT 2147483647,
	ragged boolean DEFAULT false
) RETURNS TABLE (line integer, cells text[])
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_csv_table';
REVOKE EXECUTE ON FUNCTION ringfence.csv_table(text, text[], text[], text, integer, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.csv_table(text, text[], text[], text, integer, boolean)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.csv_table(text, text[], text[], text, integer, boolean) IS
	'the records of CSV text after its header, as csv_rows() has them, but with the cells of the columns in the order given, NULL for a column that the header lacks; the header has each of those required, no other than those given and none twice, in any order and ASCII case, blanks around a name ignored; with "ragged", cells missing at the end of a record are NULL; 22P04 with the line where header or records are otherwise, 54000 for more than max_rows records, 22023 for columns that are no list of different names';
