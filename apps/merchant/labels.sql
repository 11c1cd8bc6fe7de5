-- What is personal: in the audit log until it is forgotten. What is secret: never.

SELECT ringfence.label(format('merchant.%I', l.rel)::regclass, l.column_name, l.label)
FROM (VALUES
	('drivers', 'name', 'personal'), ('drivers', 'phone', 'personal'),
	('intents', 'lat', 'personal'), ('intents', 'lng', 'personal'),
	-- Where the driver was, within the reach of a charger.
	('intents', 'charger_id', 'personal'), ('exclusive_sessions', 'charger_id', 'personal'),
	('intents', 'charger_distance_m', 'personal'), ('drivers', 'phone_verified_at', 'personal'),
	-- Who it was that did that, which is to be forgotten with it.
	('exclusive_sessions', 'driver_id', 'personal'), ('exclusive_sessions', 'intent_id', 'personal'),
	('visits', 'driver_id', 'personal'), ('visit_codes', 'driver_id', 'personal'),
	('visit_codes', 'code', 'secret')
) AS l (rel, column_name, label);
