-- The access matrix: what each role of an organization may do to each table, and
-- which columns tenants may write where functions and triggers write the rest.
-- An empty cell is no access; redemption_attempts is for the functions alone.

SELECT ringfence.protect(
	format('merchant.%I', m.rel)::regclass,
	jsonb_strip_nulls(jsonb_build_object('owner,admin', m.office, 'driver', m.driver, 'merchant', m.merchant)),
	columns => m.columns)
FROM (VALUES
	('zones', 'all', 'select', 'select', '{}'::jsonb),
	('settings', 'select update', 'select', 'select', '{
		"update": ["tier_a_m", "tier_b_m", "intent_minutes", "session_minutes", "visit_minutes", "place_minutes",
			"redeem_attempts", "redeem_minutes", "visit_bonus_nova"]
	}'),
	('merchants', 'select insert update', 'select', 'select where id is merchant', '{
		"insert": ["org_id", "id", "zone_id", "name", "tag"],
		"update": ["zone_id", "name", "tag"]
	}'),
	('claims', 'select insert delete', 'select', 'select where merchant_id is merchant',
		'{"insert": ["org_id", "place_id", "merchant_id"]}'),
	('perks', 'select insert update', 'select', 'select insert update where merchant_id is merchant', '{
		"insert": ["org_id", "id", "merchant_id", "title", "exclusive", "active", "reward_nova", "price_nova"],
		"update": ["title", "exclusive", "active", "reward_nova", "price_nova"]
	}'),
	('drivers', 'select insert update', 'select where id is driver', NULL, '{
		"insert": ["org_id", "id", "name", "phone", "phone_verified_at"],
		"update": ["name", "phone", "phone_verified_at"]
	}'),
	('favorites', 'select', 'select insert delete where driver_id is driver', NULL,
		'{"insert": ["org_id", "driver_id", "merchant_id"]}'),
	('intents', 'select', 'select where driver_id is driver', NULL, '{}'),
	('exclusive_sessions', 'select', 'select where driver_id is driver', 'select where merchant_id is merchant', '{}'),
	('visits', 'select', 'select where driver_id is driver', 'select where merchant_id is merchant', '{}'),
	('visit_codes', NULL, 'select where driver_id is driver', NULL, '{}'),
	('redemption_attempts', NULL, NULL, NULL, '{}')
) AS m (rel, office, driver, merchant, columns);

SELECT ringfence.protect(format('merchant.%I', m.rel)::regclass, row_class => 'reference')
FROM unnest(ARRAY['chargers', 'places', 'charger_places']) AS m (rel);

-- The rules of the app: its own rows, which nobody is to write but its scripts.
-- merchant_v1 has functions that show them.
SELECT ringfence.protect(format('merchant.%I', m.rel)::regclass, row_class => 'system')
FROM unnest(ARRAY['session_transitions', 'nova_types']) AS m (rel);

-- For expire_sessions() and nova_verify().
GRANT SELECT ON merchant.session_transitions, merchant.nova_types, merchant.drivers, merchant.merchants, merchant.visits
	TO ringfence_jobs;
GRANT SELECT, UPDATE (state, ended_at) ON merchant.exclusive_sessions TO ringfence_jobs;
GRANT SELECT (id, status) ON ringfence_data.orgs TO ringfence_jobs;

SELECT ringfence.protect_schema('merchant');
