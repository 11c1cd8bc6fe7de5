-- app: merchant
-- requires: core
-- schemas: merchant, merchant_v1
--
-- Rewards for drivers who charge: merchants near chargers offer perks, drivers
-- use them, and Nova changes hands. An organization is the operator of a city or
-- region; its drivers and merchants are parties in it. Tables stand in merchant,
-- what PostgREST serves in merchant_v1.
--
-- A place is what a map knows, with a text id, shared by all; a merchant is who
-- has a contract with the operator. claims says which place is whose.
--
-- Chargers, places and what lies beside what are of row class reference: facts of
-- the world that no operator owns, fed by ringfence_operator, read by all. Zones
-- and settings are each operator's own. The rules, which states follow which and
-- what moves Nova from where to where, are rows too, but the app's: row class system.
--
-- Nova is an asset of the ledger, and there is no other record of it: no table
-- here has a balance.
--
-- Where a driver was stands in intents alone, which merchants don't read; what
-- proves a visit, in visit_codes, which nobody but the driver reads. Both go after
-- some time, and who was where is forgotten: see retention.sql.
--
-- Locks are taken in this order, several rows of one table in key order:
-- redemption_attempts, drivers, settings, merchants, perks, exclusive_sessions,
-- visits, then the ledger's.

CREATE SCHEMA merchant;
COMMENT ON SCHEMA merchant IS 'tables of the merchant app; requests go through merchant_v1';
GRANT USAGE ON SCHEMA merchant TO ringfence_member, ringfence_operator, ringfence_jobs;

CREATE SCHEMA merchant_v1;
COMMENT ON SCHEMA merchant_v1 IS 'Merchant
Chargers, merchants near them, exclusives, visits and Nova of the caller''s organization.
Positions are degrees, distances meters, Nova whole numbers. Rows of other organizations do not exist here.';
GRANT USAGE ON SCHEMA merchant_v1 TO ringfence_member, ringfence_jobs;
