"""Deltas and final texts to what is still to be written, so that no word is written twice and none is missing.

A message's deltas say at which code point they begin, so what comes again after a reconnect is known. When deltas were
dropped, nothing more is written until the final text brings the rest. A message whose final text never comes is void;
the one that follows it usually begins with the same words, and only where it differs is it written anew.
"""

CHARS_MAX = 4 << 20  # of one message; a fact is far smaller

ANEW = "\n[the answer begins anew]\n"


class Speech:
    """The words of one run, as they go to one stream."""

    def __init__(self) -> None:
        self._message: str | None = None
        self._written = ""  # on the stream for the message, or still there from a void one
        self._text = ""  # known of the message from its beginning on
        self._whole: set[str] = set()  # messages whose final text was written; a run has few

    @property
    def open(self) -> bool:
        """Something was written, and its end was not."""
        return bool(self._written)

    def delta(self, message: str, offset: int, text: str) -> str:
        """What to write now."""
        if message in self._whole:
            return ""
        self._begin(message)
        if offset > len(self._text) or len(self._text) > CHARS_MAX:
            return ""  # some were dropped; the final text has them
        self._text = self._text[:offset] + text if offset + len(text) > len(self._text) else self._text
        return self._rest(final=False)

    def receive(self, message: str, content: str) -> str:
        """What to write at the end of the message, its line end included."""
        if message in self._whole:
            return ""
        self._begin(message)
        self._text = content
        rest = self._rest(final=True)
        self._whole.add(message)
        self._message, self._written, self._text = None, "", ""
        return rest + "\n"

    def broken_off(self) -> str:
        """What to write when the run ended without the final text: a line end, if words stand there."""
        rest = "\n" if self._written else ""
        self._message, self._written, self._text = None, "", ""
        return rest

    def _begin(self, message: str) -> None:
        if message != self._message:
            self._message, self._text = message, ""

    def _rest(self, *, final: bool) -> str:
        text = self._text
        if text.startswith(self._written):
            rest = text[len(self._written) :]
        elif not final and self._written.startswith(text):
            return ""  # the same words again, so far
        else:
            rest = ANEW + text
        self._written = text
        return rest
