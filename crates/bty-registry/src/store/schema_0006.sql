-- Whether a machine's disk is written even where it says that it is about to fail.
ALTER TABLE machines ADD COLUMN failing_disk_ok INTEGER NOT NULL DEFAULT 0;
