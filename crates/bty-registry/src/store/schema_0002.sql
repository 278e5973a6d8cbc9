-- How a machine is booted: the wish for a chain, and what the machine's boots have taught.
ALTER TABLE machines ADD COLUMN chain       TEXT CHECK (chain IN ('ipxe', 'shim'));
ALTER TABLE machines ADD COLUMN platform    INTEGER NOT NULL DEFAULT 0;
ALTER TABLE machines ADD COLUMN own_drivers INTEGER NOT NULL DEFAULT 0 CHECK (own_drivers IN (0, 1));
ALTER TABLE machines ADD COLUMN other_exit  INTEGER NOT NULL DEFAULT 0 CHECK (other_exit IN (0, 1));
ALTER TABLE machines ADD COLUMN returns     INTEGER NOT NULL DEFAULT 0;
ALTER TABLE machines ADD COLUMN way_moved_at INTEGER;
