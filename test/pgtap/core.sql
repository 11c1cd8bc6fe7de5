-- Core: organizations, members and invitations, through the functions that
-- tenants call; nobody learns who else uses the service.
\ir include/tenants.sql
\set admin_a 'aaaaaaaa-0000-4000-8000-0000000000ad'
\set worker_a 'aaaaaaaa-0000-4000-8000-0000000000a0'
INSERT INTO ringfence_data.users (id, email) VALUES (:'admin_a', 'admin@a.test'), (:'worker_a', 'worker@a.test');
INSERT INTO ringfence_data.memberships (org_id, user_id, roles) VALUES
	(:'org_a', :'admin_a', '{admin}'),
	(:'org_a', :'worker_a', '{worker}');
SELECT ringfence.add_jwt_key('core');
CREATE FUNCTION public.claims_of(usr uuid, org uuid DEFAULT NULL) RETURNS text LANGUAGE sql
AS $$ SELECT jsonb_strip_nulls(jsonb_build_object('sub', usr, 'org_id', org))::text $$;
ALTER TABLE ringfence_data.users ADD COLUMN password_hash text;
SELECT plan(82);

-- What a member sees
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT results_eq('SELECT email, org_name, roles FROM ringfence_v1.me', $$VALUES ('owner@a.test', 'Tenant A', '{owner,admin}'::text[])$$, 'me is the caller');
SELECT set_eq('SELECT email FROM ringfence_v1.members', ARRAY['owner@a.test', 'admin@a.test', 'worker@a.test'], 'an owner sees the organization''s members and no others');
SELECT results_eq('SELECT name FROM ringfence_data.orgs', ARRAY['Tenant A'], 'and one organization');
SELECT throws_ok('SELECT * FROM ringfence_data.users', '42501', NULL, 'a column that a DBA adds to users is not theirs to read');
SELECT set_eq('SELECT email FROM ringfence_data.users', ARRAY['owner@a.test', 'admin@a.test', 'worker@a.test'], 'and of those only the members''');
SELECT throws_ok('UPDATE ringfence_data.memberships SET roles = ''{owner}''', '42501', NULL, 'memberships can''t be written past the functions');
SELECT throws_ok('INSERT INTO ringfence_data.memberships (user_id) VALUES (''bbbbbbbb-0000-4000-8000-00000000000b'')', '42501', NULL, 'nor added to');
SELECT throws_ok('UPDATE ringfence_data.orgs SET status = ''active''', '42501', NULL, 'nor an organization''s status');
COMMIT;
BEGIN;
SELECT claim(claims_of(:'worker_a', :'org_a'));
SELECT results_eq('SELECT email FROM ringfence_v1.members', ARRAY['worker@a.test'], 'a worker sees no other member');
SELECT results_eq('SELECT email FROM ringfence_data.users', ARRAY['worker@a.test'], 'nor other users');
SELECT throws_ok('SELECT ringfence_v1.invite(''x@x.test'', ''{worker}'')', '42501', 'permission denied for this organization', 'and may not invite');
SELECT throws_ok(format('SELECT ringfence_v1.change_roles(%L, ''{owner}'')', :'worker_a'), '42501', NULL, 'or promote themselves');
SELECT throws_ok(format('SELECT ringfence_v1.remove_member(%L)', :'admin_a'), '42501', NULL, 'or remove another');
COMMIT;

-- Invitations: the same answer for an address known elsewhere and a new one
BEGIN;
SELECT claim(claims_of(:'admin_a', :'org_a'));
SELECT is(ringfence_v1.invite('Owner@B.test', '{worker}')::text, ringfence_v1.invite('new@new.test', '{worker}')::text, 'an invitation answers alike');
SELECT set_eq(
	'SELECT email, name, status FROM ringfence_v1.members WHERE status = ''invited''',
	$$VALUES ('owner@b.test', NULL, 'invited'), ('new@new.test', NULL, 'invited')$$, 'and so does the list of members');
SELECT is(
	(SELECT substr(m.user_id::text, 15, 1) FROM ringfence_v1.members AS m WHERE m.email = 'new@new.test'), '4',
	'an id of a new user is random, not dated');
SELECT is_empty('SELECT email FROM ringfence_data.users WHERE email LIKE ''%b.test''', 'the invited user is not shown');
SELECT throws_ok('SELECT ringfence_v1.invite(''new@new.test'', ''{worker}'')', 'PT409', 'that address is a member or invited already', 'twice is a conflict');
SELECT throws_ok('SELECT ringfence_v1.invite(''z@z.test'', ''{owner}'')', '42501', NULL, 'an admin may not invite an owner');
SELECT throws_ok('SELECT ringfence_v1.invite(''no address'', ''{worker}'')', '22023', 'invalid e-mail address', 'an address must be one');
SELECT throws_ok('SELECT ringfence_v1.invite(''z@z.test'', ''{"Bad Role"}'')', '22023', 'invalid roles or party', 'and roles roles');
SELECT throws_ok('SELECT ringfence_v1.invite(''z@z.test'', ARRAY[''x owner''])', '22023', NULL, 'one role is not two');
SELECT throws_ok('SELECT ringfence_v1.invite(''z@z.test'', ARRAY[''x,owner''])', '22023', NULL, 'with a comma neither');
SELECT throws_ok('SELECT ringfence_v1.invite(''z@z.test'', ARRAY[ARRAY[''worker'']])', '22023', NULL, 'nor a list of lists');
SELECT throws_ok('SELECT ringfence_v1.invite(''z@z.test'', ''{worker}'', ''[]'')', '22023', 'invalid roles or party', 'and a party a party');
COMMIT;
BEGIN;
SELECT claim(:'claims_b');
SELECT set_eq('SELECT name, membership, current FROM ringfence_v1.my_orgs', $$VALUES ('Tenant A', 'invited', false), ('Tenant B', 'active', true)$$, 'the invited user sees both organizations');
SELECT is_empty('SELECT body FROM public.notes WHERE body = ''note of A''', 'but no row of the new one yet');
SELECT throws_ok(format('SELECT ringfence_v1.switch_org(%L)', :'org_a'), 'PT404', 'organization not found', 'nor a token for it');
SELECT throws_ok('SELECT ringfence_v1.switch_org(''0fffffff-0000-7000-8000-00000000000f'')', 'PT404', 'organization not found', 'which is what an unknown one answers');
SELECT throws_ok('SELECT ringfence_v1.accept_invitation(''0fffffff-0000-7000-8000-00000000000f'')', 'PT404', 'invitation not found', 'no invitation, nothing to accept');
SELECT lives_ok(format('SELECT ringfence_v1.accept_invitation(%L)', :'org_a'), 'the user accepts');
SELECT throws_ok(format('SELECT ringfence_v1.accept_invitation(%L)', :'org_a'), 'PT404', NULL, 'once');
SELECT is(ringfence.org_id(), :'org_b', 'and is still in the organization of the token');
SELECT results_eq('SELECT body FROM public.notes', ARRAY['note of B'], 'with its rows');
SELECT ringfence_v1.switch_org(:'org_a') AS token \gset
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT is(ringfence.jwt_verify(:'token') ->> 'org_id', :'org_a', 'switch_org() gives a token for the other organization');
SELECT is(ringfence.jwt_verify(:'token') ->> 'role', 'ringfence_member', 'with PostgREST''s role');
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(claims_of(:'user_b', :'org_a'));
SELECT results_eq('SELECT body FROM public.notes', ARRAY['note of A'], 'under which its rows are seen');
SELECT ok(ringfence.has_role('worker') AND NOT ringfence.has_role('owner'), 'with the roles of that membership');
COMMIT;

-- No token is exchanged for more than it holds
BEGIN;
SELECT claim(jsonb_set(:'claims_a', '{roles}', '["admin"]')::text);
SELECT throws_ok(format('SELECT ringfence_v1.switch_org(%L)', :'org_a'), '42501', 'a token with roles or parties of its own cannot be exchanged', 'a narrowed token is not widened');
COMMIT;
BEGIN;
SELECT claim(jsonb_set(:'claims_a', '{party}', '{}')::text);
SELECT throws_ok(format('SELECT ringfence_v1.switch_org(%L)', :'org_a'), '42501', NULL, 'in its parties neither');
COMMIT;
BEGIN;
SELECT claim(jsonb_set(:'claims_a', '{exp}', to_jsonb(extract(epoch FROM now())::bigint + 20))::text);
SELECT ringfence_v1.switch_org(:'org_a') AS short_token \gset
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT cmp_ok((ringfence.jwt_verify(:'short_token') ->> 'exp')::bigint, '<=', extract(epoch FROM now())::bigint + 20, 'nor does it last longer');
SET SESSION AUTHORIZATION regress_web;

-- Roles
BEGIN;
SELECT claim(claims_of(:'admin_a', :'org_a'));
SELECT throws_ok(format('SELECT ringfence_v1.change_roles(%L, ''{admin,owner}'')', :'admin_a'), '42501', NULL, 'an admin can''t become an owner');
SELECT throws_ok(format('SELECT ringfence_v1.change_roles(%L, ''{worker}'')', :'user_a'), '42501', NULL, 'or unmake one');
SELECT throws_ok(format('SELECT ringfence_v1.remove_member(%L)', :'user_a'), '42501', NULL, 'or remove one');
SELECT lives_ok(format('SELECT ringfence_v1.change_roles(%L, ''{worker,finance}'')', :'worker_a'), 'but can change another''s');
SELECT throws_ok(format('SELECT ringfence_v1.change_roles(%L, NULL)', :'worker_a'), '22023', NULL, 'roles are needed');
SELECT throws_ok('SELECT ringfence_v1.set_org_settings(''{"record_exports": false}'')', '42501', 'permission denied for this organization', 'settings are the owner''s');
SELECT throws_ok('SELECT ringfence_v1.change_roles(''bbbbbbbb-0000-4000-8000-0000000000ff'', ''{worker}'')', 'PT404', 'member not found', 'a stranger is not found');
COMMIT;
BEGIN;
SELECT claim(:'claims_a');
SELECT throws_ok(format('SELECT ringfence_v1.change_roles(%L, ''{admin}'')', :'user_a'), 'PT409', 'an organization keeps at least one owner', 'the last owner stays one');
SELECT throws_ok(format('SELECT ringfence_v1.remove_member(%L)', :'user_a'), 'PT409', 'an organization keeps at least one owner', 'and stays');
SELECT lives_ok(format('SELECT ringfence_v1.remove_member(%L)', :'worker_a'), 'others can be removed');
SELECT is(ringfence_v1.set_org_settings('{"time_zone": "Asia/Tokyo", "record_exports": true, "color": {"hue": null}}'),
	'{"color": {"hue": null}, "time_zone": "Asia/Tokyo", "record_exports": true}'::jsonb, 'an owner changes settings');
SELECT is(ringfence_v1.set_org_settings('{"record_exports": null, "fee": 3}'), '{"fee": 3, "color": {"hue": null}, "time_zone": "Asia/Tokyo"}'::jsonb, 'those named, and null takes one away');
SELECT throws_ok('SELECT ringfence_v1.set_org_settings(''{"time_zone": "Mars/Base"}'')', '22023', 'time zone "Mars/Base" not recognized', 'a time zone must be one');
SELECT throws_ok(format('SELECT ringfence_v1.set_org_settings(jsonb_build_object(''time_zone'', %L))', zone), '22023', format('time zone "%s" not recognized', zone), 'everywhere the same one: ' || zone)
FROM unnest('{PST,+8,CET,right/UTC,""}'::text[]) AS zone;
SELECT throws_ok('SELECT ringfence_v1.set_org_settings(''{"time_zone": 5}'')', '22023', 'setting time_zone is the name of a time zone', 'by its name');
SELECT throws_ok('SELECT ringfence_v1.set_org_settings(''{"record_exports": "yes"}'')', '22023', 'setting record_exports is true or false', 'and a switch a switch');
SELECT throws_ok('SELECT ringfence_v1.set_org_settings(''{"No Name": 1}'')', '22023', 'invalid name "No Name" of a setting', 'a name a name');
SELECT throws_ok('SELECT ringfence_v1.set_org_settings(''[]'')', '22023', 'settings of an organization are a JSON object', 'and settings an object');
SELECT throws_ok('SELECT ringfence_v1.set_org_settings(jsonb_build_object(''fee'', repeat(''x'', 65536)))', '22023', 'settings of an organization are too large', 'of some size');
SELECT results_eq('SELECT settings FROM ringfence_data.orgs', $$VALUES ('{"fee": 3, "color": {"hue": null}, "time_zone": "Asia/Tokyo"}'::jsonb)$$, 'what is refused changes nothing');
SELECT throws_ok('SELECT ringfence_v1.create_org(''Mine'', ''x@x.test'')', '42501', NULL, 'a member can''t make organizations');
COMMIT;
BEGIN;
SELECT claim(claims_of(:'worker_a', :'org_a'));
SELECT is(ringfence.org_id(), NULL, 'whose token is then nobody''s');
SELECT throws_ok('SELECT ringfence_v1.set_org_settings(''{}'')', '42501', 'no organization is set for this transaction', 'and sets nothing');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT is((SELECT o.settings FROM ringfence_data.orgs AS o WHERE o.id = :'org_b'), '{}', 'another organization''s settings are as they were');
SELECT is((SELECT l.new -> 'settings' ->> 'record_exports' FROM ringfence_data.audit_log AS l
	WHERE l.org_id = :'org_a' AND l.operation = 'UPDATE' AND l.new -> 'settings' ? 'record_exports'), 'true', 'each change is in the audit log');

-- Making an organization
SET SESSION AUTHORIZATION regress_operator;
SET ROLE ringfence_operator;
BEGIN;
SELECT ringfence_v1.create_org('Tenant C', 'Owner@C.test', 'eu') AS org_c \gset
COMMIT;
SELECT throws_ok('SELECT ringfence_v1.create_org(''Tenant C'', ''owner@c.test'')', 'PT409', 'an organization of that name exists', 'a name is taken once');
SELECT throws_ok('SELECT ringfence_v1.create_org('' '', ''owner@c.test'')', '22023', NULL, 'and must be one');
SELECT throws_ok('SELECT ringfence_v1.create_org(''Tenant D'', ''owner@d.test'', settings => ''{"time_zone": "Mars/Base"}'')', '22023', NULL, 'and settings what they can be');
BEGIN;
SELECT throws_ok('SELECT ringfence_v1.set_org_settings(''{}'')', '42501', 'no organization is set for this transaction', 'an operator sets those of an organization that is entered');
SELECT ringfence.enter_org(:'org_c', 'asked by mail') \g /dev/null
SELECT is(ringfence_v1.set_org_settings('{"time_zone": "Asia/Tokyo"}'), '{"time_zone": "Asia/Tokyo"}', 'and no others');
COMMIT;
RESET ROLE;
RESET SESSION AUTHORIZATION;
SELECT results_eq(
	format('SELECT u.email, m.roles FROM ringfence_data.memberships AS m JOIN ringfence_data.users AS u ON u.id = m.user_id WHERE m.org_id = %L', :'org_c'),
	$$VALUES ('owner@c.test', '{owner}'::text[])$$, 'a new organization has its first owner');
SELECT is((SELECT count(*) FROM ringfence_data.orgs WHERE name = 'Mine'), 0::bigint, 'and a refused one left nothing');

-- Where a database keeps organizations of one region.
SET ringfence.region = 'eu';
INSERT INTO ringfence_data.orgs (name) VALUES ('Regional A');
SELECT is((SELECT o.region FROM ringfence_data.orgs AS o WHERE o.name = 'Regional A'), 'eu', 'a new organization is of the database''s region');
SELECT throws_ok($$INSERT INTO ringfence_data.orgs (name, region) VALUES ('Regional B', 'us')$$, '22023',
	'an organization of region "us" cannot be kept here', 'one of another is refused');
SELECT throws_ok($$UPDATE ringfence_data.orgs SET region = 'us' WHERE name = 'Regional A'$$, '22023',
	'an organization of region "us" cannot be kept here', 'and does not become one');
RESET ringfence.region;
SELECT lives_ok($$UPDATE ringfence_data.orgs SET region = 'us' WHERE name = 'Regional A'$$, 'without the setting any will do');
SET ROLE ringfence_owner;
SELECT throws_ok('SET ringfence.region = ''us''', '42501', 'permission denied to set parameter "ringfence.region"', 'which superusers set');
RESET ROLE;

SELECT * FROM finish();
