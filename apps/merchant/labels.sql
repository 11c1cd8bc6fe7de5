-- What is personal: in the audit log until it is forgotten. What is secret: never.

SELECT ringfence.label(format('merchant.%I', l.rel)::regclass, l.column_name, l.label)
FROM (VALUES
	('drivers', 'name', 'personal'), ('drivers', 'phone', 'personal'),
	('intents', 'lat', 'personal'), ('intents', 'lng', 'personal'),
	-- Where the driver was, within the reach of a charger.
	('intents', 'charger_id', 'personal'), ('exclusive_sessions', 'charger_id', 'personal'),
	('visit_codes', 'code', 'secret')
) AS l (rel, column_name, label);
