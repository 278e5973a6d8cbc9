-- What is in an image and in its partitions (messages of the contract: bty.registry.v1.ImageContents, bty.registry.v1.FileSystem), what its
-- last verification found, and when a name was pointed where it points: until now, as far as is known, when its image was imported.
ALTER TABLE images           ADD COLUMN contents     BLOB;
ALTER TABLE images           ADD COLUMN verified_at  INTEGER;
ALTER TABLE images           ADD COLUMN wrong_chunks INTEGER NOT NULL DEFAULT 0;
ALTER TABLE image_partitions ADD COLUMN file_system  BLOB;
ALTER TABLE image_names      ADD COLUMN pointed_at   INTEGER NOT NULL DEFAULT 0;
UPDATE image_names SET pointed_at = (SELECT imported_at FROM images WHERE images.id = image_names.image_id);
