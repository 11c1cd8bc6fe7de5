-- Geography: distances, and boxes for an index to look into (src/geo.c).

CREATE FUNCTION ringfence.distance_m(
	lat1 double precision,
	lng1 double precision,
	lat2 double precision,
	lng2 double precision
) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF
AS 'MODULE_PATHNAME', 'ringfence_distance_m';
REVOKE EXECUTE ON FUNCTION
	ringfence.distance_m(double precision, double precision, double precision, double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	ringfence.distance_m(double precision, double precision, double precision, double precision)
	TO ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION
	ringfence.distance_m(double precision, double precision, double precision, double precision) IS
	'meters between two positions, given in degrees, along the surface of a sphere of the earth''s mean radius; NaN if a coordinate is no number';

CREATE FUNCTION ringfence.boxes_around(
	lat double precision,
	lng double precision,
	radius_m double precision
) RETURNS box[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_boxes_around';
REVOKE EXECUTE ON FUNCTION
	ringfence.boxes_around(double precision, double precision, double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	ringfence.boxes_around(double precision, double precision, double precision)
	TO ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION
	ringfence.boxes_around(double precision, double precision, double precision) IS
	'one box, or two where the 180th meridian lies between, of point(longitude, latitude) with all that is within a radius in meters, and some that is not; for an index on the points; 22023 for what is no position or radius';
