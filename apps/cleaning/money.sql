-- What an organization sets once, and the one rounding rule.

CREATE FUNCTION cleaning.gst(amount_minor bigint, rate numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN round(amount_minor * rate)::bigint;
REVOKE EXECUTE ON FUNCTION cleaning.gst(bigint, numeric) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.gst(bigint, numeric) TO ringfence_member;
COMMENT ON FUNCTION cleaning.gst(bigint, numeric) IS
	'GST on a net amount, rounded per invoice line to a whole minor unit, halves away from zero';

CREATE FUNCTION cleaning.setting(key text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN (SELECT o.settings ->> key FROM ringfence_data.orgs AS o WHERE o.id = ringfence.org_id());
REVOKE EXECUTE ON FUNCTION cleaning.setting(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.setting(text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.setting(text) IS
	'a setting of the caller''s organization, NULL if unset; the app knows currency, gst_rate, payment_days, referral_credit_minor, time_zone and worker_hours_per_week';

CREATE FUNCTION cleaning.time_zone() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(cleaning.setting('time_zone'), 'UTC');
REVOKE EXECUTE ON FUNCTION cleaning.time_zone() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.time_zone() TO ringfence_member;
COMMENT ON FUNCTION cleaning.time_zone() IS 'the time zone of the caller''s organization: the setting time_zone, or UTC';
