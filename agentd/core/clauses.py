"""Where one line of a goal falls into clauses that are tasks of their own.

Asked for without a model, so it goes by words: `;`, "then", "and finally" always divide; "and", "," and a full stop
divide only between two clauses that each begin with a verb in the imperative, so that "salt and pepper", "copy and
paste the text" and "explain how to open and close a file" stay whole. In doubt it does not divide: one task that does
two things is worth more than two that mean nothing alone. The words are English; `;`, lists and lines work in any
language. It reads a veiled text (`quoted.veil`) and is linear in its length.
"""

import re

from agentd.core.quoted import VEIL

# Verbs that are hardly ever nouns: one after "and" is enough to begin a clause.
_VERB_WORDS = """
    adapt add adjust analyse analyze apply arrange ask assemble assess assign attach bake boil bring buy calculate
    check choose clarify classify clone collect combine compare compile compose compute configure confirm
    connect convert correct count create critique debug decide define delete deliver deploy derive describe
    determine develop diagnose disable discover discuss divide download draw drink eat edit eliminate enable enumerate
    evaluate examine execute expand explain explore export extend extract fetch fill find finish fix gather
    generate get give identify implement import improve include insert inspect install integrate invent
    investigate invite invoke learn locate merge migrate modify multiply notify open optimise optimize
    organise organize paraphrase parse perform pick populate prepare prioritize produce proofread propose
    prove provide publish push put read recommend refactor refine remove rename render reorder rephrase
    replace reply reproduce research resolve restart restore retrieve revise rewrite save scan search select
    send serve simplify simulate sing solve sort specify submit subtract suggest sum summarise summarize take
    tell transcribe transform translate try uninstall update upgrade upload validate verify visit visualize
    write
"""
# Words that are nouns as often: these need an object after them ("and test it", not "and test data").
_NOUN_VERB_WORDS = """
    answer archive audit bench benchmark book brainstorm branch build call change chart clean close code
    comment commit complete cook copy cut date design display document draft email end estimate exchange file
    filter format forward grade group guess head highlight index label list load log look mail make map mark
    match measure message mix model monitor move name note order outline paint paste pay phone plan play plot
    post practice present print process profile prompt proof pull query quote rank rate record refund release
    repeat report request reset review roll run sample schedule score script set share shop show sketch sound
    split start stop store study surprise switch tag talk test time trace track train travel turn vote
    wait walk wash wrap
"""
_QUESTION_WORDS = "what who whom whose why how when where which is are does do did can could should will"
_SHORT_WORDS = "e.g i.e eg ie etc vs cf dr mr mrs ms prof st no nr fig eq sec ch vol pp approx ca resp inc ltd al"
# "now and then", "since then", "the then president": no order is meant.
_NO_ORDER_WORDS = "now since until till by back even only the and from before than every if"

_VERBS = frozenset(_VERB_WORDS.split())
_EITHER = _VERBS.union(_NOUN_VERB_WORDS.split())
_QUESTIONS = frozenset(_QUESTION_WORDS.split())
_ABBREVIATED = frozenset(_SHORT_WORDS.split())
_THEN_AFTER = frozenset(_NO_ORDER_WORDS.split())

POLITE = (
    r"please|kindly|(?:can|could|would|will)\s+you|(?:i|we)(?:\s+would|['’]d)?\s+(?:want|need|like)(?:\s+you)?\s+to"
    r"|help\s+me(?:\s+to)?|let['’]?s|you\s+should|go\s+ahead\s+and|just|also|now|hey|hi|ok|okay|so"
)
ORDER = (
    r"then|after\s+(?:that|this|which)|afterwards?|subsequently|thereafter|before\s+that|finally|lastly"
    r"|(?:once|when|after)\s+(?:(?:that|this|it|you)(?:\s+is|\s+are|['’]s|['’]re)\s+)?(?:done|finished|complete|ready)"
)
_WORD = re.compile(r"[\s,]*([^\W\d_]+(?:[-'’.][^\W\d_]+)*)")
_LEADS = re.compile(
    rf"(?:[\s,:]*(?:and|&|{POLITE}|{ORDER}|first(?:ly)?|second(?:ly)?|third(?:ly)?|next|last)(?![\w.'’-])){{0,6}}[\s,:]*",
    re.IGNORECASE,
)
_ORDERED = re.compile(rf"[\s,]*(?:and\s+)?(?:{ORDER}|next|last)(?![\w.'’-])", re.IGNORECASE)
_OBJECT = re.compile(
    rf"\s+(?:(?:a|an|the|it|them|this|that|these|those|my|our|your|his|her|its|their|each|every|all|any|some|both|one"
    rf"|two|three|me|us|him|how|what|which|why|whether|where|who|up|out|down|to|for|about|with|on|in|into|from|against"
    rf"|another|new|no|more|as|if|whatever|everything|everyone|anything)\b|[\d{VEIL}#@$/]|[A-Z])"
)
_FINITE = re.compile(r"\s+(?:is|are|was|were|has|have|had|will|would|should|must|may|might|of)\b")
_STATEMENT = re.compile(
    r"(?:it|he|she|they|we|i|you|there|the|a|an|this|that|these|those|my|our|your|his|her|their)\b", re.I
)
_ALONE = re.compile(r"\s*(?:[,;.!?]|$|(?:and|or|&)(?!\w))", re.IGNORECASE)
_SEAM = re.compile(
    r"(?P<semi>[;；؛](?!-?[()DP](?!\w)))"
    r"|(?P<stop>(?<![.!?])[.!?]+(?=\s))"
    r"|(?P<comma>,(?=\s))"
    r"|(?<![\w'’-])(?:(?P<and>and|&)"
    rf"|(?P<order>{ORDER})"
    r"|(?P<condition>if|when|whenever|unless|whether)"
    r"|(?P<governor>to|can|could|should|will|would|must|may|might|let|lets|helps|helped|not|don['’]?t|never))"
    r"(?![\w'’-])",
    re.IGNORECASE,
)


def begins_task(veiled: str, at: int, end: int) -> bool:
    """Whether a clause in the imperative begins at `at`, politeness and order words aside."""
    found = _WORD.match(veiled, _after_leads(veiled, at, end), end)
    return found is not None and found[1].lower() in _EITHER and not _FINITE.match(veiled, found.end(), end)


def names_action(veiled: str, at: int, end: int, *, after_verb: bool = False, enumerated: bool = False) -> bool:
    """Whether the word at `at` is the verb of a clause and no noun: stricter than `begins_task`.

    `after_verb`: the word before it is a verb too, so that they may be two joined; `enumerated`: that one stands at
    the head of its clause or behind a comma, so that they surely are.
    """
    verb = _WORD.match(veiled, at, end)
    if verb is None or _ALONE.match(veiled, verb.end(), end) or (after_verb and enumerated):
        return False
    if verb[1].lower() in _VERBS and not after_verb:
        return True
    return verb[1].lower() in _EITHER and _OBJECT.match(veiled, verb.end(), end) is not None


def is_ordered(veiled: str, at: int, end: int) -> bool:
    """Whether order words stand at `at`."""
    return _ORDERED.match(veiled, at, end) is not None


def clauses(veiled: str, start: int, end: int) -> list[tuple[int, int]]:
    """The spans of the clauses between `start` and `end`, in order.

    Between two spans lies at most one `;`; connecting words stay at the head of their clause.
    """
    scan = _Scan(veiled, start, end)
    for seam in _SEAM.finditer(veiled, start, end):
        scan.take(seam)
    return [*scan.done, (scan.start, end)]


class _Scan:
    """One pass over the seams of a line: where the clause began and what is known of it so far."""

    def __init__(self, veiled: str, start: int, end: int) -> None:
        self.veiled = veiled
        self.end = end
        self.done: list[tuple[int, int]] = []
        self._clause(start)

    def _clause(self, at: int) -> None:
        """A clause begins at `at`."""
        self.start = at
        self.tasked = False
        self._sentence(at)

    def _sentence(self, at: int) -> None:
        """A sentence begins at `at`; not each is a clause of its own."""
        self.body = _after_leads(self.veiled, at, self.end)
        self.imperative = begins_task(self.veiled, self.body, self.end)
        self.tasked = self.tasked or self.imperative
        self.question = _word(self.veiled, self.body, self.end) in _QUESTIONS
        self.conditional = False
        self.governed = False

    def take(self, seam: re.Match[str]) -> None:
        """Divide at the seam, or note what it says of the clause."""
        kind, at, after = str(seam.lastgroup), seam.start(), seam.end()
        if kind == "semi":
            self.done.append((self.start, at))
            self._clause(after)
        elif at < self.body:
            return
        elif kind == "stop":
            self._stop(at, after)
        elif kind == "condition":
            self.conditional = True
        elif kind == "governor":
            self.governed = self.governed or _word(self.veiled, after, self.end) in _EITHER
        elif self._divides(kind, at, after):
            self.done.append((self.start, at))
            self._clause(at)

    def _stop(self, at: int, after: int) -> None:
        """A full stop divides two tasks; a statement stays with the task before or after it."""
        last, _ = self._before(at)
        if self.veiled[at] == "." and (last in _ABBREVIATED or len(last) == 1):
            return
        following = begins_task(self.veiled, after, self.end)
        ordered = is_ordered(self.veiled, after, self.end)
        asked = self.question and _word(self.veiled, after, self.end) in _QUESTIONS
        told = ordered and self.tasked and not _STATEMENT.match(self.veiled, _after_leads(self.veiled, after, self.end))
        if asked or told or (following and (self.tasked or self.question or ordered)):
            self.done.append((self.start, after))
            self._clause(after)
        else:
            self._sentence(after)

    def _divides(self, kind: str, at: int, after: int) -> bool:
        last, enumerated = self._before(at)
        if kind == "order" and self.veiled[at:after].lower() == "then":
            return not self.conditional and last not in _THEN_AFTER
        ordered = kind == "order" or is_ordered(self.veiled, after, self.end)
        if ordered and kind == "and":
            return last != "now"
        if not ordered and (self.governed or not self.imperative):
            return False
        following = begins_task(self.veiled, after, self.end)
        if not following or ordered:
            return following
        at = _after_leads(self.veiled, after, self.end)
        return names_action(self.veiled, at, self.end, after_verb=last in _EITHER, enumerated=enumerated)

    def _before(self, at: int) -> tuple[str, bool]:
        """The word before `at`, and whether it is the first of its clause or follows a comma."""
        words = self.veiled[max(self.body, at - 60) : at].split()[-2:]
        last = words[-1].strip(",").lower() if words else ""
        return last, len(words) < 2 or words[0].endswith(",")


def _after_leads(veiled: str, at: int, end: int) -> int:
    found = _LEADS.match(veiled, at, end)
    return found.end() if found else at


def _word(veiled: str, at: int, end: int) -> str:
    found = _WORD.match(veiled, at, end)
    return found[1].lower() if found else ""
