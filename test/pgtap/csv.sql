BEGIN;
SELECT plan(1);
SELECT pass('x');
SELECT * FROM finish();
ROLLBACK;
