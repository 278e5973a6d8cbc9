-- What becomes of a machine's boot entries after a flash: the wish, and what was done in each run (a NextBoot message).
ALTER TABLE machines ADD COLUMN boot_entry TEXT CHECK (boot_entry IN ('next', 'off', 'order'));
ALTER TABLE runs     ADD COLUMN next_boot  BLOB;
