-- Returns of a machine whose firmware was to boot the disk, apart from those of one that we sent there; and the boot whose agent
-- checked in last: until now, as far as is known, the one that began the latest run.
ALTER TABLE machines ADD COLUMN restart_returns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE machines ADD COLUMN checked_in      TEXT;
UPDATE machines SET checked_in = (SELECT boot_id FROM runs WHERE runs.id = machines.run_id);
