-- A part of an export reads the rows of that part, and not all that are left: what a
-- row far behind throws is met when its turn comes. Rows come in the order of the key,
-- each once, wherever parts end among those that are asked for at a time.
\ir include/exports.sql
SELECT plan(9);

INSERT INTO shop.sales (org_id, id, day, sold_at, what, amount)
SELECT :'org_a', n, date '2026-03-01', timestamptz '2026-04-01 08:00:00+00' + n * interval '1 min', repeat('x', n % 7), n
FROM generate_series(301, 30000) AS n;
ANALYZE shop.sales;
CREATE VIEW shop.fails_late WITH (security_invoker = true) AS
SELECT s.id, s.what, 1 / (29000 - s.id) AS fails FROM shop.sales AS s;
CREATE VIEW shop.short WITH (security_invoker = true) AS
SELECT s.id, s.what FROM shop.sales AS s;
GRANT SELECT ON shop.fails_late, shop.short TO ringfence_member;
SELECT
	ringfence.declare_export('fails_late', 'shop.fails_late', '{id}', '{books}'),
	ringfence.declare_export('short', 'shop.short', '{id}', '{books}') \g /dev/null

SELECT asks(:'user_books', :'org_a', starts('''fails_late''')) AS late \gset
SELECT job('SET ringfence.export_part_bytes = 10000') \g /dev/null
SELECT is(steps(3), 3, 'an export is taken up, counted, and a part of it written');
SELECT is((SELECT array_agg(p.bytes BETWEEN 9000 AND 10000) FROM ringfence_data.export_parts AS p WHERE p.export_id = :'late'), ARRAY[true],
	'whatever a row far behind throws');
SELECT is(state(:'late'), 'running', 'which is not met yet');
SELECT is(steps() > 20, true, 'more parts follow');
SELECT is(error(:'late'), 'failed 22012: division by zero', 'until it is');

SELECT asks(:'user_books', :'org_a', starts('''short''')) AS parts \gset
SELECT asks(:'user_books', :'org_a', starts('''short'', consistent => true')) AS at_once \gset
SELECT job('SET ringfence.export_part_bytes = 19993') \g /dev/null
SELECT is(steps() > 10, true, 'parts of more and of fewer rows than are asked for at a time');
SELECT is(whole(:'parts') = (SELECT E'id,what\r\n' || string_agg(s.id || ',' || coalesce(CASE s.what WHEN '' THEN '""' WHEN '=1+2' THEN '"''=1+2"' ELSE s.what END, '') || E'\r\n', '' ORDER BY s.id)
	FROM shop.sales AS s WHERE s.org_id = :'org_a'), true, 'have each row once, in order');
SELECT is(whole(:'at_once') = whole(:'parts'), true, 'so they do when all are read at once');
SELECT is((SELECT array_agg(DISTINCT p.bytes > 19900 AND p.bytes <= 19993) FROM ringfence_data.export_parts AS p
	WHERE p.export_id IN (:'parts', :'at_once') AND (p.export_id, p.part) NOT IN (SELECT m.export_id, max(m.part) FROM ringfence_data.export_parts AS m GROUP BY 1)),
	ARRAY[true], 'each part is as full as it can be');

SELECT dblink_disconnect('job') \g /dev/null
SELECT * FROM finish();
