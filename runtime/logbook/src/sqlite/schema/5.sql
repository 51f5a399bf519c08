-- The secret of the engines that share this logbook: it seals what they and their workers send.
CREATE TABLE secret (
    key INTEGER PRIMARY KEY CHECK (key = 1),
    bytes BLOB NOT NULL
) STRICT;
