# Sourced by demo.sh: what is shown. The keys are those of the demo data.

alder=0d9f6c1e-0000-7000-8000-00000000000a
birch=0d9f6c1e-0000-7000-8000-00000000000b
client_b=0d9f6c1e-0002-7000-8000-0000b0000001
client_none=0d9f6c1e-0002-7000-8000-0000fffffff1
columns='id,status,starts_at,price_minor,currency'
latest='/bookings?select='$columns'&order=starts_at.desc&limit=3'
latest_sql="SELECT ${columns//,/, } FROM cleaning_v1.bookings ORDER BY starts_at DESC LIMIT 3"

show "The owner of Alder Clean reads the latest bookings" \
	alder_owner GET "$latest" '' "$latest_sql"
show "The owner of Birch Services sends the same request and gets other rows" \
	birch_owner GET "$latest" '' "$latest_sql"
show "A worker of Alder Clean sees the bookings of the own team, without prices" \
	alder_worker GET "$latest" '' "$latest_sql"
show "... and what colleagues cost not at all" \
	alder_worker GET '/worker_rates' '' 'SELECT * FROM cleaning_v1.worker_rates'
show "A client of Alder Clean sees the own invoices" \
	alder_client GET '/invoices?select=number,client_id,total_minor,currency,status&order=number&limit=3' '' \
	'SELECT number, client_id, total_minor, currency, status FROM cleaning_v1.invoices ORDER BY number LIMIT 3'
show "... and one client: the own record" \
	alder_client GET '/clients?select=id,name' '' 'SELECT id, name FROM cleaning_v1.clients'
show "A caller without a token is refused" \
	nobody GET '/bookings?limit=1' '' 'SELECT * FROM cleaning_v1.bookings LIMIT 1'
show "Alder Clean asks for a client of Birch Services by its key: there is none" \
	alder_owner GET "/clients?id=eq.$client_b" '' "SELECT * FROM cleaning_v1.clients WHERE id = '$client_b'"
show "... tries to change it: no row is found" \
	alder_owner PATCH "/clients?id=eq.$client_b" '{"name": "Taken over"}' \
	"UPDATE cleaning_v1.clients SET name = 'Taken over' WHERE id = '$client_b' RETURNING clients.*"
show "... plants a row there: refused" \
	alder_owner POST /clients '{"org_id": "'$birch'", "name": "Planted"}' \
	"INSERT INTO cleaning_v1.clients (org_id, name) VALUES ('$birch', 'Planted') RETURNING clients.*"
booking() {
	show "$1" alder_owner POST /bookings \
		'{"client_id": "'"$2"'", "starts_at": "2026-03-02T09:00:00Z", "ends_at": "2026-03-02T11:00:00Z", "address": "1 Demo Street"}' \
		"INSERT INTO cleaning_v1.bookings (client_id, starts_at, ends_at, address) VALUES ('$2', '2026-03-02 09:00+00', '2026-03-02 11:00+00', '1 Demo Street') RETURNING bookings.*"
}
booking "... books a visit for a client of Birch Services: the foreign key carries the organization" "$client_b"
booking "... for a client who exists nowhere: the very same answer, so nothing can be probed" "$client_none"
show "A careless endpoint pastes its argument into SQL: used as meant" \
	alder_owner POST /rpc/search_clients '{"term": "a%"}' "SELECT * FROM demo_v1.search_clients('a%') AS name" demo_v1
injected="x' UNION ALL SELECT set_config('request.jwt.claims', '{\"sub\": \"0d9f6c1e-0001-7000-8000-0000b0000001\", \"org_id\": \"$birch\", \"role\": \"ringfence_member\"}', true) UNION ALL SELECT c.name FROM cleaning_v1.clients AS c WHERE c.name ILIKE '%"
show "... with an injected set_config that claims to be the owner of Birch Services: refused" \
	alder_owner POST /rpc/search_clients '{"term": "'"${injected//\"/\\\"}"'"}' \
	"SELECT * FROM demo_v1.search_clients('${injected//\'/\'\'}') AS name" demo_v1
booking=$(sql "SELECT id FROM cleaning.bookings WHERE org_id = '$alder' AND team_id = '0d9f6c1e-0003-7000-8000-0000a0000001' ORDER BY (status = 'draft') DESC, id LIMIT 1")
show "A worker tries to confirm a booking of the own team: that is for the office" \
	alder_worker POST /rpc/confirm_booking '{"booking": "'"$booking"'"}' \
	"SELECT * FROM cleaning_v1.confirm_booking('$booking')"
key=$(cat /proc/sys/kernel/random/uuid)
payer="Payer ${key%%-*}"
pay() {
	show "$1" alder_owner POST /payments '{"amount_minor": '"$2"', "paid_by": "'"$payer"'"}' \
		"INSERT INTO demo_v1.payments (amount_minor, paid_by) VALUES ($2, '$payer') RETURNING payments.*" demo_v1
}
pay "A payment is posted, with an Idempotency-Key" 10511
pay "... again, as if no answer had arrived: the answer is that of before, and nothing is done" 10511
pay "... and a third time" 10511
pay "... with the same key, but another amount: refused" 99
key=
show "There is one payment" \
	alder_owner GET "/payments?paid_by=eq.${payer/ /%20}" '' "SELECT * FROM demo_v1.payments WHERE paid_by = '$payer'" demo_v1
show "The owner adds a team: the database knows whose it is" \
	alder_owner POST /teams '{"name": "Demo team"}' "INSERT INTO cleaning_v1.teams (name) VALUES ('Demo team') RETURNING teams.*"
reason='a slip of the pen'
show "... and removes it again, with a reason" \
	alder_owner DELETE '/teams?name=eq.Demo%20team' '' "DELETE FROM cleaning_v1.teams WHERE name = 'Demo team' RETURNING teams.*"
reason=
recorded=recorded_at,operation,key,user_id,reason,old,new
show "Both are on record, for owners and admins" \
	alder_owner GET "/audit_log?select=$recorded&relation=eq.cleaning.teams&order=recorded_at.desc&limit=2" '' \
	"SELECT ${recorded//,/, } FROM ringfence_v1.audit_log WHERE relation = 'cleaning.teams' ORDER BY recorded_at DESC LIMIT 2" ringfence_v1
show "... not for a worker" \
	alder_worker GET '/audit_log?limit=1' '' 'SELECT * FROM ringfence_v1.audit_log LIMIT 1' ringfence_v1

by_superuser "Every minute a job seals what was recorded" "SELECT ringfence.audit_seal();"
record=$(sql "SELECT l.id FROM ringfence_data.audit_log AS l WHERE l.org_id = '$alder' AND l.operation = 'DELETE' AND l.reason = 'a slip of the pen' ORDER BY l.recorded_at DESC LIMIT 1")
forgery="UPDATE ringfence_data.audit_log SET reason = 'the owner told me to'
	WHERE id = '$record';"
by_superuser "A superuser writes another reason into the record: refused" "$forgery"
by_superuser "... with triggers out of the way: nothing refuses it" "BEGIN;
SET LOCAL session_replication_role = replica;
$forgery
COMMIT;"
by_superuser "... but it is found" "SELECT block, record, problem, detail FROM ringfence.audit_verify();"
show "The owner of Alder Clean can look as well" \
	alder_owner POST /rpc/audit_verify '{}' 'SELECT * FROM ringfence_v1.audit_verify()' ringfence_v1
show "... and the owner of Birch Services, into their own part: nothing is wrong" \
	birch_owner POST /rpc/audit_verify '{}' 'SELECT * FROM ringfence_v1.audit_verify()' ringfence_v1
show "... who keeps a checkpoint, by which even the removal of the newest blocks will be found" \
	birch_owner POST /rpc/audit_checkpoint '{}' 'SELECT ringfence_v1.audit_checkpoint()' ringfence_v1
by_superuser "With the record as it was, all is well again" "BEGIN;
SET LOCAL session_replication_role = replica;
${forgery/the owner told me to/a slip of the pen}
COMMIT;
SELECT count(*) AS problems FROM ringfence.audit_verify();"
