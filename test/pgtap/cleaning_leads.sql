-- Leads of the cleaning app: conversion, once, and the credit for it.
BEGIN;
SELECT plan(20);

\ir include/act_as.sql

SELECT pg_temp.act_as('dispatcher');
INSERT INTO cleaning_v1.leads (id, name, email, phone, referrer_id) VALUES
	('00000000-0000-7000-8000-000000000001', 'Referred', 'referred@example.com', '1', '0d9f6c1e-0002-7000-8000-0000a0000001'),
	('00000000-0000-7000-8000-000000000002', 'Unreferred', NULL, NULL, NULL),
	('00000000-0000-7000-8000-000000000003', 'Twin', 'Referred@example.com', NULL, '0d9f6c1e-0002-7000-8000-0000a0000001');
SELECT results_eq($$SELECT name, email, phone FROM cleaning_v1.convert_lead('00000000-0000-7000-8000-000000000001')$$,
	$$VALUES ('Referred', 'referred@example.com', '1')$$, 'a lead becomes a client');
SELECT results_eq($$SELECT l.status, c.name FROM cleaning_v1.leads AS l JOIN cleaning_v1.clients AS c ON c.id = l.client_id
	WHERE l.id = '00000000-0000-7000-8000-000000000001'$$, $$VALUES ('converted', 'Referred')$$, 'and says which');
SELECT throws_ok($$SELECT cleaning_v1.convert_lead('00000000-0000-7000-8000-000000000001')$$, 'PT409',
	'lead is already converted', 'once');
SELECT throws_ok($$SELECT cleaning_v1.convert_lead('00000000-0000-7000-8000-000000000003')$$, 'PT409',
	'a client has the e-mail address of this lead', 'not to a client who is one');
SELECT is((SELECT status FROM cleaning_v1.leads WHERE id = '00000000-0000-7000-8000-000000000003'), 'new', 'who stays a lead');
SELECT lives_ok($$SELECT cleaning_v1.convert_lead('00000000-0000-7000-8000-000000000002')$$, 'a lead that nobody sent');
SELECT throws_ok($$SELECT cleaning_v1.convert_lead('0d9f6c1e-0009-7000-8000-0000b0000001')$$, 'PT404', 'lead not found',
	'another organization''s lead is not there');
SELECT throws_ok($$SELECT cleaning_v1.convert_lead(NULL)$$, 'PT404', 'lead not found', 'nor is none');

SELECT pg_temp.act_as('client');
SELECT results_eq($$SELECT lead_id, amount_minor, currency FROM cleaning_v1.referral_credits$$,
	$$VALUES ('00000000-0000-7000-8000-000000000001'::uuid, 2500::bigint, 'CAD')$$, 'the client who sent a lead has one credit');
SELECT throws_ok($$SELECT cleaning_v1.convert_lead('00000000-0000-7000-8000-000000000003')$$, '42501',
	'not allowed to convert leads', 'and converts none');
SELECT throws_ok($$INSERT INTO cleaning.referral_credits (lead_id, client_id, amount_minor, currency)
	VALUES ('00000000-0000-7000-8000-000000000002', '0d9f6c1e-0002-7000-8000-0000a0000001', 1, 'CAD')$$,
	'42501', 'permission denied for table referral_credits', 'nor writes own credits');
SELECT pg_temp.act_as('finance');
SELECT throws_ok($$SELECT cleaning_v1.convert_lead('00000000-0000-7000-8000-000000000003')$$, '42501',
	'not allowed to convert leads', 'finance does not convert');
SELECT is((SELECT count(*) FROM cleaning_v1.referral_credits), 4::bigint, 'finance reads all credits');
SELECT pg_temp.act_as('owner', 'Birch Services');
SELECT throws_ok($$SELECT cleaning_v1.convert_lead('00000000-0000-7000-8000-000000000003')$$, 'PT404', 'lead not found',
	'the owner of another organization finds no such lead');
SELECT lives_ok($$INSERT INTO cleaning_v1.leads (id, name, email) VALUES
	('00000000-0000-7000-8000-000000000001', 'Referred', 'referred@example.com')$$, 'has one of the same id and address');
SELECT is((cleaning_v1.convert_lead('00000000-0000-7000-8000-000000000001')).name, 'Referred', 'and converts it');
RESET ROLE;
SELECT is((SELECT count(*) FROM cleaning.referral_credits WHERE lead_id = '00000000-0000-7000-8000-000000000001'),
	1::bigint, 'which earns nobody anything');
SELECT throws_ok($$INSERT INTO cleaning.referral_credits (org_id, lead_id, client_id, amount_minor, currency)
	SELECT org_id, lead_id, client_id, 1, currency FROM cleaning.referral_credits
	WHERE lead_id = '00000000-0000-7000-8000-000000000001'$$,
	'23505', 'duplicate key value violates unique constraint "referral_credits_lead_id_key"', 'nobody gives a second credit');

-- An organization that gives no credits.
UPDATE ringfence_data.orgs SET settings = settings - 'referral_credit_minor' WHERE name = 'Alder Clean';
SELECT pg_temp.act_as('admin');
UPDATE cleaning_v1.leads SET email = 'twin@example.com' WHERE id = '00000000-0000-7000-8000-000000000003';
SELECT lives_ok($$SELECT cleaning_v1.convert_lead('00000000-0000-7000-8000-000000000003')$$, 'without the setting');
SELECT is((SELECT count(*) FROM cleaning_v1.referral_credits), 4::bigint, 'there is no credit');

SELECT * FROM finish();
ROLLBACK;
