# Sourced by demo.sh: an exclusive, from the first tap to the books. The keys are
# those of the demo data of app merchant.

dana=0d9f6c2e-0005-7000-8000-0000a0000001
asada=0d9f6c2e-0003-7000-8000-0000a0000001
exclusive=0d9f6c2e-0004-7000-8000-0000a0000001
other_exclusive=0d9f6c2e-0004-7000-8000-0000a0000003

# call TITLE WHO FUNCTION ARGUMENTS SQL: one request to /rpc, for what SQL selects.
call() {
	local columns=${5#SELECT }
	columns=${columns%% FROM *}
	show "$1" "$2" POST "/rpc/$3?select=${columns//, /,}" "$4" "$5" merchant_v1
}

balances() {
	local columns=driver_nova,merchant_nova,nova_sold,nova_rewards,nova_grants
	show "$1" juniper_owner GET "/overview?select=$columns" '' \
		"SELECT ${columns//,/, } FROM merchant_v1.overview" merchant_v1
	show "... Asada's budget" juniper_merchant GET '/wallet?select=balance,held,available' '' \
		'SELECT balance, held, available FROM merchant_v1.wallet' merchant_v1
	show "... and the driver's wallet" juniper_driver GET '/wallet?select=balance,available,expected' '' \
		'SELECT balance, available, expected FROM merchant_v1.wallet' merchant_v1
}

key=$(cat /proc/sys/kernel/random/uuid)
call "Juniper Charge grants a driver 50 Nova, with a reason and an Idempotency-Key" juniper_owner grant_nova \
	'{"amount": 50, "reason": "welcome", "driver": "'$dana'"}' \
	"SELECT id, type, amount, reference FROM merchant_v1.grant_nova(50, 'welcome', driver => '$dana')"
key=
call "... without a key: refused" juniper_owner grant_nova \
	'{"amount": 50, "reason": "welcome", "driver": "'$dana'"}' \
	"SELECT id FROM merchant_v1.grant_nova(50, 'welcome', driver => '$dana')"
balances "What there is before"

call "A driver at a charger says where they are" juniper_driver capture_intent \
	'{"lat": 30.2672, "lng": -97.7431}' \
	'SELECT id, tier, charger_id, charger_distance_m FROM merchant_v1.capture_intent(30.2672, -97.7431)'
intent=$(sql "SELECT id FROM merchant.intents WHERE driver_id = '$dana' ORDER BY created_at DESC LIMIT 1")
call "... and activates the exclusive of a merchant beside it" juniper_driver activate_exclusive \
	'{"perk": "'$exclusive'", "intent": "'"$intent"'"}' \
	"SELECT id, state, reward_nova, price_nova FROM merchant_v1.activate_exclusive('$exclusive', '$intent')"
session=$(sql "SELECT id FROM merchant.exclusive_sessions WHERE driver_id = '$dana' AND state = 'ACTIVE'")
call "... taps again: the same session" juniper_driver activate_exclusive \
	'{"perk": "'$exclusive'", "intent": "'"$intent"'"}' \
	"SELECT id, state, reward_nova, price_nova FROM merchant_v1.activate_exclusive('$exclusive', '$intent')"
call "... wants another one at the same time: refused" juniper_driver activate_exclusive \
	'{"perk": "'$other_exclusive'", "intent": "'"$intent"'"}' \
	"SELECT id FROM merchant_v1.activate_exclusive('$other_exclusive', '$intent')"
call "A driver of Kestrel Charge asks for the same exclusive: there is none" kestrel_driver activate_exclusive \
	'{"perk": "'$exclusive'", "intent": "'"$intent"'"}' \
	"SELECT id FROM merchant_v1.activate_exclusive('$exclusive', '$intent')"
show "Another driver of Juniper Charge asks for the session: there is none" juniper_driver2 GET \
	"/exclusive_sessions?id=eq.$session" '' "SELECT * FROM merchant_v1.exclusive_sessions WHERE id = '$session'" merchant_v1
show "... for the driver's Nova: there is none" juniper_driver2 GET \
	"/wallet?party_id=eq.$dana" '' "SELECT * FROM merchant_v1.wallet WHERE party_id = '$dana'" merchant_v1
show "... and for where the driver was" juniper_driver2 GET \
	"/intents?driver_id=eq.$dana" '' "SELECT * FROM merchant_v1.intents WHERE driver_id = '$dana'" merchant_v1

call "At the merchant's the driver gets a code" juniper_driver verify_visit '{"session": "'"$session"'"}' \
	"SELECT code, expires_at FROM merchant_v1.verify_visit('$session')"
code=$(sql "SELECT c.code FROM merchant.visit_codes AS c JOIN merchant.visits AS v ON v.org_id = c.org_id AND v.id = c.visit_id WHERE v.session_id = '$session'")
show "... which the merchant can't read, only be shown" juniper_merchant GET \
	"/visits?select=id,code,redeemed_at&session_id=eq.$session" '' \
	"SELECT id, code, redeemed_at FROM merchant_v1.visits WHERE session_id = '$session'" merchant_v1
guess=ATX-ASADA-000000000000
call "The merchant guesses: wrong codes are counted, so they are answered and not raised" juniper_merchant redeem_visit \
	'{"code": "'$guess'"}' "SELECT result, attempts_left FROM merchant_v1.redeem_visit('$guess')"
call "The merchant redeems the code: the price is paid, and the reward that was on hold" juniper_merchant redeem_visit \
	'{"code": "'"$code"'"}' "SELECT result, reward_nova, price_nova FROM merchant_v1.redeem_visit('$code')"
call "... once" juniper_merchant redeem_visit '{"code": "'"$code"'"}' \
	"SELECT result, redeemed_at FROM merchant_v1.redeem_visit('$code')"
call "The driver is done" juniper_driver complete_exclusive '{"session": "'"$session"'"}' \
	"SELECT id, state, ended_at FROM merchant_v1.complete_exclusive('$session')"
balances "What there is after"
show "The driver's feed" juniper_driver GET '/activity?select=event,nova&order=happened_at.desc&limit=6' '' \
	'SELECT event, nova FROM merchant_v1.activity ORDER BY happened_at DESC LIMIT 6' merchant_v1

call "The operator stops everything" juniper_admin emergency_pause '{"reason": "a demo"}' \
	"SELECT paused FROM merchant_v1.emergency_pause('a demo')"
call "... which a driver is told" juniper_driver activate_exclusive \
	'{"perk": "'$exclusive'", "intent": "'"$intent"'"}' \
	"SELECT id FROM merchant_v1.activate_exclusive('$exclusive', '$intent')"
call "... and goes on" juniper_admin emergency_resume '{"reason": "the demo goes on"}' \
	"SELECT paused FROM merchant_v1.emergency_resume('the demo goes on')"
call "A top-up that is on record comes again: its payment id says so, and nothing is posted" juniper_owner topup_merchant \
	'{"merchant": "'$asada'", "amount": 1000, "payment_id": "demo-1"}' \
	"SELECT id, type, amount, reference FROM merchant_v1.topup_merchant('$asada', 1000, 'demo-1')"
by_superuser "The operator's own accounts, and whether all adds up" \
	"SELECT a.code, ringfence.normal_balance(a.kind, sum(b.debits)::bigint, sum(b.credits)::bigint) AS balance
	FROM ringfence_data.ledger_accounts AS a
	JOIN ringfence_data.ledger_balances AS b ON b.org_id = a.org_id AND b.account_id = a.id
	WHERE a.org_id = '0d9f6c2e-0000-7000-8000-00000000000a' AND a.party_id IS NULL GROUP BY a.code, a.kind ORDER BY a.code;
SELECT (SELECT count(*) FROM ringfence.ledger_verify()) + (SELECT count(*) FROM merchant.nova_verify()) AS problems;"
