-- Demo data of the cleaning app. Run by a superuser after install('cleaning'):
--
--   psql -v scale=1 -f apps/cleaning/demo.sql
--
-- scale=1 makes three organizations with 999 bookings in all; scale=N about
-- N * 1000 bookings in max(3, N) organizations. Everything follows from the
-- numbers below; nothing is random and nothing depends on the clock. A second
-- run does nothing.
--
-- Organizations, and o, which stands for them in every other key:
--
--   Alder Clean       0d9f6c1e-0000-7000-8000-00000000000a   o = 0000a   CAD, GST 5 %
--   Birch Services    0d9f6c1e-0000-7000-8000-00000000000b   o = 0000b   AUD, GST 10 %
--   Cedar Home Care   0d9f6c1e-0000-7000-8000-00000000000c   o = 0000c   NZD, GST 15 %
--   Maple Cleaning 4  0d9f6c1e-0000-7000-8000-00000000000d   o = 0000d   and so on
--
-- Row n of a table in organization o is 0d9f6c1e-TTTT-7000-8000-OOOOONNNNNNN,
-- o and n in hexadecimal, TTTT one of
--
--   0001 users    0003 teams     0005 worker_rates   0007 invoices   0009 leads
--   0002 clients  0004 workers   0006 bookings       0008 payments   000a referral_credits
--   000b photos
--
-- Users 1 to 6 of an organization are its owner, admin, dispatcher, finance,
-- worker and client. The worker's party is worker 1, who is in team 1; the
-- client's party is client 1. In Alder Clean:
--
--   owner       0d9f6c1e-0001-7000-8000-0000a0000001   owner@alder-clean.example
--   admin       0d9f6c1e-0001-7000-8000-0000a0000002   admin@alder-clean.example
--   dispatcher  0d9f6c1e-0001-7000-8000-0000a0000003
--   finance     0d9f6c1e-0001-7000-8000-0000a0000004
--   worker      0d9f6c1e-0001-7000-8000-0000a0000005   party {"worker": "0d9f6c1e-0004-7000-8000-0000a0000001"}
--   client      0d9f6c1e-0001-7000-8000-0000a0000006   party {"client": "0d9f6c1e-0002-7000-8000-0000a0000001"}
--   accountant  0d9f6c1e-0001-7000-8000-0000a0000007   finance in all three named organizations
--
-- Bookings follow each other in time through the weekdays of 2025: of an
-- organization's bookings the first 85 % are done, disputed or canceled, then
-- come those in progress (1 %), confirmed (9 %) and drafts (5 %). Every tenth
-- booking that is done or disputed has two photos, and every one of client 1; there are
-- no images.

\set ON_ERROR_STOP on
\if :{?scale}
\elif :{?SCALE}
	\set scale :SCALE
\else
	\set scale 1
\endif

SELECT EXISTS (SELECT FROM ringfence_data.orgs WHERE id = '0d9f6c1e-0000-7000-8000-00000000000a') AS loaded \gset
\if :loaded
	\echo 'cleaning: the demo data is there already'
\else

BEGIN;
SET LOCAL synchronous_commit = off;
SET LOCAL work_mem = '256MB';
SET LOCAL client_min_messages = warning;

CREATE FUNCTION pg_temp.demo_id(kind integer, o integer, n bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT
RETURN ('0d9f6c1e-' || lpad(to_hex(kind), 4, '0') || '-7000-8000-' || lpad(to_hex(o), 5, '0')
	|| lpad(to_hex(n), 7, '0'))::uuid;

-- Organizations: k from 1; o, the key part, from 10.

CREATE TEMPORARY TABLE demo_orgs ON COMMIT DROP AS
SELECT k, k + 9 AS o,
	('0d9f6c1e-0000-7000-8000-' || lpad(to_hex(k + 9), 12, '0'))::uuid AS org_id,
	CASE k WHEN 1 THEN 'Alder Clean' WHEN 2 THEN 'Birch Services' WHEN 3 THEN 'Cedar Home Care'
		ELSE (ARRAY['Maple Cleaning', 'Oak Facility Care', 'Willow Home Services', 'Juniper Clean'])[1 + k % 4]
			|| ' ' || k END AS name,
	(ARRAY['CAD', 'AUD', 'NZD'])[1 + (k - 1) % 3] AS currency,
	(ARRAY[0.05, 0.10, 0.15])[1 + (k - 1) % 3] AS gst_rate,
	(ARRAY['America/Vancouver', 'Australia/Sydney', 'Pacific/Auckland'])[1 + (k - 1) % 3] AS time_zone,
	(ARRAY['ca-west', 'au-east', 'nz-north'])[1 + (k - 1) % 3] AS region,
	:scale * 1000 / greatest(3, :scale) AS bookings,
	greatest(8, :scale * 125 / greatest(3, :scale)) AS clients
FROM generate_series(1, greatest(3, :scale)) AS k;

INSERT INTO ringfence_data.orgs (id, name, region, status, settings, created_at)
SELECT org_id, name, region, 'active',
	jsonb_build_object('currency', currency, 'gst_rate', gst_rate, 'time_zone', time_zone,
		'payment_days', 14, 'referral_credit_minor', 2500),
	timestamptz '2024-11-04 09:00:00+00'
FROM demo_orgs ORDER BY k;

INSERT INTO ringfence_data.users (id, email, name, created_at)
SELECT pg_temp.demo_id(1, d.o, u.n), u.role || '@' || lower(replace(d.name, ' ', '-')) || '.example',
	d.name || ' ' || u.role, timestamptz '2024-11-04 09:00:00+00'
FROM demo_orgs AS d
CROSS JOIN (VALUES (1, 'owner'), (2, 'admin'), (3, 'dispatcher'), (4, 'finance'), (5, 'worker'), (6, 'client'),
	(7, 'accountant')) AS u (n, role)
WHERE u.n < 7 OR d.k = 1
ORDER BY d.k, u.n;

INSERT INTO ringfence_data.memberships (org_id, user_id, roles, party, status, created_at)
SELECT d.org_id, pg_temp.demo_id(1, d.o, u.n), ARRAY[u.role],
	CASE u.role
		WHEN 'worker' THEN jsonb_build_object('worker', pg_temp.demo_id(4, d.o, 1))
		WHEN 'client' THEN jsonb_build_object('client', pg_temp.demo_id(2, d.o, 1))
		ELSE '{}' END,
	'active', timestamptz '2024-11-04 09:00:00+00'
FROM demo_orgs AS d
CROSS JOIN (VALUES (1, 'owner'), (2, 'admin'), (3, 'dispatcher'), (4, 'finance'), (5, 'worker'), (6, 'client'))
	AS u (n, role)
UNION ALL
SELECT d.org_id, pg_temp.demo_id(1, 10, 7), ARRAY['finance'], '{}', 'active', timestamptz '2024-11-04 09:00:00+00'
FROM demo_orgs AS d WHERE d.k <= 3;

-- People.

INSERT INTO cleaning.clients (org_id, id, name, email, phone, address, created_at)
SELECT d.org_id, pg_temp.demo_id(2, d.o, n),
	p.first || ' ' || p.last, lower(p.first || '.' || p.last) || n || '@example.com',
	'+1 555 ' || lpad((n * 7919 % 10000000)::text, 7, '0'),
	(1 + n * 17 % 240) || ' ' || (ARRAY['Harbour Street', 'Mill Lane', 'Station Road', 'Park Avenue', 'Hill Crescent',
		'River Walk', 'Church Street', 'Garden Terrace', 'King Street', 'Beach Road', 'Orchard Way'])[1 + (n + d.k) % 11],
	timestamptz '2024-11-11 10:00:00+00' + n * interval '11 hours'
FROM demo_orgs AS d
CROSS JOIN LATERAL generate_series(1, d.clients) AS n
CROSS JOIN LATERAL (SELECT
	(ARRAY['Ada', 'Bruno', 'Chloe', 'Dario', 'Emma', 'Farid', 'Grace', 'Hugo', 'Iris', 'Jonas', 'Kira', 'Liam', 'Mona',
		'Nils', 'Olive', 'Pavel', 'Rosa'])[1 + (n * 5 + d.k) % 17] AS first,
	(ARRAY['Abbott', 'Baker', 'Chen', 'Dubois', 'Evans', 'Fischer', 'Garcia', 'Haddad', 'Ivanov', 'Jensen', 'Kaur',
		'Lopez', 'Meyer', 'Nguyen', 'Okafor', 'Patel', 'Rossi', 'Silva', 'Tanaka'])[1 + (n * 3 + d.k) % 19] AS last) AS p
ORDER BY d.k, n;

INSERT INTO cleaning.teams (org_id, id, name, created_at)
SELECT d.org_id, pg_temp.demo_id(3, d.o, n), (ARRAY['North', 'East', 'South', 'West'])[n],
	timestamptz '2024-11-11 09:00:00+00'
FROM demo_orgs AS d CROSS JOIN generate_series(1, 4) AS n
ORDER BY d.k, n;

INSERT INTO cleaning.workers (org_id, id, team_id, name, email, phone, created_at)
SELECT d.org_id, pg_temp.demo_id(4, d.o, n), pg_temp.demo_id(3, d.o, 1 + (n - 1) % 4),
	(ARRAY['Alma Reyes', 'Boris Novak', 'Carla Diaz', 'Dev Sharma', 'Elif Kaya', 'Femi Adeyemi', 'Gita Rao',
		'Hana Sato'])[n],
	'worker' || n || '@' || lower(replace(d.name, ' ', '-')) || '.example', '+1 555 020' || lpad(n::text, 4, '0'),
	timestamptz '2024-11-11 09:00:00+00'
FROM demo_orgs AS d CROSS JOIN generate_series(1, 8) AS n
ORDER BY d.k, n;

INSERT INTO cleaning.worker_rates (org_id, id, worker_id, valid_from, rate_minor, currency, created_at)
SELECT d.org_id, pg_temp.demo_id(5, d.o, n), pg_temp.demo_id(4, d.o, 1 + (n - 1) % 8),
	CASE WHEN n <= 8 THEN date '2025-01-01' ELSE date '2025-07-01' END,
	2300 + 75 * ((n - 1) % 8) + CASE WHEN n <= 8 THEN 0 ELSE 120 END, d.currency,
	timestamptz '2024-11-11 09:00:00+00'
FROM demo_orgs AS d CROSS JOIN generate_series(1, 16) AS n
ORDER BY d.k, n;

-- Bookings: all that follows from one is worked out here, once.

CREATE TEMPORARY TABLE demo_bookings ON COMMIT DROP AS
WITH timed AS (
	SELECT d.org_id, d.o, d.currency, d.gst_rate, d.time_zone, n,
		pg_temp.demo_id(6, d.o, n) AS id,
		pg_temp.demo_id(2, d.o, 1 + n * 7 % d.clients) AS client_id,
		1 + n % 4 AS team,
		CASE
			WHEN n % 19 = 7 THEN 'canceled'
			WHEN n * 100 <= d.bookings * 85 THEN CASE WHEN n % 97 = 11 THEN 'disputed' ELSE 'done' END
			WHEN n * 100 <= d.bookings * 86 THEN 'in_progress'
			WHEN n * 100 <= d.bookings * 95 THEN 'confirmed'
			ELSE 'draft'
		END AS status,
		(timestamp '2025-01-06 08:00:00'
			+ (day / 5 * 7 + day % 5) * interval '1 day' + n % 4 * interval '150 minutes')
			AT TIME ZONE d.time_zone AS starts_at,
		(120 + n % 3 * 30) * interval '1 minute' AS takes,
		9000 + n * 37 % 23 * 500 + n % 7 * 15 AS price_minor
	FROM demo_orgs AS d
	CROSS JOIN LATERAL generate_series(1, d.bookings) AS n
	CROSS JOIN LATERAL (SELECT (n - 1) * 250 / d.bookings AS day) AS w
), numbered AS (
	SELECT t.*, cleaning.gst(price_minor, gst_rate) AS gst_minor,
		CASE WHEN status IN ('done', 'disputed') THEN
			count(*) FILTER (WHERE status IN ('done', 'disputed')) OVER (PARTITION BY o ORDER BY n)
		END AS number
	FROM timed AS t
)
SELECT n.*,
	-- Of ten invoices seven are paid, one by a deposit and a payment, one is
	-- paid in part, one not at all; a disputed one is paid, every other one of
	-- these refunded.
	CASE WHEN number % 10 IN (7, 8) AND status = 'done' THEN (price_minor + gst_minor) / 4 ELSE 0 END AS deposit_minor,
	CASE
		WHEN number % 10 < 7 OR status = 'disputed' THEN price_minor + gst_minor
		WHEN number % 10 = 7 THEN price_minor + gst_minor - (price_minor + gst_minor) / 4
		ELSE 0
	END AS payment_minor,
	CASE WHEN status = 'disputed' AND n % 2 = 1 THEN price_minor + gst_minor ELSE 0 END AS refund_minor
FROM numbered AS n;

INSERT INTO cleaning.bookings (org_id, id, client_id, team_id, status, starts_at, ends_at, address, notes, version,
	created_at, updated_at)
SELECT b.org_id, b.id, b.client_id,
	CASE WHEN b.status <> 'draft' OR b.n % 2 = 0 THEN pg_temp.demo_id(3, b.o, b.team) END,
	b.status, b.starts_at, b.starts_at + b.takes,
	c.address,
	CASE b.n % 6 WHEN 1 THEN 'Key under the mat' WHEN 4 THEN 'Mind the cat' ELSE '' END,
	CASE b.status WHEN 'draft' THEN 1 WHEN 'confirmed' THEN 2 WHEN 'canceled' THEN 2 WHEN 'in_progress' THEN 3
		WHEN 'done' THEN 4 ELSE 5 END,
	b.starts_at - interval '14 days',
	CASE b.status WHEN 'draft' THEN b.starts_at - interval '14 days' WHEN 'confirmed' THEN b.starts_at - interval '7 days'
		WHEN 'canceled' THEN b.starts_at - interval '2 days' WHEN 'in_progress' THEN b.starts_at
		WHEN 'done' THEN b.starts_at + b.takes ELSE b.starts_at + interval '3 days' END
FROM demo_bookings AS b
JOIN cleaning.clients AS c ON c.org_id = b.org_id AND c.id = b.client_id
ORDER BY b.o, b.n;

INSERT INTO cleaning.booking_prices (org_id, booking_id, client_id, price_minor, currency, gst_rate)
SELECT org_id, id, client_id, price_minor, currency, gst_rate
FROM demo_bookings
WHERE status <> 'draft' OR n % 3 <> 0
ORDER BY o, n;

INSERT INTO cleaning.invoices (org_id, id, number, booking_id, client_id, issue_date, due_date, currency,
	net_minor, gst_minor, paid_minor, refunded_minor, created_at)
SELECT org_id, pg_temp.demo_id(7, o, number), number, id, client_id,
	(starts_at AT TIME ZONE time_zone)::date, (starts_at AT TIME ZONE time_zone)::date + 14, currency,
	price_minor, gst_minor, deposit_minor + payment_minor, refund_minor, starts_at + takes
FROM demo_bookings
WHERE number IS NOT NULL
ORDER BY o, number;

INSERT INTO cleaning.invoice_items (org_id, invoice_id, client_id, position, description, net_minor, gst_rate, gst_minor)
SELECT b.org_id, pg_temp.demo_id(7, b.o, b.number), b.client_id, 1,
	'Cleaning on ' || to_char(b.starts_at AT TIME ZONE b.time_zone, 'YYYY-MM-DD') || ', ' || c.address,
	b.price_minor, b.gst_rate, b.gst_minor
FROM demo_bookings AS b
JOIN cleaning.clients AS c ON c.org_id = b.org_id AND c.id = b.client_id
WHERE b.number IS NOT NULL
ORDER BY b.o, b.number;

INSERT INTO cleaning.invoice_counters (org_id, last_number, last_date)
SELECT org_id, max(number), max(issue_date) FROM cleaning.invoices GROUP BY org_id;

-- Payment 4 * number + i of an organization: i is 0 for the deposit, 1 for the
-- payment, 2 for the refund.
INSERT INTO cleaning.payments (org_id, id, invoice_id, client_id, kind, amount_minor, currency, provider,
	provider_ref, created_at)
SELECT b.org_id, pg_temp.demo_id(8, b.o, 4 * b.number + p.i), pg_temp.demo_id(7, b.o, b.number), b.client_id,
	p.kind, p.amount_minor, b.currency,
	CASE WHEN b.number % 3 = 0 THEN 'bank' ELSE 'stripe' END, p.kind || '-' || b.number,
	b.starts_at + p.i * interval '5 days'
FROM demo_bookings AS b
CROSS JOIN LATERAL (VALUES (0, 'deposit', b.deposit_minor), (1, 'payment', b.payment_minor),
	(2, 'refund', b.refund_minor)) AS p (i, kind, amount_minor)
WHERE b.number IS NOT NULL AND p.amount_minor > 0
ORDER BY b.o, b.number, p.i;

-- Leads: 24 to an organization. Each fourth became a client, clients 1 to 6,
-- and every other one of these was sent by another client.

INSERT INTO cleaning.leads (org_id, id, name, email, phone, address, source, status, referrer_id, client_id, created_at)
SELECT d.org_id, pg_temp.demo_id(9, d.o, n),
	coalesce(c.name, 'Prospect ' || n), coalesce(c.email, 'prospect' || n || '@example.com'), c.phone, c.address,
	CASE WHEN n % 8 = 0 THEN 'referral' WHEN n % 2 = 0 THEN 'web' ELSE 'phone' END,
	CASE WHEN c.id IS NOT NULL THEN 'converted' ELSE (ARRAY['new', 'contacted', 'lost'])[1 + n % 3] END,
	CASE WHEN n % 8 = 0 THEN pg_temp.demo_id(2, d.o, 8) END, c.id,
	timestamptz '2024-11-11 08:00:00+00' + n * interval '2 hours'
FROM demo_orgs AS d
CROSS JOIN generate_series(1, 24) AS n
LEFT JOIN cleaning.clients AS c ON n % 4 = 0 AND c.org_id = d.org_id AND c.id = pg_temp.demo_id(2, d.o, n / 4)
ORDER BY d.k, n;

INSERT INTO cleaning.referral_credits (org_id, id, lead_id, client_id, amount_minor, currency, created_at)
SELECT d.org_id, pg_temp.demo_id(10, d.o, n), pg_temp.demo_id(9, d.o, n), pg_temp.demo_id(2, d.o, 8), 2500, d.currency,
	timestamptz '2024-12-02 08:00:00+00'
FROM demo_orgs AS d CROSS JOIN generate_series(8, 24, 8) AS n
ORDER BY d.k, n;

-- Photos 2 * n and 2 * n + 1 of an organization are of booking n.
INSERT INTO cleaning.photos (org_id, id, booking_id, client_id, team_id, content_type, size_bytes, sha256, created_at)
SELECT b.org_id, pg_temp.demo_id(11, b.o, 2 * b.n + i), b.id, b.client_id, pg_temp.demo_id(3, b.o, b.team), 'image/jpeg',
	400000 + b.n * 7919 % 300000, encode(sha256(convert_to(b.id || '/' || i, 'UTF8')), 'hex'), b.starts_at + b.takes
FROM demo_bookings AS b CROSS JOIN generate_series(0, 1) AS i
WHERE b.number % 10 = 0 OR (b.number IS NOT NULL AND b.client_id = pg_temp.demo_id(2, b.o, 1))
ORDER BY b.o, b.n, i;

SELECT count(*) AS bookings, count(DISTINCT o) AS orgs FROM demo_bookings \gset
DROP FUNCTION pg_temp.demo_id(integer, integer, bigint);
COMMIT;

ANALYZE cleaning.clients, cleaning.teams, cleaning.workers, cleaning.worker_rates, cleaning.bookings,
	cleaning.booking_prices, cleaning.invoice_counters, cleaning.invoices, cleaning.invoice_items, cleaning.payments,
	cleaning.leads, cleaning.referral_credits, cleaning.photos;
\echo 'cleaning:' :bookings 'bookings in' :orgs 'organizations'
\endif
