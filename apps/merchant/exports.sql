-- What can be taken out as a file, on record: the main views of merchant_v1, each
-- for the roles that read all of its rows.

SELECT ringfence.declare_export(e.name, format('merchant_v1.%I', e.view)::regclass, ('{' || e.key || '}')::name[], ('{' || e.roles || '}')::text[],
	e.range_column, description => e.description)
FROM (VALUES
	('zones', 'zones', 'org_id,id', 'owner,admin,driver,merchant', NULL, 'zones'),
	('merchants', 'merchants', 'org_id,id', 'owner,admin,driver', NULL, 'merchants'),
	('claims', 'claims', 'org_id,place_id', 'owner,admin,driver', NULL, 'which place is whose'),
	('perks', 'perks', 'org_id,id', 'owner,admin,driver', NULL, 'perks'),
	('drivers', 'drivers', 'org_id,id', 'owner,admin', NULL, 'drivers'),
	('exclusive_sessions', 'exclusive_sessions', 'org_id,activated_at,id', 'owner,admin', 'activated_at', 'exclusive sessions'),
	('visits', 'visits', 'org_id,verified_at,id', 'owner,admin', 'verified_at', 'visits, without their codes'),
	('wallets', 'wallet', 'org_id,account_id', 'owner,admin,accountant', NULL, 'Nova of drivers and merchants'),
	('nova', 'nova', 'org_id,posted_at,id', 'owner,admin,accountant', 'posted_at', 'Nova transfers')
) AS e (name, view, key, roles, range_column, description);
