-- Photos of visits. The image is in a store outside the database, under a key that
-- nobody but the database makes; the row is what is known of it. A row that goes,
-- alone or with its booking, leaves a tombstone, and a worker deletes the image.

-- A team reads the photos of its bookings, so that they carry team_id. A booking
-- that has photos never gets a team after it had none, for MATCH SIMPLE would not
-- tell the photo: see begin_photo() and guard_booking().
ALTER TABLE cleaning.bookings ADD CONSTRAINT bookings_team_id_key UNIQUE (org_id, id, team_id);

CREATE TABLE cleaning.photos (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	booking_id uuid NOT NULL,
	client_id uuid NOT NULL,
	team_id uuid,
	object_key text COLLATE "C" NOT NULL GENERATED ALWAYS AS (org_id::text || '/' || booking_id::text || '/' || id::text) STORED,
	content_type text COLLATE "C" NOT NULL,
	size_bytes integer NOT NULL,
	sha256 text COLLATE "C" NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT photos_object_key_key UNIQUE (org_id, object_key),
	CONSTRAINT photos_booking_id_fkey FOREIGN KEY (org_id, booking_id, client_id)
		REFERENCES cleaning.bookings (org_id, id, client_id) ON UPDATE CASCADE ON DELETE CASCADE,
	CONSTRAINT photos_team_id_fkey FOREIGN KEY (org_id, booking_id, team_id)
		REFERENCES cleaning.bookings (org_id, id, team_id) ON UPDATE CASCADE ON DELETE CASCADE,
	CONSTRAINT photos_content_type_check CHECK (content_type IN ('image/jpeg', 'image/png', 'image/webp', 'image/heic')),
	CONSTRAINT photos_size_bytes_check CHECK (size_bytes BETWEEN 1 AND 10485760),
	CONSTRAINT photos_sha256_check CHECK (sha256 ~ '^[0-9a-f]{64}$')
);
CREATE INDEX photos_booking_id_idx ON cleaning.photos (org_id, booking_id);
CREATE INDEX photos_client_id_idx ON cleaning.photos (org_id, client_id);
CREATE INDEX photos_created_at_idx ON cleaning.photos (org_id, created_at);

COMMENT ON TABLE cleaning.photos IS 'Photos of visits, begun by photo_begin(); the images are in the store "photos". A row that is deleted leaves a tombstone for its image.';
COMMENT ON COLUMN cleaning.photos.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN cleaning.photos.id IS 'key within the organization';
COMMENT ON COLUMN cleaning.photos.booking_id IS 'the booking';
COMMENT ON COLUMN cleaning.photos.client_id IS 'the client, as on the booking';
COMMENT ON COLUMN cleaning.photos.team_id IS 'the team, as on the booking';
COMMENT ON COLUMN cleaning.photos.object_key IS 'where the image is in the store: organization/booking/id; set by the database';
COMMENT ON COLUMN cleaning.photos.content_type IS 'image/jpeg, image/png, image/webp or image/heic';
COMMENT ON COLUMN cleaning.photos.size_bytes IS 'size of the image, 1 to 10485760 bytes (10 MiB)';
COMMENT ON COLUMN cleaning.photos.sha256 IS 'SHA-256 of the image, 64 hexadecimal digits in lower case';
COMMENT ON COLUMN cleaning.photos.created_at IS 'when it was begun';

SELECT ringfence.tombstone('cleaning.photos', 'object_key', 'photos');
