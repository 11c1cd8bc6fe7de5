-- The exports of the cleaning app: files whose every byte is worked out by hand,
-- on record, of one organization, for those who may; and that what merchant
-- declares can be exported too.
\ir include/postgrest.sql
SELECT plan(70);

\set rowan 00000000-0000-7000-8000-0000000000f1
\set thorn 00000000-0000-7000-8000-0000000000f2
CREATE FUNCTION public.key(org uuid, n integer) RETURNS uuid
LANGUAGE sql IMMUTABLE
RETURN (left(org::text, 24) || right(org::text, 2) || lpad(n::text, 10, '0'))::uuid;

-- An organization in New York, a member for each role, two invoices.
CREATE FUNCTION public.fill(org uuid, name text) RETURNS SETOF text
LANGUAGE sql AS $$
	INSERT INTO ringfence_data.orgs (id, name, settings) VALUES (org, fill.name, '{"currency": "CAD", "time_zone": "America/New_York"}');
	INSERT INTO ringfence_data.users (id, email) SELECT key(org, n::integer), role || '@' || org || '.example'
	FROM unnest('{owner,admin,dispatcher,finance,worker,client}'::text[]) WITH ORDINALITY AS r (role, n);
	INSERT INTO ringfence_data.memberships (org_id, user_id, roles, party) SELECT org, key(org, n::integer), ARRAY[role],
		CASE role WHEN 'worker' THEN jsonb_build_object('worker', key(org, 31)) WHEN 'client' THEN jsonb_build_object('client', key(org, 11)) ELSE '{}' END
	FROM unnest('{owner,admin,dispatcher,finance,worker,client}'::text[]) WITH ORDINALITY AS r (role, n);
	INSERT INTO cleaning.clients (org_id, id, name) VALUES (org, key(org, 11), 'Ann, "A"'), (org, key(org, 12), '=cmd()');
	INSERT INTO cleaning.teams (org_id, id, name) VALUES (org, key(org, 21), 'One');
	INSERT INTO cleaning.workers (org_id, id, team_id, name) VALUES (org, key(org, 31), key(org, 21), 'Una');
	INSERT INTO cleaning.bookings (org_id, id, client_id, team_id, status, starts_at, ends_at, address)
	SELECT org, key(org, 100 + n), key(org, 10 + n), key(org, 21), 'done', '2025-01-30 15:00+00', '2025-01-30 17:00+00', 'x' FROM generate_series(1, 2) AS n;
	INSERT INTO cleaning.invoices (org_id, id, number, booking_id, client_id, issue_date, due_date, currency, net_minor, gst_minor, paid_minor, refunded_minor)
	VALUES (org, key(org, 201), 1, key(org, 101), key(org, 11), '2025-01-31', '2025-02-14', 'CAD', 10010, 501, 10511, 0),
		(org, key(org, 202), 2, key(org, 102), key(org, 12), '2025-02-01', '2025-02-15', 'JPY', 5000, 500, 5500, 1500);
	INSERT INTO cleaning.invoice_items (org_id, invoice_id, client_id, position, description, net_minor, gst_rate, gst_minor)
	VALUES (org, key(org, 201), key(org, 11), 1, 'x', 10010, 0.05, 501), (org, key(org, 202), key(org, 12), 1, 'x', 5000, 0.1, 500);
	-- The first one is of February in UTC.
	INSERT INTO cleaning.payments (org_id, id, invoice_id, client_id, kind, amount_minor, currency, provider, provider_ref, created_at)
	VALUES (org, key(org, 301), key(org, 201), key(org, 11), 'deposit', 2628, 'CAD', 'bank', 'r1', '2025-02-01 04:30+00'),
		(org, key(org, 302), key(org, 201), key(org, 11), 'payment', 7883, 'CAD', 'bank', '+2', '2025-02-28 17:00+00'),
		(org, key(org, 303), key(org, 202), key(org, 12), 'payment', 5500, 'JPY', 'bank', 'r3', '2025-02-10 17:00+00'),
		(org, key(org, 304), key(org, 202), key(org, 12), 'refund', 1500, 'JPY', 'bank', 'r4', '2025-02-11 17:00:00.5+00');
	SELECT NULL WHERE false
$$;
SELECT fill(:'rowan', 'Regress Rowan');

CREATE FUNCTION public.export(org text, role text, name text, since date, until date, method text DEFAULT 'POST', accept text DEFAULT 'text/csv') RETURNS test.response
LANGUAGE sql AS $$
	SELECT r FROM test.rpc(test.claims(org, role), 'cleaning_v1', 'export_' || name, jsonb_build_object('from', since, 'to', until), method,
		jsonb_build_object('accept', accept)) AS r
$$;
-- The file that lines make; {n} is the key of that number.
CREATE FUNCTION public.file(org uuid, VARIADIC lines text[]) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	made text := array_to_string(lines, E'\r\n') || E'\r\n';
BEGIN
	FOR n IN 1..400 LOOP
		made := replace(made, '{' || n || '}', key(org, n)::text);
	END LOOP;
	RETURN replace(made, '{org}', org::text);
END
$$;

-- The files.

SELECT r.status AS answer, r.body #>> '{}' AS sales, r.headers AS headers FROM export('Regress Rowan', 'finance', 'sales_ledger', '2025-01-01', '2025-03-31') AS r \gset
SELECT is(:'answer'::text, '200', 'finance exports the sales ledger');
SELECT is(:'sales', file(:'rowan',
	'org_id,issue_date,number,due_date,status,client_name,currency,net_minor,gst_minor,total_minor,paid_minor,refunded_minor,due_minor,net,gst,total,due,invoice_id,booking_id,client_id',
	'{org},2025-01-31,1,2025-02-14,paid,"Ann, ""A""",CAD,10010,501,10511,10511,0,0,100.10,5.01,105.11,0.00,{201},{101},{11}',
	-- 5500 - 5500 + 1500 is due. Yen have no decimals. A name that begins like a formula has an apostrophe before it.
	'{org},2025-02-01,2,2025-02-15,partly_paid,"''=cmd()",JPY,5000,500,5500,5500,1500,1500,5000,500,5500,1500,{202},{102},{12}'),
	'an invoice a row, by day and number, in minor units and in units');
SELECT is((SELECT r.body #>> '{}' FROM export('Regress Rowan', 'finance', 'sales_ledger', '2025-01-31', '2025-01-31') AS r), file(:'rowan',
	'org_id,issue_date,number,due_date,status,client_name,currency,net_minor,gst_minor,total_minor,paid_minor,refunded_minor,due_minor,net,gst,total,due,invoice_id,booking_id,client_id',
	'{org},2025-01-31,1,2025-02-14,paid,"Ann, ""A""",CAD,10010,501,10511,10511,0,0,100.10,5.01,105.11,0.00,{201},{101},{11}'), 'of one day');
SELECT r.body #>> '{}' AS payments FROM export('Regress Rowan', 'finance', 'payments', '2025-01-01', '2025-03-31') AS r \gset
SELECT is(:'payments', file(:'rowan',
	'org_id,moved_at,payment_id,kind,invoice_number,client_name,provider,provider_ref,currency,moved_minor,moved,held_minor,invoice_total_minor,invoice_id,client_id',
	'{org},2025-01-31 23:30:00-05,{301},deposit,1,"Ann, ""A""",bank,r1,CAD,2628,26.28,2628,10511,{201},{11}',
	'{org},2025-02-10 12:00:00-05,{303},payment,2,"''=cmd()",bank,r3,JPY,5500,5500,5500,5500,{202},{12}',
	'{org},2025-02-11 12:00:00.5-05,{304},refund,2,"''=cmd()",bank,r4,JPY,-1500,-1500,4000,5500,{202},{12}',
	'{org},2025-02-28 12:00:00-05,{302},payment,1,"Ann, ""A""",bank,"''+2",CAD,7883,78.83,10511,10511,{201},{11}'),
	'payments in order of time, refunds below zero, with what is held on the invoice after each');
SELECT is((SELECT r.headers ->> 'Export-Rows' FROM export('Regress Rowan', 'finance', 'payments', '2025-01-31', '2025-01-31') AS r), '1', 'a payment before midnight there is of that day');
SELECT is((SELECT r.headers ->> 'Export-Rows' FROM export('Regress Rowan', 'finance', 'payments', '2025-02-01', '2025-02-28') AS r), '3', 'and not of the next');
SELECT r.body #>> '{}' AS deposits FROM export('Regress Rowan', 'finance', 'deposits', NULL, NULL) AS r \gset
SELECT is(:'deposits', file(:'rowan',
	'org_id,moved_at,payment_id,invoice_number,invoice_status,client_name,provider,provider_ref,currency,amount_minor,amount,invoice_total_minor,invoice_paid_minor,invoice_refunded_minor,invoice_id,client_id',
	'{org},2025-01-31 23:30:00-05,{301},1,paid,"Ann, ""A""",bank,r1,CAD,2628,26.28,10511,10511,0,{201},{11}'), 'deposits, without limits');
SELECT matches(r.body #>> '{}', '^org_id,[a-z_,]+\r\n$', 'a range without rows is a header')
FROM export('Regress Rowan', 'finance', 'sales_ledger', '2030-01-01', '2030-12-31') AS r;

-- On record.

SELECT is(:'headers'::jsonb ->> 'Content-Disposition', 'attachment; filename="sales-ledger-2025-01-01--2025-03-31.csv"', 'the answer is a file');
SELECT is(:'headers'::jsonb ->> 'Export-Rows', '2', 'that says how many rows it has');
SELECT is(:'headers'::jsonb ->> 'Repr-Digest', format('sha-256=:%s:', encode(sha256(convert_to(:'sales', 'UTF8')), 'base64')), 'and which bytes');
SELECT results_eq(format($$SELECT name, requested_by, from_date, to_date, rows, bytes, sha256, state FROM ringfence_data.exports WHERE id = %L$$, :'headers'::jsonb ->> 'Export-Id'),
	format($$VALUES ('sales_ledger' COLLATE "C", %L::uuid, date '2025-01-01', date '2025-03-31', 2::bigint, %s::bigint, %L::bytea, 'done' COLLATE "C")$$,
		key(:'rowan', 4), octet_length(:'sales'), sha256(convert_to(:'sales', 'UTF8'))), 'it is on record');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l WHERE l.org_id = :'rowan' AND l.operation = 'EVENT' AND l.new ->> 'sha256' = encode(sha256(convert_to(:'sales', 'UTF8')), 'hex')),
	1::bigint, 'and in the audit log');
SELECT is((SELECT count(*) FROM ringfence_data.exports WHERE org_id = :'rowan'), 7::bigint, 'as is each of these');
-- Whoever asks for anything else gets the file in JSON, which is other bytes.
SELECT is((SELECT string_agg(k, ',' ORDER BY k) FROM export('Regress Rowan', 'finance', 'sales_ledger', NULL, NULL, accept => a.accept) AS r, jsonb_object_keys(r.headers) AS k WHERE k <> 'Content-Type'),
	CASE WHEN a.file THEN 'Content-Disposition,Export-Id,Export-Rows,Repr-Digest' ELSE 'Export-Id,Export-Rows' END, 'headers for ' || a.accept)
FROM (VALUES ('*/*', false), ('application/json, text/csv', false), ('text/csvx', false), ('Text/CSV;q=0.9, */*', true)) AS a (accept, file);

-- What adds up.

SELECT is((SELECT sum(c.cells[8]::bigint) FROM ringfence.csv_rows(:'sales') AS c WHERE c.line > 1 AND c.cells[7] = 'CAD'),
	(SELECT sum((e ->> 'net_minor')::bigint) FROM test.rpc(test.claims('Regress Rowan', 'finance'), 'cleaning_v1', 'gst_report',
		'{"from": "2025-01-01", "to": "2025-03-31"}', 'GET') AS r, jsonb_array_elements(r.body) AS e WHERE e ->> 'currency' = 'CAD'), 'the ledger''s net is the report''s');
SELECT is((SELECT sum(c.cells[10]::bigint) FROM ringfence.csv_rows(:'payments') AS c WHERE c.line > 1 AND c.cells[9] = 'JPY'),
	(SELECT sum((e ->> 'total_minor')::bigint) FROM test.rpc(test.claims('Regress Rowan', 'finance'), 'cleaning_v1', 'gst_report',
		'{"from": "2025-01-01", "to": "2025-03-31", "basis": "cash"}', 'GET') AS r, jsonb_array_elements(r.body) AS e WHERE e ->> 'currency' = 'JPY'), 'what was received is');
SELECT results_eq($$SELECT cleaning.major(a, c) FROM (VALUES (10511, 'CAD'), (-5, 'EUR'), (0, 'USD'), (5500, 'JPY'), (1234, 'KWD'), (9007199254740993, 'CAD'), (1, 'CLF')) AS v (a, c)$$,
	'{105.11,-0.05,0.00,5500,1.234,90071992547409.93,0.0001}'::numeric[], 'amounts in units of their currencies');

-- Who may: the six endpoints that once showed every tenant's books.

CREATE FUNCTION public.six(org text, role text) RETURNS TABLE (endpoint text, status integer, code text, body jsonb)
LANGUAGE sql AS $$
	SELECT e.endpoint, r.status, r.code, r.body
	FROM (SELECT CASE WHEN org IS NOT NULL THEN test.claims(org, role) END) AS c (claims)
	CROSS JOIN (VALUES ('gst_report', 'GET', '{"from": "2020-01-01", "to": "2030-12-31"}'::jsonb), ('pnl_report', 'GET', '{"from": "2020-01-01", "to": "2030-12-31"}'),
		('export_sales_ledger', 'POST', '{"from": null, "to": null}'), ('export_payments', 'POST', '{"from": null, "to": null}'),
		('export_deposits', 'POST', '{"from": null, "to": null}')) AS e (endpoint, method, arguments)
	CROSS JOIN LATERAL test.rpc(c.claims, 'cleaning_v1', e.endpoint, e.arguments, e.method) AS r
	UNION ALL
	SELECT 'export_dead_letter', r.status, r.code, r.body
	FROM (SELECT CASE WHEN org IS NOT NULL THEN test.claims(org, role) END) AS c (claims)
	CROSS JOIN LATERAL test.get(c.claims, 'cleaning_v1', 'export_dead_letter', 'ORDER BY id') AS r
$$;
SELECT results_eq(format($$SELECT endpoint, status FROM six('Regress Rowan', %L) ORDER BY endpoint$$, role), $$
	VALUES ('export_dead_letter', 200), ('export_deposits', 200), ('export_payments', 200), ('export_sales_ledger', 200), ('gst_report', 200), ('pnl_report', 200)
$$, role || ' reads all six') FROM unnest('{owner,admin,finance}'::text[]) AS role;
-- Of dead letters they see what they asked for themselves.
SELECT results_eq(format($$SELECT endpoint, status, code, CASE WHEN status = 200 THEN body END FROM six('Regress Rowan', %L) ORDER BY endpoint$$, role), $$
	VALUES ('export_dead_letter', 200, NULL, '[]'::jsonb), ('export_deposits', 403, '42501', NULL), ('export_payments', 403, '42501', NULL),
		('export_sales_ledger', 403, '42501', NULL), ('gst_report', 403, '42501', NULL), ('pnl_report', 403, '42501', NULL)
$$, role || ' reads none') FROM unnest('{dispatcher,worker,client}'::text[]) AS role;
SELECT results_eq($$SELECT endpoint, status, code FROM six(NULL, NULL) ORDER BY endpoint$$, $$
	VALUES ('export_dead_letter', 401, '42501'), ('export_deposits', 401, '42501'), ('export_payments', 401, '42501'),
		('export_sales_ledger', 401, '42501'), ('gst_report', 401, '42501'), ('pnl_report', 401, '42501')
$$, 'nor does anybody without a token');
SELECT is(r.message || ': ' || r.details, 'permission denied for this export: It takes one of the roles: owner, admin, finance.', 'and is told who may')
FROM export('Regress Rowan', 'dispatcher', 'payments', NULL, NULL) AS r;
SELECT is(ROW(r.status, r.code), ROW(405, '25006'::text), 'what goes on record is not had by GET') FROM export('Regress Rowan', 'owner', 'sales_ledger', NULL, NULL, 'GET') AS r;
SELECT is(ROW(r.status, r.code), ROW(400, '22023'::text), 'a range that ends before it begins is none') FROM export('Regress Rowan', 'owner', 'sales_ledger', '2025-02-01', '2025-01-01') AS r;
SELECT is(ROW(r.status, r.code), ROW(400, '22023'::text), 'nor is one without an end') FROM export('Regress Rowan', 'owner', 'deposits', '2025-02-01', 'infinity') AS r;
SET ROLE ringfence_operator;
SELECT throws_ok(format('SELECT cleaning_v1.%s(NULL, NULL)', f), '42501', 'permission denied for schema cleaning_v1', 'an operator does not call ' || f)
FROM unnest('{export_sales_ledger,export_payments,export_deposits}'::text[]) AS f;
SELECT throws_ok('SELECT FROM cleaning.' || v, '42501', 'permission denied for view ' || v, 'nor read ' || v) FROM unnest('{sales_ledger,payments_ledger,deposits_ledger}'::text[]) AS v;
RESET ROLE;

-- Dead letters.

SELECT status AS answer, body ->> 'id' AS letter FROM test.rpc(test.claims('Regress Rowan', 'finance'), 'ringfence_v1', 'start_export', '{"name": "sales_ledger"}') \gset
SELECT is(:'answer'::text, '202', 'a large export is begun');
UPDATE ringfence_data.exports SET state = 'failed', finished_at = now(), last_error = '57014 canceled' WHERE id = :'letter';
SELECT is((SELECT array_agg(x -> 'id') FROM test.get(test.claims('Regress Rowan', role), 'cleaning_v1', 'export_dead_letter') AS r, jsonb_array_elements(r.body) AS x),
	CASE WHEN role IN ('owner', 'admin', 'finance') THEN ARRAY[to_jsonb(:'letter'::text)] END, 'one that failed is shown to who asked and to the office, not others: ' || role)
FROM unnest('{owner,admin,finance,dispatcher,worker,client}'::text[]) AS role;
SELECT is(r.body -> 0 ->> 'last_error', '57014 canceled', 'with what happened') FROM test.get(test.claims('Regress Rowan', 'owner'), 'cleaning_v1', 'export_dead_letter') AS r;
SELECT status AS answer, body ->> 'id' AS other FROM test.rpc(test.claims('Regress Rowan', 'owner'), 'ringfence_v1', 'start_export', '{"name": "perks"}') \gset
UPDATE ringfence_data.exports SET state = 'failed', finished_at = now(), last_error = 'x' WHERE id = :'other';
SELECT is(jsonb_array_length(r.body), 1, 'those of another app are not here') FROM test.get(test.claims('Regress Rowan', 'owner'), 'cleaning_v1', 'export_dead_letter') AS r;
SELECT is(jsonb_array_length(r.body), 2, 'but in the core''s') FROM test.get(test.claims('Regress Rowan', 'owner'), 'ringfence_v1', 'export_dead_letter') AS r;

-- Another organization with the same rows.

CREATE TEMPORARY TABLE told AS SELECT * FROM six('Regress Rowan', 'owner');
SELECT fill(:'thorn', 'Regress Thorn');
SELECT results_eq($$SELECT * FROM six('Regress Rowan', 'owner') ORDER BY endpoint$$, 'SELECT * FROM told ORDER BY endpoint', 'another organization''s rows change none of the six');
SELECT is_empty(format($$SELECT endpoint FROM six('Regress Thorn', 'owner') WHERE body::text LIKE '%%' || %L || '%%'$$, :'rowan'), 'and it sees nothing of these');
SELECT results_eq(format($$SELECT t.endpoint, replace(replace(t.body::text, %L, 'org'), '-f20', '-f10') FROM six('Regress Thorn', 'owner') AS t
		WHERE t.endpoint NOT LIKE '%%letter' ORDER BY 1$$, :'thorn'),
	format($$SELECT endpoint, replace(body::text, %L, 'org') FROM told WHERE endpoint NOT LIKE '%%letter' ORDER BY 1$$, :'rowan'), 'but its own, to the cent');
SELECT is(r.body, '[]', 'nor dead letters') FROM test.get(test.claims('Regress Thorn', 'owner'), 'cleaning_v1', 'export_dead_letter') AS r;

-- What is declared.

SELECT results_eq($$SELECT d.name::text FROM ringfence_data.export_definitions AS d INNER JOIN pg_class AS c ON c.oid = d.relation
	WHERE c.relnamespace IN ('cleaning'::regnamespace, 'cleaning_v1'::regnamespace) ORDER BY 1$$,
	$$SELECT d.name::text FROM ringfence_data.export_definitions AS d WHERE cleaning.has_export(d.name) ORDER BY 1$$, 'has_export() knows the app''s');
SELECT is((SELECT count(*) FROM ringfence_data.export_definitions AS d WHERE cleaning.has_export(d.name)), 13::bigint, 'thirteen of them');
CREATE FUNCTION public.broken_keys() RETURNS TABLE (export text, rows bigint)
LANGUAGE plpgsql AS $$
BEGIN
	FOR export, rows IN SELECT d.name, 0 FROM ringfence_data.export_definitions AS d LOOP
		EXECUTE (SELECT format('SELECT count(*) - count(DISTINCT ROW(t.org_id, %s)) FILTER (WHERE (%s) IS NOT NULL) FROM %s AS t',
				string_agg(format('t.%I', k), ', '), string_agg(format('t.%I', k), ', '), d.relation)
			FROM ringfence_data.export_definitions AS d, unnest(d.key) AS k WHERE d.name = export GROUP BY d.relation) INTO rows;
		CONTINUE WHEN rows = 0;
		RETURN NEXT;
	END LOOP;
END
$$;
SELECT is_empty('SELECT * FROM broken_keys()', 'the key of each identifies the rows of an organization, in the demo data');

-- Each role that may have an export reads what the owner reads; the others don't get it.
CREATE FUNCTION public.wrong_roles(org text, all_roles text[], names text[]) RETURNS TABLE (export text, role text, wrong text)
LANGUAGE plpgsql AS $$
DECLARE
	declared record;
	whole bigint;
	seen bigint;
BEGIN
	FOR declared IN SELECT d.name, d.relation, d.roles FROM ringfence_data.export_definitions AS d WHERE d.name = ANY (names) LOOP
		FOREACH role IN ARRAY ARRAY['owner'] || all_roles LOOP
			PERFORM ringfence.set_context(m.org_id, m.user_id, ARRAY[role], m.party)
			FROM ringfence_data.memberships AS m INNER JOIN ringfence_data.orgs AS o ON o.id = m.org_id
			WHERE o.name = wrong_roles.org AND m.status = 'active'
			ORDER BY (m.roles = ARRAY[role]) DESC, m.user_id LIMIT 1;
			SET LOCAL ROLE ringfence_member;
			EXECUTE format('SELECT count(*) FROM %s', declared.relation) INTO seen;
			RESET ROLE;
			IF role = 'owner' THEN
				whole := seen;
			END IF;
			IF role = ANY (declared.roles) AND seen <> whole THEN
				export := declared.name;
				wrong := format('%s of %s rows', seen, whole);
				RETURN NEXT;
			ELSIF role <> ALL (declared.roles) AND seen >= whole AND whole > 0 AND declared.relation <> 'cleaning.sales_ledger'::regclass THEN
				export := declared.name;
				wrong := 'might have it';
				RETURN NEXT;
			END IF;
		END LOOP;
	END LOOP;
END
$$;
BEGIN;
SELECT is_empty($$SELECT * FROM wrong_roles('Alder Clean', '{admin,dispatcher,finance,worker,client}',
	ARRAY(SELECT name FROM ringfence_data.export_definitions WHERE cleaning.has_export(name)))$$, 'each export of cleaning is for the roles that read all of its rows');
SELECT is_empty($$SELECT * FROM wrong_roles('Juniper Charge', '{admin,driver,merchant}',
	ARRAY(SELECT name::text FROM ringfence_data.export_definitions WHERE NOT cleaning.has_export(name)))$$, 'so is each of merchant');
ROLLBACK;
SELECT is(r.status, 202, 'start_export() takes ' || d.name)
FROM ringfence_data.export_definitions AS d, test.rpc(test.claims(CASE WHEN d.name < 'leads' THEN 'Alder Clean' ELSE 'Birch Services' END, 'owner'), 'ringfence_v1', 'start_export', jsonb_build_object('name', d.name)) AS r
WHERE cleaning.has_export(d.name)
ORDER BY d.name;

SELECT * FROM finish();
