-- How long rows are kept. Business records stay for the seven years that tax law
-- wants, also when their organization has gone; an organization in a country that
-- wants more may have ten. Rows that others reference wait for those.

CREATE INDEX clients_created_at_idx ON cleaning.clients (org_id, created_at);
CREATE INDEX leads_created_at_idx ON cleaning.leads (org_id, created_at);
CREATE INDEX referral_credits_created_at_idx ON cleaning.referral_credits (org_id, created_at);
CREATE INDEX bookings_ends_at_idx ON cleaning.bookings (org_id, ends_at);
CREATE INDEX bookings_notes_idx ON cleaning.bookings (org_id, ends_at) WHERE notes IS DISTINCT FROM '';
CREATE INDEX invoices_created_at_idx ON cleaning.invoices (org_id, created_at);
CREATE INDEX payments_created_at_idx ON cleaning.payments (org_id, created_at);

SELECT
	ringfence.retain('cleaning.photos', 'created_at', '90 days', min_keep => '7 days', max_keep => '1 year',
		reason => 'photos of people''s homes are for settling what was done'),
	ringfence.retain('cleaning.bookings', 'ends_at', '1 year', 'anonymize', '{"notes": {"constant": ""}}', step => 'notes',
		min_keep => '30 days', max_keep => '7 years', reason => 'notes say how to get into people''s homes'),
	ringfence.retain('cleaning.bookings', 'ends_at', '2 years', filter => '{"status": ["draft", "canceled"]}', step => 'not_done',
		min_keep => '90 days', max_keep => '7 years', reason => 'what was not done is not invoiced'),
	ringfence.retain('cleaning.bookings', 'ends_at', '7 years', max_keep => '10 years', reason => 'business records'),
	ringfence.retain('cleaning.invoices', 'created_at', '7 years', max_keep => '10 years', outlives_org => true,
		reason => 'business records'),
	ringfence.retain('cleaning.payments', 'created_at', '7 years', max_keep => '10 years', outlives_org => true,
		reason => 'business records'),
	ringfence.retain('cleaning.referral_credits', 'created_at', '7 years', max_keep => '10 years', outlives_org => true,
		reason => 'business records'),
	ringfence.retain_forever('cleaning.invoice_items', 'they go with their invoice', outlives_org => true),
	ringfence.retain('cleaning.clients', 'created_at', '7 years', max_keep => '10 years',
		reason => 'as long as business records are about them'),
	ringfence.retain('cleaning.leads', 'created_at', '1 year', filter => '{"status": "lost"}', step => 'lost',
		min_keep => '30 days', max_keep => '2 years', reason => 'they said no'),
	ringfence.retain('cleaning.leads', 'created_at', '2 years', filter => '{"status": ["new", "contacted"]}', step => 'stale',
		min_keep => '90 days', max_keep => '3 years', reason => 'nothing came of it'),
	ringfence.retain('cleaning.leads', 'created_at', '1 year', 'anonymize',
		'{"name": "pseudonym", "email": "null", "phone": "null", "address": "null"}', '{"status": "converted"}', 'converted',
		min_keep => '30 days', max_keep => '7 years', reason => 'the client has all of it'),
	ringfence.retain('cleaning.leads', 'created_at', '7 years', max_keep => '10 years', reason => 'credits are for them'),
	ringfence.retain_forever('cleaning.workers', 'staff are deleted by the office, or when they want to be forgotten')
;
