-- The index digest that a run's plan named, who carries it out, how far it is (a message of the contract: bty.registry.v1.RunProgress)
-- and what its flash took (bty.registry.v1.FlashWork); and the receipts of flashes, byte for byte as they were signed.
ALTER TABLE runs ADD COLUMN index_digest  TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN agent_version TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN progress      BLOB;
ALTER TABLE runs ADD COLUMN work          BLOB;

CREATE TABLE receipts (
    run_id    TEXT PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    document  TEXT NOT NULL,
    signature TEXT NOT NULL
) STRICT;
