# Sourced by demo.sh: the sales ledger of one organization as a file, what is on
# record of that, and a larger export in parts.

# What a function returned, lines ended by a character that psql's output hasn't.
file_sql="translate(string_agg(convert_from(pgrst_scalar::bytea, 'UTF8'), ''), E'\\n\\r', E'\\036')"
quarter='"from": "2025-01-01", "to": "2025-03-31"'
accept=text/csv
answered_as=${file_sql/convert_from(pgrst_scalar::bytea, \'UTF8\')/pgrst_scalar}
show "The owner of Alder Clean takes the sales ledger of a quarter along, as a file" \
	alder_owner POST /rpc/export_sales_ledger "{$quarter}" \
	"SELECT cleaning_v1.export_sales_ledger('2025-01-01', '2025-03-31') AS pgrst_scalar"
if [ -n "$postgrest" ]; then
	echo
	bold "... whose bytes have that digest"
	echo "  openssl dgst -sha256 -binary sales-ledger.csv | base64"
	openssl dgst -sha256 -binary "$work/answer" | base64 | sed 's/^/      /'
fi
show "... a worker does not" alder_worker POST /rpc/export_sales_ledger "{$quarter}" \
	"SELECT cleaning_v1.export_sales_ledger('2025-01-01', '2025-03-31') AS pgrst_scalar"
accept=
answered_as=
record='select=name,from,to,rows,bytes,sha256,requested_by&order=created_at.desc&limit=1'
record_sql='SELECT name, "from", "to", rows, bytes, sha256, requested_by FROM ringfence_v1.exports ORDER BY created_at DESC LIMIT 1'
show "It is on record: who, what, how much, and which bytes" alder_owner GET "/exports?$record" '' "$record_sql" ringfence_v1
show "... not for the owner of Birch Services" birch_owner GET "/exports?$record" '' "$record_sql" ringfence_v1

show "All bookings, in parts: a job is to write them" alder_owner POST '/rpc/start_export?select=name,state,filename' '{"name": "bookings"}' \
	"SELECT name, state, filename FROM ringfence_v1.start_export('bookings')" ringfence_v1
by_superuser "... every minute; here at once, in parts of 32 kB instead of 1 MB" "SET ringfence.export_part_bytes = '32kB';
CALL ringfence.run_job('exports');"
export=$(sql "SELECT id FROM ringfence_data.exports WHERE org_id = '$alder' AND parts > 0 ORDER BY id DESC LIMIT 1")
show "It is done" alder_owner GET "/exports?select=state,rows,expected_rows,parts,percent,rows_per_second&id=eq.$export" '' \
	"SELECT state, rows, expected_rows, parts, percent, rows_per_second FROM ringfence_v1.exports WHERE id = '$export'" ringfence_v1
answered_as="string_agg(pgrst_scalar::text, '')"
show "... of these parts" alder_owner GET "/rpc/export_manifest?id=$export" '' \
	"SELECT ringfence_v1.export_manifest('$export') AS pgrst_scalar" ringfence_v1
answered_as=$file_sql
show "... which are fetched one by one" alder_owner GET "/rpc/export_part?id=$export&part=2" '' \
	"SELECT ringfence_v1.export_part('$export', 2) AS pgrst_scalar" ringfence_v1
answered_as=
