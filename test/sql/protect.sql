-- What protect() makes of a table, as a DBA sees it, and what it says of
-- mistakes.
\set SHOW_CONTEXT never
CREATE EXTENSION ringfence;
SELECT ringfence.install('core');
SET search_path = public;

CREATE TABLE notes (
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	client_id uuid,
	body text NOT NULL
);
SELECT ringfence.protect('notes', '{
	"owner, admin": "all",
	"dispatcher": "select insert",
	"client": ["select where client_id is client", "update where client_id is client"],
	"*": "delete where client_id is user"
}');
\d notes
SELECT grantee, string_agg(privilege_type, ', ' ORDER BY privilege_type) AS privileges
FROM information_schema.role_table_grants
WHERE table_schema = 'public' AND table_name = 'notes'
GROUP BY grantee ORDER BY grantee;

-- Another matrix leaves nothing of the first.
SELECT ringfence.protect('notes', '{"owner": "select"}');
SELECT polname, polcmd, polpermissive FROM pg_policy WHERE polrelid = 'notes'::regclass ORDER BY polname;
SELECT ringfence.unprotect('notes');
\d notes

-- The other row classes
CREATE TABLE tariffs (code text PRIMARY KEY);
SELECT ringfence.protect('tariffs', row_class => 'reference');
\d tariffs
CREATE TABLE bookmarks (user_id uuid NOT NULL DEFAULT ringfence.user_id(), url text, PRIMARY KEY (user_id, url));
SELECT ringfence.protect('bookmarks', '{"*": "all"}', 'user');
\d bookmarks

-- Columns
CREATE TABLE bills (id int PRIMARY KEY, note text, paid int);
SELECT ringfence.protect('bills', '{"owner": "all"}', columns => '{"update": ["note"], "insert": ["id", "note"]}');
SELECT grantee, privilege_type, string_agg(column_name, ', ' ORDER BY column_name) AS columns
FROM information_schema.column_privileges
WHERE table_schema = 'public' AND table_name = 'bills' AND grantee = 'ringfence_member'
GROUP BY grantee, privilege_type ORDER BY privilege_type;
SELECT ringfence.protect('bills', '{"owner": "all"}', columns => '{"delete": ["note"]}');
SELECT ringfence.protect('bills', '{"owner": "all"}', columns => '{"update": "note"}');
SELECT ringfence.protect('bills', '{"owner": "all"}', columns => '{"update": ["nothing"]}');

-- Mistakes
SELECT ringfence.protect('notes', '{"Owner": "all"}');
SELECT ringfence.protect('notes', '{"owner": "everything"}');
SELECT ringfence.protect('notes', '{"owner": 1}');
SELECT ringfence.protect('notes', '[]');
SELECT ringfence.protect('notes', '{"client": "select where nothing is client"}');
SELECT ringfence.protect('notes', '{"client": "select where client_id = 1"}');
SELECT ringfence.protect('notes', '{"client": "select where client_id matches public.nothing as client"}');
SELECT ringfence.protect('notes', row_class => 'tenant');
SELECT ringfence.protect(NULL);
SELECT ringfence.protect('pg_class'::regclass);
CREATE VIEW notes_view AS SELECT * FROM notes;
SELECT ringfence.protect('notes_view');
CREATE TABLE no_key (body text);
SELECT ringfence.protect('no_key');
CREATE TABLE other_org_id (id int PRIMARY KEY, org_id int);
SELECT ringfence.protect('other_org_id');
CREATE TABLE filled (id int PRIMARY KEY);
INSERT INTO filled VALUES (1);
SELECT ringfence.protect('filled');
SELECT ringfence.install('nothing');
SELECT ringfence.install('../../etc/passwd');
SELECT ringfence.install('core');
SELECT ringfence.uninstall('nothing');
