-- app: cleaning
-- requires: core
-- schemas: cleaning, cleaning_v1
--
-- Cleaning companies: clients, teams and their workers, bookings, invoices,
-- payments, leads. Tables stand in cleaning, what PostgREST serves in
-- cleaning_v1.
--
-- Money is an integer number of minor units (cents) beside an ISO 4217 code.
-- Prices and worker rates have tables of their own, so that a worker, who may
-- read a booking, can't read its price by any statement. What a client may read
-- carries client_id, and a foreign key of three columns makes it the parent's.
--
-- Locks are taken in this order, several rows of one table in key order:
-- invoice_counters, bookings, booking_prices, invoices, payments, leads,
-- clients, referral_credits.

CREATE SCHEMA cleaning;
COMMENT ON SCHEMA cleaning IS 'tables of the cleaning app; requests go through cleaning_v1';
GRANT USAGE ON SCHEMA cleaning TO ringfence_member, ringfence_operator;

CREATE SCHEMA cleaning_v1;
COMMENT ON SCHEMA cleaning_v1 IS 'Cleaning
Bookings, invoices and payments of the caller''s organization.
Amounts are integers in minor units of the currency beside them. Rows of other organizations do not exist here.';
GRANT USAGE ON SCHEMA cleaning_v1 TO ringfence_member;
