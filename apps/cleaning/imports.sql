-- Imports: clients and bookings out of a spreadsheet. A file is read as a whole,
-- every row is checked, and what is sound is inserted by one statement, with the
-- caller's rights. Cells that a spreadsheet would take for a formula stay out:
-- what comes in here goes out again by the exports of others, too.
--
-- A cell is taken apart from the apostrophe that our own exports put before what
-- looks like a formula. It then need not look otherwise, for "- ring twice" is a
-- note; but it may have nothing in it that a formula can do harm with.

CREATE FUNCTION cleaning.import_text(cell text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN nullif(btrim(ringfence.csv_unguard(cell), E' \t\r\n'), '');
REVOKE EXECUTE ON FUNCTION cleaning.import_text(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.import_text(text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.import_text(text) IS
	'what a cell of an imported file stands for: without the apostrophe of csv_guard() and blanks around it, NULL for nothing';

CREATE FUNCTION cleaning.import_cell_flaw(cell text, harmless text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
	WHEN cell ~ '[\x01-\x08\x0B\x0C\x0E-\x1F\x7F\uFFFD]' THEN 'has a character that is no text'
	WHEN ringfence.csv_guard(cell) = cell OR cleaning.import_text(cell) ~ harmless THEN NULL
	WHEN ringfence.csv_unguard(cell) = cell THEN 'begins like a formula: an apostrophe before it says that it is text'
	WHEN cell ~ '[=(|!\uFE66\uFF01\uFF08\uFF1D\uFF5C]|''\s*#' THEN 'is a formula'
END;
REVOKE EXECUTE ON FUNCTION cleaning.import_cell_flaw(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.import_cell_flaw(text, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.import_cell_flaw(text, text) IS
	'why a cell of an imported file is refused whatever column it is in, or NULL: control characters, characters that were lost, formulas but for those that match the regular expression of what is harmless in the column';

CREATE FUNCTION cleaning.import_flaw(column_name text, message text) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN jsonb_build_object('column', column_name, 'message', message);
REVOKE EXECUTE ON FUNCTION cleaning.import_flaw(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.import_flaw(text, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.import_flaw(text, text) IS 'what is wrong in a column of a row, NULL without a message';

CREATE FUNCTION cleaning.currency_digits(currency text) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE
	WHEN currency IN ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV',
		'XAF', 'XOF', 'XPF') THEN 0
	WHEN currency IN ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') THEN 3
	WHEN currency IN ('CLF', 'UYW') THEN 4
	ELSE 2
END;
REVOKE EXECUTE ON FUNCTION cleaning.currency_digits(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.currency_digits(text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.currency_digits(text) IS
	'how many decimals an amount in major units has, by the ISO 4217 code of its currency';

-- A local time is what clocks showed by the offset of the day before or by that
-- of the day after. Where these differ it may be both, or neither.
CREATE FUNCTION cleaning.import_moment(value text, zone text, OUT moment timestamptz, OUT flaw text)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	day date;
	noon timestamp;
	before timestamptz;
	after timestamptz;
	shift interval;
BEGIN
	IF value IS NULL THEN
		flaw := 'is required';
		RETURN;
	END IF;
	IF value !~ '^[12]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[ T]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?(Z|[+-](0\d|1[0-4])(:?[0-5]\d)?)?$'
		OR substr(value, 9, 2)::integer > extract(day FROM make_date(substr(value, 1, 4)::integer, substr(value, 6, 2)::integer, 1)
			+ interval '1 month - 1 day') THEN
		flaw := 'is no time such as 2026-01-05T17:00 or 2026-01-05T17:00:00-08:00';
		RETURN;
	END IF;
	IF value ~ '(Z|[+-]\d\d(:?\d\d)?)$' THEN
		moment := value::timestamptz;
		RETURN;
	END IF;
	moment := value::timestamp AT TIME ZONE zone;
	day := value::date;
	noon := day - 1 + time '12:00';
	before := (value::timestamp - (noon - (noon AT TIME ZONE zone AT TIME ZONE 'UTC'))) AT TIME ZONE 'UTC';
	noon := day + 1 + time '12:00';
	after := (value::timestamp - (noon - (noon AT TIME ZONE zone AT TIME ZONE 'UTC'))) AT TIME ZONE 'UTC';
	IF before = after THEN
		RETURN;
	END IF;
	IF value::timestamp NOT IN (before AT TIME ZONE zone, after AT TIME ZONE zone) THEN
		moment := NULL;
		flaw := format('is no time of that day in %s, where clocks are put forward', zone);
	ELSIF before AT TIME ZONE zone = after AT TIME ZONE zone THEN
		moment := NULL;
		shift := value::timestamp - (before AT TIME ZONE 'UTC');
		flaw := format('is twice on that day in %s, where clocks are put back: add the offset, as in %s%s', zone,
			replace(value, ' ', 'T'), CASE WHEN shift < interval '0' THEN '-' ELSE '+' END || to_char(greatest(shift, -shift), 'HH24:MI'));
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.import_moment(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.import_moment(text, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.import_moment(text, text) IS
	'the moment that a cell of an imported file gives, in ISO 8601; without an offset it is the time of clocks in the zone; or what is wrong with it';

CREATE FUNCTION cleaning.client_identity(name text, email text, phone text, address text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN email IS NOT NULL THEN lower(email) ELSE jsonb_build_array(name, phone, address)::text END;
REVOKE EXECUTE ON FUNCTION cleaning.client_identity(text, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.client_identity(text, text, text, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.client_identity(text, text, text, text) IS
	'who a client is: the e-mail address whatever its case, or all there is of a client without one';

CREATE FUNCTION cleaning.read_clients(csv text, delimiter text)
RETURNS TABLE (line integer, content jsonb, flaws jsonb[])
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH file AS MATERIALIZED (
		SELECT t.line, t.cells, cleaning.import_text(t.cells[1]) AS name, cleaning.import_text(t.cells[2]) AS email,
			cleaning.import_text(t.cells[3]) AS phone, cleaning.import_text(t.cells[4]) AS address
		FROM ringfence.csv_table(csv, '{name,email,phone,address}', '{name}', delimiter, 50000, true) AS t
		WHERE num_nonnulls(VARIADIC t.cells) > 0
	), keyed AS (
		SELECT f.line, f.cells, f.name, f.email, f.phone, f.address, i.key, min(f.line) OVER (PARTITION BY i.key) AS first_line
		FROM file AS f
		CROSS JOIN LATERAL cleaning.client_identity(f.name, f.email, f.phone, f.address) AS i (key)
	), present AS (
		SELECT cleaning.client_identity(c.name, e.email, c.phone, c.address) AS key
		FROM cleaning.clients AS c
		CROSS JOIN LATERAL (VALUES (c.email), (NULL)) AS e (email)
		WHERE c.org_id = ringfence.org_id()
		GROUP BY 1
	)
	SELECT k.line, jsonb_build_object('name', k.name, 'email', k.email, 'phone', k.phone, 'address', k.address),
		array_remove(ARRAY[
			cleaning.import_flaw('name', coalesce(cleaning.import_cell_flaw(k.cells[1], NULL), CASE
				WHEN k.name IS NULL THEN 'is required'
				WHEN length(k.name) > 200 THEN 'is longer than 200 characters'
				WHEN k.email IS NOT NULL THEN NULL
				WHEN k.line > k.first_line THEN format('is on line %s too, and nothing tells the two apart', k.first_line)
				WHEN p.key IS NOT NULL THEN 'is that of a client, and nothing tells the two apart' END)),
			cleaning.import_flaw('email', coalesce(cleaning.import_cell_flaw(k.cells[2], NULL), CASE
				WHEN position('@' IN k.email) <= 1 OR length(k.email) > 320 THEN 'is no e-mail address'
				WHEN k.email IS NOT NULL AND k.line > k.first_line THEN format('is on line %s too', k.first_line)
				WHEN k.email IS NOT NULL AND p.key IS NOT NULL THEN 'is the e-mail address of a client' END)),
			cleaning.import_flaw('phone', cleaning.import_cell_flaw(k.cells[3], '^\+?[0-9 ()./-]+$')),
			cleaning.import_flaw('address', cleaning.import_cell_flaw(k.cells[4], NULL))
		], NULL)
	FROM keyed AS k
	LEFT JOIN present AS p ON p.key = k.key
$$;
REVOKE EXECUTE ON FUNCTION cleaning.read_clients(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.read_clients(text, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.read_clients(text, text) IS
	'the rows of a file of clients: line, values, and what is wrong with them; 22P04 for what is no such file, 54000 for too many rows';

CREATE FUNCTION cleaning.read_booking_cells(csv text, delimiter text)
RETURNS TABLE (line integer, cells text[], email text, client text, team text, starts_at timestamptz, ends_at timestamptz,
	address text, notes text, price text, price_minor text, gst_rate text, flaws jsonb[])
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.line, t.cells, lower(cleaning.import_text(t.cells[1])), lower(cleaning.import_text(t.cells[2])),
		cleaning.import_text(t.cells[3]), s.moment, e.moment, cleaning.import_text(t.cells[6]),
		coalesce(cleaning.import_text(t.cells[7]), ''), cleaning.import_text(t.cells[8]), cleaning.import_text(t.cells[9]),
		cleaning.import_text(t.cells[10]),
		ARRAY[
			cleaning.import_flaw('client_email', cleaning.import_cell_flaw(t.cells[1], NULL)),
			cleaning.import_flaw('client', cleaning.import_cell_flaw(t.cells[2], NULL)),
			cleaning.import_flaw('team', cleaning.import_cell_flaw(t.cells[3], NULL)),
			cleaning.import_flaw('starts_at', coalesce(cleaning.import_cell_flaw(t.cells[4], NULL), s.flaw)),
			cleaning.import_flaw('ends_at', coalesce(cleaning.import_cell_flaw(t.cells[5], NULL), e.flaw)),
			cleaning.import_flaw('address', cleaning.import_cell_flaw(t.cells[6], NULL)),
			cleaning.import_flaw('notes', cleaning.import_cell_flaw(t.cells[7], NULL)),
			cleaning.import_flaw('price', cleaning.import_cell_flaw(t.cells[8], '^[+-]?[0-9.,]+$')),
			cleaning.import_flaw('price_minor', cleaning.import_cell_flaw(t.cells[9], '^[+-]?[0-9.,]+$')),
			cleaning.import_flaw('gst_rate', cleaning.import_cell_flaw(t.cells[10], '^[+-]?[0-9.,]+$'))
		]
	FROM ringfence.csv_table(csv,
			'{client_email,client,team,starts_at,ends_at,address,notes,price,price_minor,gst_rate}', '{starts_at,ends_at}',
			delimiter, 50000, true) AS t
	CROSS JOIN (SELECT cleaning.time_zone() AS zone) AS h
	CROSS JOIN LATERAL cleaning.import_moment(cleaning.import_text(t.cells[4]), h.zone) AS s
	CROSS JOIN LATERAL cleaning.import_moment(cleaning.import_text(t.cells[5]), h.zone) AS e
	WHERE num_nonnulls(VARIADIC t.cells) > 0
$$;
REVOKE EXECUTE ON FUNCTION cleaning.read_booking_cells(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.read_booking_cells(text, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.read_booking_cells(text, text) IS
	'the rows of a file of bookings, each cell by itself; flaws has NULL for a cell that is sound; 22P04, 54000 as read_clients()';

CREATE FUNCTION cleaning.read_bookings(csv text, delimiter text)
RETURNS TABLE (line integer, content jsonb, flaws jsonb[])
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH here AS MATERIALIZED (
		SELECT h.currency, cleaning.currency_digits(h.currency) AS digits
		FROM (SELECT cleaning.setting('currency') AS currency) AS h
	), file AS MATERIALIZED (
		SELECT f.line, f.email, f.client, f.team, f.starts_at, f.ends_at, f.address, f.notes, f.price, f.price_minor, f.gst_rate, f.flaws
		FROM cleaning.read_booking_cells(csv, delimiter) AS f
	), clients AS MATERIALIZED (
		SELECT c.id, lower(c.email) AS email, lower(btrim(c.name)) AS name, c.address
		FROM cleaning.clients AS c
		WHERE c.org_id = ringfence.org_id()
	), names AS (
		SELECT c.name, count(*) AS n, min(c.id::text)::uuid AS id, min(c.address) AS address
		FROM clients AS c
		GROUP BY c.name
	), found AS (
		SELECT f.line, f.email, f.client, f.team, f.starts_at, f.ends_at, f.notes, f.price, f.price_minor, f.gst_rate, f.flaws,
			c.name AS name_by_email, coalesce(n.n, 0) AS namesakes, t.id AS team_id,
			CASE WHEN f.email IS NOT NULL THEN c.id WHEN n.n = 1 THEN n.id END AS client_id,
			coalesce(f.address, CASE WHEN f.email IS NOT NULL THEN c.address WHEN n.n = 1 THEN n.address END) AS address
		FROM file AS f
		LEFT JOIN clients AS c ON c.email = f.email
		LEFT JOIN names AS n ON n.name = f.client
		LEFT JOIN cleaning.teams AS t ON t.org_id = ringfence.org_id() AND t.name = f.team
	), keyed AS (
		SELECT f.line, f.email, f.client, f.team, f.starts_at, f.ends_at, f.notes, f.price, f.price_minor, f.gst_rate, f.flaws,
			f.name_by_email, f.namesakes, f.team_id, f.client_id, f.address,
			min(f.line) OVER (PARTITION BY f.client_id, f.starts_at, f.address) AS first_line
		FROM found AS f
	), present AS (
		SELECT DISTINCT b.client_id, b.starts_at, b.address
		FROM cleaning.bookings AS b
		WHERE b.org_id = ringfence.org_id() AND b.status <> 'canceled'
	)
	SELECT k.line,
		jsonb_build_object('client_id', k.client_id, 'team_id', k.team_id, 'starts_at', k.starts_at, 'ends_at', k.ends_at,
			'address', k.address, 'notes', k.notes, 'currency', h.currency, 'gst_rate', k.gst_rate,
			'price_minor', CASE
				WHEN k.price ~ '^[0-9]{1,14}([.][0-9]{1,4})?$' THEN trunc(k.price::numeric * power(10::numeric, h.digits))
				WHEN k.price_minor ~ '^[0-9]{1,18}$' THEN k.price_minor::numeric END),
		array_remove(ARRAY[
			coalesce(k.flaws[1], cleaning.import_flaw('client_email',
				CASE WHEN k.email IS NOT NULL AND k.client_id IS NULL THEN 'is not the e-mail address of a client' END)),
			coalesce(k.flaws[2], cleaning.import_flaw('client', CASE
				WHEN k.email IS NULL AND k.client IS NULL THEN 'is required, or client_email'
				WHEN k.email IS NULL AND k.namesakes = 0 THEN 'is not the name of a client'
				WHEN k.email IS NULL AND k.namesakes > 1 THEN 'is the name of several clients: client_email tells them apart'
				WHEN k.name_by_email <> k.client THEN 'is not the name of the client with this e-mail address' END)),
			coalesce(k.flaws[3], cleaning.import_flaw('team',
				CASE WHEN k.team IS NOT NULL AND k.team_id IS NULL THEN 'is not the name of a team' END)),
			coalesce(k.flaws[4], cleaning.import_flaw('starts_at', CASE
				WHEN k.client_id IS NULL OR k.address IS NULL OR k.starts_at IS NULL THEN NULL
				WHEN k.line > k.first_line THEN format('is that of the same client and address on line %s too', k.first_line)
				WHEN p.client_id IS NOT NULL THEN 'is that of a booking of the same client and address' END)),
			coalesce(k.flaws[5], cleaning.import_flaw('ends_at',
				CASE WHEN k.ends_at <= k.starts_at THEN 'is not after starts_at' END)),
			coalesce(k.flaws[6], cleaning.import_flaw('address',
				CASE WHEN k.address IS NULL THEN 'is required, for the client has none' END)),
			k.flaws[7],
			coalesce(k.flaws[8], cleaning.import_flaw('price', CASE
				WHEN k.price IS NOT NULL AND k.price_minor IS NOT NULL THEN 'is given, and price_minor too'
				WHEN k.price IS NOT NULL AND h.currency IS NULL THEN 'is given, and the organization has no currency'
				WHEN k.price !~ '^[0-9]{1,14}([.][0-9]+)?$' THEN 'is no amount such as 120.50'
				WHEN length(split_part(k.price, '.', 2)) > h.digits
					THEN format('has more decimals than the %s of %s', h.digits, h.currency)
				WHEN k.price::numeric * power(10::numeric, h.digits) > 999999999999 THEN 'is more than 999999999999 minor units' END)),
			coalesce(k.flaws[9], cleaning.import_flaw('price_minor', CASE
				WHEN k.price_minor IS NOT NULL AND h.currency IS NULL THEN 'is given, and the organization has no currency'
				WHEN k.price_minor !~ '^[0-9]{1,18}$' THEN 'is no whole number of minor units such as 12050'
				WHEN k.price_minor::numeric > 999999999999 THEN 'is more than 999999999999 minor units' END)),
			coalesce(k.flaws[10], cleaning.import_flaw('gst_rate', CASE
				WHEN k.gst_rate !~ '^(0([.][0-9]{1,5})?|1([.]0{1,5})?)$' THEN 'is no fraction such as 0.05'
				WHEN k.gst_rate IS NOT NULL AND k.price IS NULL AND k.price_minor IS NULL THEN 'is given without a price' END))
		], NULL)
	FROM keyed AS k
	CROSS JOIN here AS h
	LEFT JOIN present AS p ON p.client_id = k.client_id AND p.starts_at = k.starts_at AND p.address = k.address
$$;
REVOKE EXECUTE ON FUNCTION cleaning.read_bookings(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.read_bookings(text, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.read_bookings(text, text) IS
	'the rows of a file of bookings: line, values, and what is wrong with them; 22P04, 54000 as read_clients()';

CREATE FUNCTION cleaning.put_clients(contents jsonb[]) RETURNS SETOF uuid
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO cleaning.clients AS c (id, name, email, phone, address)
	SELECT (r.row ->> 'id')::uuid, r.row ->> 'name', r.row ->> 'email', r.row ->> 'phone', r.row ->> 'address'
	FROM unnest(contents) AS r (row)
	ORDER BY lower(r.row ->> 'email'), r.row ->> 'id'
	ON CONFLICT (org_id, lower(email)) DO NOTHING
	RETURNING c.id
$$;
REVOKE EXECUTE ON FUNCTION cleaning.put_clients(jsonb[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.put_clients(jsonb[]) TO ringfence_member;
COMMENT ON FUNCTION cleaning.put_clients(jsonb[]) IS
	'inserts rows of read_clients(), in the order of their keys; returns the ids of those whose e-mail address was free';

CREATE FUNCTION cleaning.put_bookings(contents jsonb[]) RETURNS SETOF uuid
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH input AS MATERIALIZED (
		SELECT (r.row ->> 'id')::uuid AS id, (r.row ->> 'client_id')::uuid AS client_id, (r.row ->> 'team_id')::uuid AS team_id,
			(r.row ->> 'starts_at')::timestamptz AS starts_at, (r.row ->> 'ends_at')::timestamptz AS ends_at,
			r.row ->> 'address' AS address, r.row ->> 'notes' AS notes, (r.row ->> 'price_minor')::bigint AS price_minor,
			r.row ->> 'currency' AS currency, (r.row ->> 'gst_rate')::numeric AS gst_rate
		FROM unnest(contents) AS r (row)
	), priced AS (
		INSERT INTO cleaning.booking_prices (booking_id, client_id, price_minor, currency, gst_rate)
		SELECT i.id, i.client_id, i.price_minor, i.currency,
			coalesce(i.gst_rate, (SELECT cleaning.setting('gst_rate')::numeric), 0)
		FROM input AS i
		WHERE i.price_minor IS NOT NULL
	)
	INSERT INTO cleaning.bookings AS b (id, client_id, team_id, starts_at, ends_at, address, notes)
	SELECT i.id, i.client_id, i.team_id, i.starts_at, i.ends_at, i.address, i.notes
	FROM input AS i
	RETURNING b.id
$$;
REVOKE EXECUTE ON FUNCTION cleaning.put_bookings(jsonb[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.put_bookings(jsonb[]) TO ringfence_member;
COMMENT ON FUNCTION cleaning.put_bookings(jsonb[]) IS
	'inserts rows of read_bookings() as drafts, with their prices; returns their ids';

-- Members have no right to write events. What this one says is so: it counts.
CREATE FUNCTION cleaning.note_import(what text, csv text, ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	n bigint;
BEGIN
	IF NOT ringfence.has_role('owner', 'admin', 'dispatcher') THEN
		RAISE EXCEPTION 'not allowed to import' USING ERRCODE = 'insufficient_privilege';
	END IF;
	IF what = 'clients' THEN
		SELECT count(*) INTO n
		FROM cleaning.clients AS c
		WHERE c.org_id = org AND c.id = ANY (ids) AND c.created_at = now();
	ELSE
		SELECT count(*) INTO n
		FROM cleaning.bookings AS b
		WHERE b.org_id = org AND b.id = ANY (ids) AND b.created_at = now();
	END IF;
	IF n > 0 THEN
		PERFORM ringfence.audit_event(CASE what WHEN 'clients' THEN 'clients.imported' ELSE 'bookings.imported' END, NULL,
			jsonb_build_object('rows', n, 'bytes', octet_length(csv), 'sha256', encode(sha256(convert_to(csv, 'UTF8')), 'hex')));
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.note_import(text, text, uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.note_import(text, text, uuid[]) TO ringfence_member;
COMMENT ON FUNCTION cleaning.note_import(text, text, uuid[]) IS
	'records the event clients.imported or bookings.imported, with the file''s SHA-256 and how many of these rows this transaction made; for the office (42501)';

-- What the tables and whoever added rules to them say about one row, without
-- their names.
CREATE FUNCTION cleaning.import_refusal(code text) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN jsonb_build_object('column', NULL, 'message', CASE code
	WHEN '23505' THEN 'has a value that another row has, and that is to be unique'
	WHEN '23503' THEN 'refers to what is not there'
	ELSE 'breaks a rule of the table' END);
REVOKE EXECUTE ON FUNCTION cleaning.import_refusal(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.import_refusal(text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.import_refusal(text) IS 'what is said of a row that a constraint refused, by the SQLSTATE';

-- All rows in one statement. If the tables refuse that, each half by itself, and
-- so on: few subtransactions, and in the end the rows that are to blame.
CREATE FUNCTION cleaning.put_import(what text, contents jsonb[], OUT ids uuid[], OUT refused integer[], OUT reasons jsonb[])
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ranges integer[] := ARRAY[1, cardinality(contents)];
	tries integer := 0;
	first integer;
	last integer;
BEGIN
	ids := '{}';
	refused := '{}';
	reasons := '{}';
	WHILE cardinality(ranges) > 0 AND contents <> '{}' LOOP
		first := ranges[1];
		last := ranges[2];
		ranges := ranges[3:];
		tries := tries + 1;
		IF tries > 1000 THEN
			RAISE EXCEPTION 'import has too many rows that break rules of the tables' USING ERRCODE = 'PT422';
		END IF;
		BEGIN
			IF what = 'clients' THEN
				ids := ids || ARRAY(SELECT cleaning.put_clients(contents[first:last]));
			ELSE
				ids := ids || ARRAY(SELECT cleaning.put_bookings(contents[first:last]));
			END IF;
		EXCEPTION WHEN integrity_constraint_violation OR data_exception THEN
			IF first = last THEN
				refused := refused || first;
				reasons := reasons || cleaning.import_refusal(SQLSTATE);
			ELSE
				ranges := ARRAY[first, (first + last) / 2, (first + last) / 2 + 1, last] || ranges;
			END IF;
		END;
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.put_import(text, jsonb[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.put_import(text, jsonb[]) TO ringfence_member;
COMMENT ON FUNCTION cleaning.put_import(text, jsonb[]) IS
	'inserts rows; the ids of those that are in, the places of those that a constraint refused, and why; PT422 for hundreds of these';

CREATE FUNCTION cleaning.begin_import(what text, csv text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT ringfence.has_role('owner', 'admin', 'dispatcher') THEN
		RAISE EXCEPTION 'not allowed to import %', what USING ERRCODE = 'insufficient_privilege';
	END IF;
	IF csv IS NULL THEN
		RAISE EXCEPTION 'csv is required' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF octet_length(csv) > 10485760 THEN
		RAISE EXCEPTION 'file is larger than 10485760 bytes' USING ERRCODE = 'PT413',
			HINT = 'Import it in several files, each with the header.';
	END IF;
	-- The rows of another import have to be seen once it is over.
	IF current_setting('transaction_isolation') = 'repeatable read' THEN
		RAISE EXCEPTION 'import is not possible in a repeatable read transaction' USING ERRCODE = 'active_sql_transaction';
	END IF;
	IF NOT pg_try_advisory_xact_lock(hashtextextended('cleaning import ' || ringfence.org_id(), 0)) THEN
		RAISE EXCEPTION 'another import of the organization is not over' USING ERRCODE = 'PT409',
			HINT = 'Try again when it is.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.begin_import(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.begin_import(text, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.begin_import(text, text) IS
	'refuses what is no import: 42501 by role, 22023 without a file, PT413 too large, PT409 while another one of the organization runs; until the transaction ends there is no other';

CREATE FUNCTION cleaning.import_file(what text, csv text, partial boolean, delimiter text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lines integer[];
	contents jsonb[];
	errors jsonb;
	skipped integer;
	put record;
BEGIN
	PERFORM cleaning.begin_import(what, csv);
	BEGIN
		WITH input AS MATERIALIZED (
			SELECT c.line, c.content, c.flaws
			FROM cleaning.read_clients(csv, coalesce(delimiter, ',')) AS c
			WHERE what = 'clients'
			UNION ALL
			SELECT b.line, b.content, b.flaws
			FROM cleaning.read_bookings(csv, coalesce(delimiter, ',')) AS b
			WHERE what = 'bookings'
		), shown AS (
			SELECT jsonb_build_object('line', i.line) || f.flaw AS error, row_number() OVER (ORDER BY i.line, f.n) AS n
			FROM input AS i
			CROSS JOIN LATERAL unnest(i.flaws) WITH ORDINALITY AS f (flaw, n)
		)
		SELECT array_agg(i.line ORDER BY i.line) FILTER (WHERE i.flaws = '{}'),
			array_agg(i.content || jsonb_build_object('id', ringfence.uuid7()) ORDER BY i.line) FILTER (WHERE i.flaws = '{}'),
			count(*) FILTER (WHERE i.flaws <> '{}'),
			(SELECT coalesce(jsonb_agg(s.error ORDER BY s.n), '[]') FROM shown AS s WHERE s.n <= 100)
		INTO lines, contents, skipped, errors
		FROM input AS i;
	EXCEPTION WHEN program_limit_exceeded THEN
		RAISE EXCEPTION 'file has more than 50000 rows' USING ERRCODE = 'PT413',
			HINT = 'Import it in several files, each with the header.';
	END;

	IF skipped = 0 OR partial THEN
		SELECT p.ids, p.refused, p.reasons INTO put
		FROM cleaning.put_import(what, coalesce(contents, '{}')) AS p;
		-- What is neither in nor refused met a client who was added meanwhile.
		WITH failed AS (
			SELECT lines[r.place] AS line, r.reason
			FROM unnest(put.refused, put.reasons) AS r (place, reason)
			UNION ALL
			SELECT lines[c.n], cleaning.import_flaw('email', 'is the e-mail address of a client')
			FROM unnest(contents) WITH ORDINALITY AS c (content, n)
			WHERE (c.content ->> 'id')::uuid NOT IN (SELECT i.id FROM unnest(put.ids) AS i (id)) AND c.n <> ALL (put.refused)
		)
		SELECT skipped + count(*), errors || coalesce(jsonb_agg(jsonb_build_object('line', f.line) || f.reason ORDER BY f.line), '[]')
		INTO skipped, errors
		FROM failed AS f;
		errors := jsonb_path_query_array(errors, '$[0 to 99]');
	END IF;
	IF skipped > 0 AND partial IS NOT TRUE THEN
		RAISE EXCEPTION 'import has % with errors', CASE skipped WHEN 1 THEN '1 row' ELSE skipped || ' rows' END USING ERRCODE = 'PT422', DETAIL = errors::text,
			HINT = 'Nothing was imported. Correct these rows, or send "partial": true to import the others.';
	END IF;
	PERFORM cleaning.note_import(what, csv, put.ids);
	RETURN jsonb_build_object('imported', cardinality(put.ids), 'skipped', skipped, 'errors', errors);
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.import_file(text, text, boolean, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.import_file(text, text, boolean, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.import_file(text, text, boolean, text) IS
	'import_clients() and import_bookings()';

CREATE FUNCTION cleaning_v1.import_clients(csv text, partial boolean DEFAULT false, delimiter text DEFAULT ',') RETURNS jsonb
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET statement_timeout = '60s'
RETURN cleaning.import_file('clients', csv, partial, delimiter);
REVOKE EXECUTE ON FUNCTION cleaning_v1.import_clients(text, boolean, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.import_clients(text, boolean, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.import_clients(text, boolean, text) IS 'Import clients
By owner, admin, dispatcher. csv is a file of at most 10485760 bytes and 50000 rows, whose header names the columns name, email, phone and address, the first of which it has. Answers with {"imported", "skipped", "errors"}: errors, of which 100 are shown, have line, column and message. Without partial, any error means that nothing is imported. 422 rows with errors; 400 no such file; 403 not allowed; 409 another import of the organization runs; 413 too large.';

CREATE FUNCTION cleaning_v1.import_bookings(csv text, partial boolean DEFAULT false, delimiter text DEFAULT ',') RETURNS jsonb
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET statement_timeout = '60s'
RETURN cleaning.import_file('bookings', csv, partial, delimiter);
REVOKE EXECUTE ON FUNCTION cleaning_v1.import_bookings(text, boolean, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.import_bookings(text, boolean, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.import_bookings(text, boolean, text) IS 'Import bookings as drafts
By owner, admin, dispatcher. csv is a file of at most 10485760 bytes and 50000 rows, whose header names the columns client_email or client, starts_at and ends_at, and if wanted team, address, notes, price or price_minor, and gst_rate. Times without an offset are those of the organization''s time zone, prices are in its currency. Answers as import_clients() does. 422 rows with errors; 400 no such file; 403 not allowed; 409 another import of the organization runs; 413 too large.';
