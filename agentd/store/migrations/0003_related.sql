-- What stands beside the tree is found from the entry that it is related to: to go on from an old entry of a long session
-- took 9 ms, because all summaries of the session were looked at (965 of them after 5,000 turns).

CREATE INDEX entries_related ON entries (related_to) WHERE related_to IS NOT NULL;
