-- Long-term memory: where an entry stands in the tree, what a summary stands for, and the words of all entries.
--
-- A segment is a run of entries in which each is the child of the one before, all of one session; its number is the row
-- of its first entry. Whether an entry is on a path is then a question about a few segments, not about its length.
-- Summaries and plans stand outside the tree (no segment), `related_to` an entry of it.

ALTER TABLE entries ADD COLUMN related_to TEXT;
ALTER TABLE entries ADD COLUMN first TEXT;
ALTER TABLE entries ADD COLUMN last TEXT;
ALTER TABLE entries ADD COLUMN bytes INTEGER;                        -- NULL: those of `content`
ALTER TABLE entries ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0; -- the words are gone for good
ALTER TABLE entries ADD COLUMN segment INTEGER;
ALTER TABLE entries ADD COLUMN depth INTEGER;                        -- 1 at the root

CREATE TABLE segments (
  id      INTEGER PRIMARY KEY,
  session INTEGER NOT NULL,
  parent  INTEGER,              -- the segment that it leaves; NULL at a root
  depth   INTEGER NOT NULL      -- of the entry that it leaves; 0 at a root
);
CREATE INDEX segments_parent ON segments (parent, depth);

CREATE INDEX entries_parent ON entries (parent) WHERE parent IS NOT NULL;

WITH RECURSIVE walk (id, entry, session, segment, depth) AS (
  SELECT id, entry, session, id, 1 FROM entries WHERE parent IS NULL AND kind = 'message'
  UNION ALL
  SELECT e.id, e.entry, e.session,
         CASE WHEN e.session = w.session AND e.id = (SELECT min(id) FROM entries WHERE parent = w.entry)
              THEN w.segment ELSE e.id END,
         w.depth + 1
  FROM walk w JOIN entries e ON e.parent = w.entry
)
UPDATE entries SET segment = walk.segment, depth = walk.depth FROM walk WHERE walk.id = entries.id;

INSERT INTO segments (id, session, parent, depth)
  SELECT e.id, e.session, p.segment, coalesce(p.depth, 0)
  FROM entries e LEFT JOIN entries p ON p.entry = e.parent
  WHERE e.segment = e.id;

CREATE UNIQUE INDEX entries_place ON entries (segment, depth) WHERE segment IS NOT NULL;
CREATE INDEX entries_session ON entries (session);
CREATE INDEX entries_beside ON entries (session) WHERE segment IS NULL;
CREATE INDEX entries_kept ON entries (ts) WHERE forgotten = 0;
DROP INDEX entries_parent;

-- `session` is indexed as a word, so that a question meets the rows of its session only.
CREATE VIRTUAL TABLE recall USING fts5 (
  content, session, content = 'entries', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
);
CREATE VIRTUAL TABLE recall_words USING fts5vocab (recall, 'col');
INSERT INTO meta (key, value) VALUES ('indexed_to', '0');
