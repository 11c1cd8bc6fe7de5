/*
 * geo.c: distances on the earth, and the boxes that hold all that is near.
 *
 * The earth is a sphere of its mean radius (IUGG), which is off by at most 0.6 %
 * from an ellipsoid. Positions are degrees; in a point or a box x is the
 * longitude and y the latitude.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/float.h"
#include "utils/geo_decls.h"

#define EARTH_RADIUS_M 6371008.8
#define RADIANS (M_PI / 180.0)

/* Of a box's edges, in degrees: what rounding could leave outside. */
#define BOX_SLACK 1e-9

PG_FUNCTION_INFO_V1(ringfence_boxes_around);
PG_FUNCTION_INFO_V1(ringfence_distance_m);

/* By haversines, which are exact for small distances as well. */
static double
distance_m(double lat1, double lng1, double lat2, double lng2)
{
	double		sin_lat = sin((lat2 - lat1) * RADIANS / 2);
	double		sin_lng = sin((lng2 - lng1) * RADIANS / 2);
	double		cosines = cos(lat1 * RADIANS) * cos(lat2 * RADIANS);
	double		haversine = sin_lat * sin_lat + cosines * sin_lng * sin_lng;

	return 2 * EARTH_RADIUS_M * asin(sqrt(haversine < 1 ? haversine : 1));
}

/* Meters between two positions. Raises nothing: it is labeled leakproof. */
Datum
ringfence_distance_m(PG_FUNCTION_ARGS)
{
	double		lat1 = PG_GETARG_FLOAT8(0);
	double		lng1 = PG_GETARG_FLOAT8(1);
	double		lat2 = PG_GETARG_FLOAT8(2);
	double		lng2 = PG_GETARG_FLOAT8(3);

	if (!isfinite(lat1) || !isfinite(lng1) || !isfinite(lat2) || !isfinite(lng2))
		PG_RETURN_FLOAT8(get_float8_nan());
	PG_RETURN_FLOAT8(distance_m(lat1, lng1, lat2, lng2));
}

static Datum
make_box(double west, double south, double east, double north)
{
	BOX		   *box = palloc(sizeof(BOX));

	box->low.x = west - BOX_SLACK;
	box->low.y = south - BOX_SLACK;
	box->high.x = east + BOX_SLACK;
	box->high.y = north + BOX_SLACK;
	return BoxPGetDatum(box);
}

/*
 * The boxes outside of which nothing is within a radius: one, or two where the
 * radius crosses the 180th meridian. A circle touches its easternmost and
 * westernmost meridian off its centre's latitude, nearer to the pole; one that
 * holds a pole holds every longitude.
 */
Datum
ringfence_boxes_around(PG_FUNCTION_ARGS)
{
	double		lat = PG_GETARG_FLOAT8(0);
	double		lng = PG_GETARG_FLOAT8(1);
	double		radius = PG_GETARG_FLOAT8(2);
	double		reach;
	double		south;
	double		north;
	double		width;
	Datum		boxes[2];
	int			count = 0;

	if (!(lat >= -90 && lat <= 90 && lng >= -180 && lng <= 180))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid position"),
				 errdetail("A latitude is from -90 to 90 degrees, a longitude from -180 to 180.")));
	if (!(radius >= 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid radius"),
				 errdetail("A radius is 0 meters or more.")));

	reach = radius / EARTH_RADIUS_M;
	south = lat - reach / RADIANS;
	north = lat + reach / RADIANS;
	if (south <= -90 || north >= 90)
		boxes[count++] = make_box(-180, fmax(south, -90), 180, fmin(north, 90));
	else
	{
		width = asin(fmin(1, sin(reach) / cos(lat * RADIANS))) / RADIANS;
		boxes[count++] = make_box(fmax(lng - width, -180), south,
								  fmin(lng + width, 180), north);
		if (lng - width < -180)
			boxes[count++] = make_box(lng - width + 360, south, 180, north);
		else if (lng + width > 180)
			boxes[count++] = make_box(-180, south, lng + width - 360, north);
	}
	PG_RETURN_ARRAYTYPE_P(construct_array(boxes, count, BOXOID, sizeof(BOX),
										  false, TYPALIGN_DOUBLE));
}
