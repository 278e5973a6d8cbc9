-- What is changed on a machine's disk after a flash (messages of the contract): the wish without its contents, which every reader of a machine
-- sees; the whole of it (bty.types.v1.FixUps), which may be a MiB and secret and is for the machine's agent alone; and what came of it in each
-- run (a FlashRecord with nothing but its fix-ups).
ALTER TABLE machines ADD COLUMN fix_ups BLOB;
ALTER TABLE runs     ADD COLUMN fix_ups BLOB;
CREATE TABLE machine_fix_ups (
    mac     TEXT PRIMARY KEY,
    message BLOB NOT NULL
) STRICT;
