-- The log in order of arrival, and the views that are written in the same transaction as their facts.
--
-- Every table has an integer key, so that a damaged file can be read around its bad pages (quarantine.py). Keys of
-- sessions and runs are small integers inside: indexes half as wide, commits half as dear (measured.md).

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE events (
  id      INTEGER PRIMARY KEY,      -- the order of arrival across sessions
  session INTEGER NOT NULL,
  seq     INTEGER NOT NULL,
  step    INTEGER NOT NULL,         -- first seq of the step that made it
  term    INTEGER NOT NULL,
  run     INTEGER,
  run_seq INTEGER,
  ts      INTEGER NOT NULL,
  type    TEXT NOT NULL,
  body    BLOB NOT NULL             -- the frame as it is sent, byte for byte
);
CREATE UNIQUE INDEX events_session_seq ON events (session, seq);
CREATE UNIQUE INDEX events_run_seq ON events (run, run_seq) WHERE run IS NOT NULL;

-- `agent` is NULL while only facts of the session are known and no row has been written yet.
CREATE TABLE sessions (
  id         INTEGER PRIMARY KEY,
  key        TEXT NOT NULL UNIQUE,
  agent      TEXT,
  owner      TEXT,
  created    INTEGER,
  mode       TEXT,
  epoch      INTEGER,
  leaf       TEXT,
  unfinished INTEGER NOT NULL DEFAULT 0,
  wake_at    INTEGER,
  updated    INTEGER
);
CREATE INDEX sessions_owner ON sessions (owner, key);
CREATE INDEX sessions_unfinished ON sessions (key) WHERE unfinished > 0;

-- `state` is NULL while only facts of the run are known and no row has been written yet.
CREATE TABLE runs (
  id       INTEGER PRIMARY KEY,
  run      TEXT NOT NULL UNIQUE,
  session  INTEGER NOT NULL,
  kind     TEXT,
  state    TEXT,
  accepted INTEGER,
  started  INTEGER,
  ended    INTEGER,
  cause    BLOB
);
CREATE INDEX runs_session ON runs (session, accepted);
CREATE INDEX runs_ended ON runs (ended, session);   -- NULL: not ended

CREATE TABLE entries (
  id      INTEGER PRIMARY KEY,      -- the row that the full-text index will name
  entry   TEXT NOT NULL UNIQUE,     -- unique over all sessions
  session INTEGER NOT NULL,
  parent  TEXT,
  epoch   INTEGER NOT NULL,
  role    TEXT NOT NULL,
  kind    TEXT NOT NULL,
  origin  TEXT NOT NULL,
  content TEXT NOT NULL,
  run     INTEGER,
  ts      INTEGER NOT NULL,
  seq     INTEGER NOT NULL          -- the fact that made it
);

CREATE TABLE keys (
  id        INTEGER PRIMARY KEY,
  session   INTEGER NOT NULL,
  key       TEXT NOT NULL,
  body_hash TEXT NOT NULL,
  run       TEXT NOT NULL,
  ts        INTEGER NOT NULL,
  UNIQUE (session, key)
);
CREATE INDEX keys_ts ON keys (ts);

CREATE TABLE snapshots (
  id      INTEGER PRIMARY KEY,
  session INTEGER NOT NULL,
  seq     INTEGER NOT NULL,
  version INTEGER NOT NULL,
  ts      INTEGER NOT NULL,
  body    BLOB NOT NULL,
  UNIQUE (session, seq)
);
