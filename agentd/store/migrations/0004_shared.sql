-- What a session shares with those that it branched from is found from its own segments, also when it has no leaf.

CREATE INDEX segments_session ON segments (session);
