//! The tables of images, their partitions and names.

use std::collections::BTreeMap;

use bty_api::registry::v1::{FileSystem, ImageContents, Partition};
use bty_types::{ImageId, ImageName, ImageSelector};
use prost::Message;
use rusqlite::{OptionalExtension, Row};

use super::{
    encode::{Columns, integer, millis},
    open::{Doing, StoreError},
    readers::Snapshot,
    transaction::Transaction,
};
use crate::{
    decide::Resolved,
    record::{Image, Pointer},
};

const SELECT: &str = "SELECT id, raw_bytes, stored_bytes, mapped_bytes, chunk_bytes, index_digest, source, source_format, \
     imported_at, partition_table, boots_bios, boots_uefi, sector_bytes, contents, verified_at, wrong_chunks FROM images";

impl Snapshot<'_> {
    /// What an assigned image resolves to.
    pub(crate) fn resolve(&self, selector: Option<&ImageSelector>) -> Result<Resolved, StoreError> {
        let Some(selector) = selector else { return Ok(Resolved::Unset) };
        Ok(self.image_id(selector)?.map_or(Resolved::Absent, Resolved::Present))
    }

    /// The id of the image that is meant, where the store has it.
    pub(crate) fn image_id(&self, selector: &ImageSelector) -> Result<Option<ImageId>, StoreError> {
        let sql = match selector {
            ImageSelector::Name(_) => "SELECT image_id FROM image_names WHERE name = ?1",
            ImageSelector::Id(_) => "SELECT id FROM images WHERE id = ?1",
        };
        let doing = "looking for an image";
        let mut statement = self.connection.prepare_cached(sql).doing(doing)?;
        statement
            .query_row([selector.to_string()], |row| Columns::of(row).parsed("an image id"))
            .optional()
            .doing(doing)
    }

    /// The image with this id.
    pub(crate) fn image(&self, id: ImageId) -> Result<Option<Image>, StoreError> {
        let doing = "reading an image";
        let mut statement =
            self.connection.prepare_cached(&format!("{SELECT} WHERE id = ?1")).doing(doing)?;
        let found = statement.query_row([id.to_string()], image).optional().doing(doing)?;
        let Some(mut found) = found else { return Ok(None) };
        found.names = self.names_of(id)?;
        found.partitions = self.partitions_of(id)?;
        Ok(Some(found))
    }

    /// All images, newest first.
    pub(crate) fn images(&self) -> Result<Vec<Image>, StoreError> {
        let doing = "reading the images";
        let mut statement = self
            .connection
            .prepare_cached(&format!("{SELECT} ORDER BY imported_at DESC, id"))
            .doing(doing)?;
        let rows = statement.query_map([], image).doing(doing)?;
        let mut images: Vec<Image> = rows.collect::<rusqlite::Result<_>>().doing(doing)?;
        let mut names = self.names()?;
        for image in &mut images {
            image.names = names.remove(&image.id).unwrap_or_default();
            image.partitions = self.partitions_of(image.id)?;
        }
        Ok(images)
    }

    /// The names that point at an image, in order.
    pub(crate) fn names_of(&self, id: ImageId) -> Result<Vec<String>, StoreError> {
        let doing = "reading the names of an image";
        let mut statement = self
            .connection
            .prepare_cached("SELECT name FROM image_names WHERE image_id = ?1 ORDER BY name")
            .doing(doing)?;
        let rows = statement.query_map([id.to_string()], |row| row.get(0)).doing(doing)?;
        rows.collect::<rusqlite::Result<_>>().doing(doing)
    }

    fn names(&self) -> Result<BTreeMap<ImageId, Vec<String>>, StoreError> {
        let doing = "reading the names of images";
        let mut statement = self
            .connection
            .prepare_cached("SELECT image_id, name FROM image_names ORDER BY name")
            .doing(doing)?;
        let rows = statement
            .query_map([], |row| {
                let mut columns = Columns::of(row);
                Ok((columns.parsed("an image id")?, columns.take()?))
            })
            .doing(doing)?;
        let mut names: BTreeMap<ImageId, Vec<String>> = BTreeMap::new();
        for row in rows {
            let (id, name) = row.doing(doing)?;
            names.entry(id).or_default().push(name);
        }
        Ok(names)
    }

    /// Where every name points, the one first that was pointed last.
    pub(crate) fn pointers(&self) -> Result<Vec<Pointer>, StoreError> {
        let doing = "reading the names of images";
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT name, image_id, pointed_at FROM image_names ORDER BY pointed_at DESC, name",
            )
            .doing(doing)?;
        let rows = statement
            .query_map([], |row| {
                let mut columns = Columns::of(row);
                Ok(Pointer {
                    name: columns.parsed("a name")?,
                    image: columns.parsed("an image id")?,
                    at: columns.time()?,
                })
            })
            .doing(doing)?;
        rows.collect::<rusqlite::Result<_>>().doing(doing)
    }

    fn partitions_of(&self, id: ImageId) -> Result<Vec<Partition>, StoreError> {
        let doing = "reading the partitions of an image";
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT number, start_bytes, size_bytes, type, name, file_system FROM image_partitions \
                 WHERE image_id = ?1 ORDER BY position",
            )
            .doing(doing)?;
        let rows = statement
            .query_map([id.to_string()], |row| {
                let mut columns = Columns::of(row);
                Ok(Partition {
                    number: columns.count()?,
                    start_bytes: columns.count()?,
                    size_bytes: columns.count()?,
                    r#type: columns.take()?,
                    name: columns.take()?,
                    file_system: columns.maybe_message()?,
                })
            })
            .doing(doing)?;
        rows.collect::<rusqlite::Result<_>>().doing(doing)
    }
}

impl Transaction<'_> {
    /// Records an image that isn't on record. Its names are set by [`Self::point_name`].
    pub(crate) fn insert_image(&mut self, image: &Image) -> Result<(), StoreError> {
        self.change()?;
        let doing = "writing an image";
        self.connection()
            .execute(
                "INSERT INTO images (id, raw_bytes, stored_bytes, mapped_bytes, chunk_bytes, index_digest, source, \
                 source_format, imported_at, partition_table, boots_bios, boots_uefi, sector_bytes, contents) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
                (
                    image.id.to_string(),
                    integer(image.raw_bytes),
                    integer(image.stored_bytes),
                    integer(image.mapped_bytes),
                    image.chunk_bytes,
                    &image.index_digest,
                    &image.source,
                    &image.source_format,
                    millis(image.imported_at),
                    &image.partition_table,
                    image.boots_bios,
                    image.boots_uefi,
                    image.sector_bytes,
                    image.contents.as_ref().map(Message::encode_to_vec),
                ),
            )
            .doing(doing)?;
        for (position, partition) in image.partitions.iter().enumerate() {
            self.connection()
                .execute(
                    "INSERT INTO image_partitions (image_id, position, number, start_bytes, size_bytes, type, name, \
                     file_system) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    (
                        image.id.to_string(),
                        integer(position),
                        partition.number,
                        integer(partition.start_bytes),
                        integer(partition.size_bytes),
                        &partition.r#type,
                        &partition.name,
                        partition.file_system.as_ref().map(Message::encode_to_vec),
                    ),
                )
                .doing(doing)?;
        }
        self.refresh_assigned(&ImageSelector::Id(image.id))
    }

    /// Takes it that an image that is on record has another file now, with the same disk in it.
    pub(crate) fn replace_image_file(&mut self, image: &Image) -> Result<(), StoreError> {
        self.change()?;
        self.connection()
            .execute(
                "UPDATE images SET stored_bytes = ?2, mapped_bytes = ?3, chunk_bytes = ?4, index_digest = ?5, \
                 verified_at = NULL, wrong_chunks = 0 WHERE id = ?1",
                (
                    image.id.to_string(),
                    integer(image.stored_bytes),
                    integer(image.mapped_bytes),
                    image.chunk_bytes,
                    &image.index_digest,
                ),
            )
            .doing("writing that an image has another file")?;
        self.refresh_assigned(&ImageSelector::Id(image.id))
    }

    /// Records what a verification of an image has found.
    pub(crate) fn image_verified(
        &mut self,
        id: ImageId,
        wrong_chunks: u64,
    ) -> Result<(), StoreError> {
        self.change()?;
        self.connection()
            .execute(
                "UPDATE images SET verified_at = ?2, wrong_chunks = ?3 WHERE id = ?1",
                (id.to_string(), millis(self.now()), integer(wrong_chunks)),
            )
            .doing("writing what a verification found")
            .map(drop)
    }

    /// Records what is in an image and in its partitions, in their order.
    pub(crate) fn image_looked_into(
        &mut self,
        id: ImageId,
        contents: &ImageContents,
        file_systems: &[Option<FileSystem>],
    ) -> Result<(), StoreError> {
        self.change()?;
        let doing = "writing what is in an image";
        let id = id.to_string();
        self.connection()
            .execute(
                "UPDATE images SET contents = ?2 WHERE id = ?1",
                (&id, contents.encode_to_vec()),
            )
            .doing(doing)?;
        for (position, file_system) in file_systems.iter().enumerate() {
            self.connection()
                .execute(
                    "UPDATE image_partitions SET file_system = ?3 WHERE image_id = ?1 AND position = ?2",
                    (&id, integer(position), file_system.as_ref().map(Message::encode_to_vec)),
                )
                .doing(doing)?;
        }
        Ok(())
    }

    /// Points a name at an image that is on record.
    pub(crate) fn point_name(&mut self, name: &ImageName, id: ImageId) -> Result<(), StoreError> {
        self.change()?;
        self.connection()
            .execute(
                "INSERT INTO image_names (name, image_id, pointed_at) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (name) DO UPDATE SET image_id = ?2, pointed_at = ?3",
                (name.to_string(), id.to_string(), millis(self.now())),
            )
            .doing("pointing a name at an image")?;
        self.refresh_assigned(&ImageSelector::Name(name.clone()))
    }

    /// Takes a name away.
    pub(crate) fn delete_name(&mut self, name: &ImageName) -> Result<(), StoreError> {
        self.change()?;
        self.connection()
            .execute("DELETE FROM image_names WHERE name = ?1", [name.to_string()])
            .doing("taking a name away")?;
        self.refresh_assigned(&ImageSelector::Name(name.clone()))
    }

    /// Takes an image off the record, with all its names.
    pub(crate) fn delete_image(&mut self, id: ImageId) -> Result<(), StoreError> {
        self.change()?;
        let doing = "deleting an image";
        let id_text = id.to_string();
        self.connection()
            .execute("DELETE FROM image_names WHERE image_id = ?1", [&id_text])
            .doing(doing)?;
        self.connection().execute("DELETE FROM images WHERE id = ?1", [&id_text]).doing(doing)?;
        self.refresh_assigned(&ImageSelector::Id(id))
    }

    /// What machines of this image do may have changed with it.
    fn refresh_assigned(&mut self, selector: &ImageSelector) -> Result<(), StoreError> {
        let assigned = self.machines_assigned(selector)?;
        self.refresh_machines(&assigned)
    }
}

fn image(row: &Row<'_>) -> rusqlite::Result<Image> {
    let mut columns = Columns::of(row);
    Ok(Image {
        id: columns.parsed("an image id")?,
        names: Vec::new(),
        raw_bytes: columns.count()?,
        stored_bytes: columns.count()?,
        mapped_bytes: columns.count()?,
        chunk_bytes: columns.count()?,
        index_digest: columns.take()?,
        source: columns.take()?,
        source_format: columns.take()?,
        imported_at: columns.time()?,
        partition_table: columns.take()?,
        partitions: Vec::new(),
        boots_bios: columns.take()?,
        boots_uefi: columns.take()?,
        sector_bytes: columns.count()?,
        contents: columns.maybe_message()?,
        verified_at: columns.maybe_time()?,
        wrong_chunks: columns.count()?,
    })
}
