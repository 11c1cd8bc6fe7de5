-- How long rows are kept. Where a driver was is forgotten in 90 days, who it was in
-- a year: two steps of one table, each with bounds within which an operator of
-- chargers chooses. Sessions and visits stay, as figures; Nova is the ledger's.

CREATE INDEX intents_created_at_idx ON merchant.intents (org_id, created_at);
CREATE INDEX visit_codes_created_at_idx ON merchant.visit_codes (org_id, created_at);
CREATE INDEX redemption_attempts_since_idx ON merchant.redemption_attempts (org_id, since);
-- What is done leaves these.
CREATE INDEX exclusive_sessions_location_idx ON merchant.exclusive_sessions (org_id, ended_at) WHERE charger_id IS NOT NULL;
CREATE INDEX exclusive_sessions_driver_idx ON merchant.exclusive_sessions (org_id, ended_at)
	WHERE driver_id IS NOT NULL OR intent_id IS NOT NULL;
CREATE INDEX visits_driver_idx ON merchant.visits (org_id, verified_at) WHERE driver_id IS NOT NULL;

SELECT
	ringfence.retain('merchant.intents', 'created_at', '90 days', 'anonymize',
		'{"lat": "null", "lng": "null", "charger_id": "null", "charger_distance_m": "null"}', step => 'location',
		min_keep => '2 days', max_keep => '90 days', reason => 'where a driver was'),
	ringfence.retain('merchant.intents', 'created_at', '90 days', min_keep => '2 days', max_keep => '1 year',
		reason => 'good for a day; those of sessions go when the session forgets its driver'),
	ringfence.retain('merchant.exclusive_sessions', 'ended_at', '90 days', 'anonymize', '{"charger_id": "null"}', step => 'location',
		min_keep => '2 days', max_keep => '90 days', reason => 'where a driver was'),
	ringfence.retain('merchant.exclusive_sessions', 'ended_at', '1 year', 'anonymize', '{"driver_id": "null", "intent_id": "null"}',
		step => 'driver', min_keep => '90 days', max_keep => '1 year', reason => 'who it was'),
	ringfence.retain('merchant.visits', 'verified_at', '1 year', 'anonymize', '{"driver_id": "null"}', step => 'driver',
		min_keep => '90 days', max_keep => '1 year', reason => 'who it was; the visit stays, as a figure'),
	ringfence.retain('merchant.visit_codes', 'created_at', '90 days', min_keep => '8 days', max_keep => '1 year',
		reason => 'good for a week at most'),
	ringfence.retain('merchant.redemption_attempts', 'since', '30 days', min_keep => '8 days', max_keep => '90 days',
		reason => 'they count for a week at most'),
	ringfence.retain('merchant.claim_links', 'expires_at', '24 hours', reason => 'nobody can use it any more'),
	ringfence.retain_forever('merchant.drivers', 'an account lasts until its driver wants to be forgotten');

SELECT ringfence.register_job('expire_sessions', 'merchant.expire_sessions(integer)', '1 minute', '* * * * *', '15 minutes', true,
	'exclusive sessions whose time is over become EXPIRED');
