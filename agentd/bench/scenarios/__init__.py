"""The scenarios, one a file: each builds its servers and loads, says its figures, and ends by itself."""
