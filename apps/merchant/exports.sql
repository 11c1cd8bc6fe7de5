-- What can be taken out as a file, on record: the main views of merchant_v1, each
-- for the roles that read all of its rows.

-- Keys are within an organization, whose rows an index on org_id and the key has in
-- order: with org_id in a key, it would be read from the first row on for each part.
SELECT ringfence.declare_export(e.name, format('merchant_v1.%I', e.view)::regclass, ('{' || e.key || '}')::name[], ('{' || e.roles || '}')::text[],
	e.range_column, description => e.description)
FROM (VALUES
	('zones', 'zones', 'id', 'owner,admin,driver,merchant', NULL, 'zones'),
	('merchants', 'merchants', 'id', 'owner,admin,driver', NULL, 'merchants'),
	('claims', 'claims', 'place_id', 'owner,admin,driver', NULL, 'which place is whose'),
	('perks', 'perks', 'id', 'owner,admin,driver', NULL, 'perks'),
	('drivers', 'drivers', 'id', 'owner,admin', NULL, 'drivers'),
	('exclusive_sessions', 'exclusive_sessions', 'activated_at,id', 'owner,admin', 'activated_at', 'exclusive sessions'),
	('visits', 'visits', 'verified_at,id', 'owner,admin', 'verified_at', 'visits, without their codes'),
	('wallets', 'wallet', 'account_id', 'owner,admin,accountant', NULL, 'Nova of drivers and merchants'),
	('nova', 'nova', 'posted_at,id', 'owner,admin,accountant', 'posted_at', 'Nova transfers')
) AS e (name, view, key, roles, range_column, description);
