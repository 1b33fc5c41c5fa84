"""Who does it: bounded mailboxes, workers, permits, followers."""
