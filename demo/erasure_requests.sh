# Sourced by demo.sh: how long things are kept, and what remains of a client and of a
# driver who want to be forgotten. Both are made here, so that it can be shown again.

# office TITLE FUNCTION ARGUMENTS SQL [QUERY [PROFILE]]: what the owner of Alder
# Clean has a function do; QUERY goes behind its path.
office() {
	show "$1" alder_owner POST "/rpc/$2${5:+?$5}" "$3" "$4" "${6:-cleaning_v1}"
}

periods='/retention?select=relation,step,action,keep,reason&relation=in.(cleaning.photos,cleaning.bookings,cleaning.invoices)&order=relation,step'
show "How long things are kept, and what becomes of them then" alder_owner GET "$periods" '' \
	"SELECT relation, step, action, keep, reason FROM ringfence_v1.retention WHERE relation IN ('cleaning.photos', 'cleaning.bookings', 'cleaning.invoices') ORDER BY relation, step" ringfence_v1
show "... an organization chooses for itself, within bounds: not this" alder_owner POST /rpc/set_retention \
	'{"relation": "cleaning.photos", "step": "delete", "keep": "5 years"}' \
	"SELECT ringfence_v1.set_retention('cleaning.photos', 'delete', '5 years')" ringfence_v1
by_superuser "What has come due, before anything is done" \
	"SELECT relation, step, action, rows, held, referenced, age FROM ringfence.retention_preview() WHERE rows > 0 ORDER BY rows DESC, relation LIMIT 6;"
by_superuser "Every hour a job sees to it" "CALL ringfence.run_retention(max_seconds => 60);
SELECT state, rows, batches, errors FROM ringfence_data.retention_runs ORDER BY id DESC LIMIT 1;
SELECT store, waiting FROM ringfence.tombstone_backlog();"

tag=$(cut -c 1-8 /proc/sys/kernel/random/uuid)
client=$(sql "INSERT INTO cleaning.clients (org_id, name, email, phone, address) VALUES ('$alder', 'Wanda Weber $tag', 'wanda.$tag@example.com', '+1 555 0199', '7 Lilac Lane') RETURNING id")
booking=$(sql "INSERT INTO cleaning.bookings (org_id, client_id, team_id, status, starts_at, ends_at, address, notes)
	VALUES ('$alder', '$client', '0d9f6c1e-0003-7000-8000-0000a0000001', 'confirmed', now(), now() + interval '2 hours', '7 Lilac Lane', 'Key under the mat') RETURNING id")
sql "INSERT INTO cleaning.booking_prices (org_id, booking_id, client_id, price_minor, currency, gst_rate) VALUES ('$alder', '$booking', '$client', 10010, 'CAD', 0.05)"
office "A worker's photo of a visit to a new client: the database says where it is to be stored" photo_begin \
	'{"booking": "'"$booking"'", "content_type": "image/jpeg", "size_bytes": 512000, "sha256": "'"$(printf '%064d' 0)"'"}' \
	"SELECT object_key FROM cleaning_v1.photo_begin('$booking', 'image/jpeg', 512000, '$(printf '%064d' 0)')" select=object_key
office "The visit is done, and invoiced" complete_booking '{"booking": "'"$booking"'"}' \
	"SELECT status, address FROM cleaning_v1.complete_booking('$booking')" select=status,address
erase='{"kind": "client", "id": "'"$client"'", "reason": "asked by mail"'
office "The client wants to be forgotten: what that would do" erase_subject "$erase}" \
	"SELECT relation, action, columns, rows FROM ringfence_v1.erase_subject('client', '$client', 'asked by mail') WHERE rows > 0" \
	'rows=gt.0' ringfence_v1
office "... and it is done" erase_subject "$erase, \"dry_run\": false}" \
	"SELECT relation, action, rows FROM ringfence_v1.erase_subject('client', '$client', 'asked by mail', false) WHERE rows > 0 AND action <> 'keep'" \
	'select=relation,action,rows&rows=gt.0&action=neq.keep' ringfence_v1
show "What remains: a client who is nobody" alder_owner GET "/clients?select=name,email,phone,address&id=eq.$client" '' \
	"SELECT name, email, phone, address FROM cleaning_v1.clients WHERE id = '$client'"
show "... the invoice, for the books" alder_owner GET "/invoices?select=number,total_minor,currency,status&client_id=eq.$client" '' \
	"SELECT number, total_minor, currency, status FROM cleaning_v1.invoices WHERE client_id = '$client'"
show "... without saying where it was" alder_owner GET "/invoice_items?select=description,net_minor&client_id=eq.$client" '' \
	"SELECT description, net_minor FROM cleaning_v1.invoice_items WHERE client_id = '$client'"
show "... what is on record of the record, without whom it was about" alder_owner GET \
	"/audit_log?select=operation,old,new,forgotten&relation=eq.cleaning.clients&key=eq.$client&order=recorded_at" '' \
	"SELECT operation, old, new, forgotten FROM ringfence_v1.audit_log WHERE relation = 'cleaning.clients' AND key = '$client' ORDER BY recorded_at" ringfence_v1
by_superuser "... and the photo, for a worker to delete: nobody can forget to" "BEGIN;
SET LOCAL ROLE ringfence_jobs;
SELECT store, object_key, created_at FROM ringfence_data.tombstones WHERE object_key LIKE '$alder/$booking/%';
COMMIT;"
by_superuser "The log is sealed, and nothing in it was altered but what was to be forgotten" \
	"SELECT ringfence.audit_seal() \\g /dev/null
SELECT count(*) AS problems FROM ringfence.audit_verify();"

phone=+1555$(shuf -i 1000000-9999999 -n 1)
driver=$(sql "SELECT ringfence.uuid7()")
show "A driver of Juniper Charge" juniper_owner POST /drivers '{"id": "'"$driver"'", "name": "Wim Wood", "phone": "'"$phone"'"}' \
	"INSERT INTO merchant_v1.drivers (id, name, phone) VALUES ('$driver', 'Wim Wood', '$phone') RETURNING drivers.*" merchant_v1
key=$(cat /proc/sys/kernel/random/uuid)
show "... who is given some Nova" juniper_owner POST /rpc/grant_nova '{"driver": "'"$driver"'", "amount": 25, "reason": "welcome"}' \
	"SELECT type, amount FROM merchant_v1.grant_nova(25, 'welcome', driver => '$driver')" merchant_v1
key=
show "... wants to be told what is known, as the law says" juniper_owner POST /rpc/export_subject '{"kind": "driver", "id": "'"$driver"'"}' \
	"SELECT document -> 'tables' -> 'merchant.drivers' AS drivers FROM ringfence_v1.export_subject('driver', '$driver') AS document" ringfence_v1
show "... and then to be forgotten" juniper_owner POST '/rpc/erase_subject?rows=gt.0' '{"kind": "driver", "id": "'"$driver"'", "reason": "left", "dry_run": false}' \
	"SELECT relation, action, rows FROM ringfence_v1.erase_subject('driver', '$driver', 'left', false) WHERE rows > 0" ringfence_v1
show "What remains: a wallet, for the books" juniper_owner GET "/wallet?select=party_kind,balance&party_id=eq.$driver" '' \
	"SELECT party_kind, balance FROM merchant_v1.wallet WHERE party_id = '$driver'" merchant_v1
show "... of somebody without a name" juniper_owner GET "/drivers?select=name,phone&id=eq.$driver" '' \
	"SELECT name, phone FROM merchant_v1.drivers WHERE id = '$driver'" merchant_v1
by_superuser "... and all adds up" \
	"SELECT (SELECT count(*) FROM ringfence.ledger_verify()) + (SELECT count(*) FROM merchant.nova_verify()) AS problems;"
