"""What the offline provider says: a plain function of the prompt, without a model and without pretending to be one.

It quotes, counts, looks things up in the conversation, calculates, outlines and extracts; it never invents a fact. It
says once in a reply that it is offline. What users wrote is quoted up to `QUOTE_WORDS` words, then an ellipsis follows.
"""

import functools
import re
from collections.abc import Sequence

import msgspec

from agentd.core.arithmetic import worked_out
from agentd.providers.evidence import Finding, findings, is_quotation
from agentd.providers.provider import Message, ModelRequest

QUOTE_WORDS = 40
QUOTE_CHARS = 320
ASKED_CHARS = 2_000  # of a message are searched for what it asks or says of its writer
IDENTITY_CHARS = 20_000
EXTRACT_CHARS = 600
OUTCOME_CHARS = 200
LISTED_MAX = 200  # tasks told of in an answer, as many as a plan may have

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_NAME_IS = re.compile(r"\b(?:my name is|my name's|call me|i am called)\s+([^\W\d_][\w'’-]*(?:\s+[A-Z][\w'’-]*)?)", re.I)
_I_AM = re.compile(r"\b(?:I am|I'm|I’m)\s+([A-Z][\w'’-]+)\b")
_ASKS_NAME = re.compile(r"\b(?:what(?:'s| is|’s)|do you (?:know|remember)|tell me)\s+my name\b|\bwho am i\b", re.I)
_ASKS_SAID = re.compile(
    r"\bwhat (?:did|have) (?:i|we) (?:just |first |last |originally )?"
    r"(?:say|said|write|ask|asked|tell|told|talk|talked|discuss|discussed)|\bwhat was my (?:first|last|previous) ",
    re.I,
)
_ASKS_COUNT = re.compile(r"\bhow many (?:earlier |previous )?(?:messages|turns)\b", re.I)
_ASKS_OF_TALK = re.compile("|".join(one.pattern for one in (_ASKS_NAME, _ASKS_SAID, _ASKS_COUNT)), re.I)
_ASKS_SELF = re.compile(
    r"\bwho are you\b|\bwhat are you\b|\bwhat(?:'s| is|’s) your name\b|\bare you (?:a|an|real|online)\b", re.I
)
_GREETS = re.compile(r"^(?:hi|hello|hey|good (?:morning|evening|afternoon))\b[\w ,]{0,20}[!.]*$", re.I)
_REPEAT = re.compile(r"^\s*(?:please )?(?:say|repeat|echo)(?: after me)?\s*[:,]?\s+(.+)$", re.I | re.S)
_AGENT_NAME = re.compile(r"^[^\w\n]{0,20}name[^\w\n]{0,10}[:=][^\w\n]{0,10}(\w[^\n*_`#]{0,60})", re.I | re.M)
_YOU_ARE = re.compile(r"\b(?i:you are|your name is|i am)\s+(?:called\s+)?([A-Z][\w-]{1,40})\b")
_STEPS = re.compile(r"\b(outline|plan|steps|design|write|draft|prepare|create|compose|list)\b", re.I)
_EXTRACTS = re.compile(r"\b(summari[sz]e|extract|quote|digest|review|condense)\b", re.I)


def spoken(request: ModelRequest, text: str) -> str:
    """The whole reply; `text` is the last user message without its directives."""
    match request.purpose:
        case "summary":
            return _summary(request.messages)
        case "task":
            return _task_result(request, text)
        case _:
            pass
    found = findings(request.messages) if request.purpose == "answer" else []
    return _goal_answer(found) if found else _chat_answer(request, text)


def quoted(text: str, words_max: int = QUOTE_WORDS, chars_max: int = QUOTE_CHARS) -> str:
    """`text` on one line, cut at a word with an ellipsis when it is longer than the bounds."""
    words = text[: chars_max * 4].split()
    line = " ".join(words[:words_max])
    if len(line) > chars_max:
        line = line[:chars_max].rsplit(" ", 1)[0]
    return line if len(words) <= words_max and line == " ".join(words) and len(text) <= chars_max * 4 else line + "…"


def agent_name(messages: Sequence[Message]) -> str | None:
    """The name that the identity gives the agent, when it says one plainly."""
    for message in messages:
        if message.role == "system" and (name := _name_in(message.content[:IDENTITY_CHARS])):
            return name
    return None


@functools.lru_cache(maxsize=64)
def _name_in(head: str) -> str | None:
    """Remembered, because the identity is the same in turn after turn."""
    found = _AGENT_NAME.search(head) or _YOU_ARE.search(head)
    return found[1].strip() if found else None


class _Talk(msgspec.Struct):
    """A conversation as questions about it need it: what the user said before, oldest first."""

    said: list[str]
    earlier: int

    @classmethod
    def before_now(cls, messages: Sequence[Message]) -> "_Talk":
        """Goes through the whole prompt, so only a question about the talk asks for it."""
        turns = [turn for turn in messages if turn.role in ("user", "assistant") and not is_quotation(turn)]
        last = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=len(turns))
        return cls([turn.content[:ASKED_CHARS] for turn in turns[:last] if turn.role == "user"], last)


def _chat_answer(request: ModelRequest, text: str) -> str:
    if results := _tool_results(request.messages):
        return (
            "The tool answered: " + "; ".join(quoted(result) for result in results) + " (told by the offline provider)"
        )
    whole, text = text, text[:ASKED_CHARS]
    name = agent_name(request.messages)
    if _ASKS_OF_TALK.search(text):
        return _about_the_talk(text, _Talk.before_now(request.messages))
    if _ASKS_SELF.search(text):
        return f"I am {name or 'agentd'}, on agentd's offline provider: I quote, count and calculate, without a model."
    if answer := worked_out(text):
        return f"{answer[0]} = {answer[1]} (calculated by the offline provider)"
    if introduced := _NAME_IS.search(text) or _I_AM.search(text):
        return f"Hello {introduced[1]}, I will find your name in this conversation. (offline provider)"
    if _GREETS.match(text.strip()):
        return f"Hello! {name or 'agentd'} here, with the offline provider: tell me something, or ask for 12*7."
    if repeat := _REPEAT.match(text):
        return quoted(whole[repeat.start(1) :])
    if not whole.strip():
        return "Your message has no words. (offline provider)"
    return f"You wrote: “{quoted(whole)}” — noted by the offline provider, no model is set."


def _about_the_talk(text: str, talk: _Talk) -> str:
    if _ASKS_NAME.search(text):
        for said in reversed(talk.said):
            if found := _NAME_IS.search(said) or _I_AM.search(said):
                return f"Your name is {found[1]}; you said so earlier. (offline provider)"
        return f"I can't find your name in the {_count(talk.earlier)} I have. (offline provider)"
    if _ASKS_SAID.search(text):
        if not talk.said:
            return "Nothing before this: I have 0 earlier messages. (offline provider)"
        place, which = (0, "first") if re.search(r"\b(first|originally)\b", text, re.I) else (-1, "last")
        said = quoted(talk.said[place])
        return f"The {which} thing you said was: “{said}” I have {_count(talk.earlier)}. (offline provider)"
    return f"I have {_count(talk.earlier)}. (offline provider)"


def _count(earlier: int) -> str:
    return f"{earlier} earlier message" + ("" if earlier == 1 else "s")


def _tool_results(messages: Sequence[Message]) -> list[str]:
    """What tools answered since the user last spoke."""
    results: list[str] = []
    for message in reversed(messages):
        if message.role == "user":
            break
        if message.role == "tool":
            results.append(message.content)
    return results[::-1]


def _task_result(request: ModelRequest, text: str) -> str:
    if results := _tool_results(request.messages):
        return "From the tool: " + "; ".join(quoted(result) for result in results)
    title, material = _title_and_material(text)
    given = "\n".join(one.text for one in findings(request.messages) if one.text)
    material = "\n".join(part for part in (material, given) if part and part != title)
    if answer := worked_out(title) or worked_out(text):
        return f"{answer[0]} = {answer[1]}"
    if material and (_EXTRACTS.search(title) or not _STEPS.search(title)):
        return f"Extract for “{quoted(title, 20)}”: {_extract(material)}"
    topic = quoted(title, 12).rstrip(".!?…")
    if _STEPS.search(title):
        return f"Outline for “{topic}”:\n1. Say what it is for.\n2. Gather what is known.\n3. Do it, then check it."
    return f"Noted “{topic}”: {len(title.split())} words, worked on by the offline provider without a model."


def _title_and_material(text: str) -> tuple[str, str]:
    """The first line that says what to do (with or without a label), and the rest."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for place, line in enumerate(lines):
        if labelled := re.match(r"^(?:your )?(?:task|title|do)(?:\s+\w+)?\s*:\s*(.+)$", line, re.I):
            return labelled[1], "\n".join(lines[:place] + lines[place + 1 :])
    return (lines[0], "\n".join(lines[1:])) if lines else ("", "")


def _goal_answer(found: list[Finding]) -> str:
    done = sum(one.status == "done" for one in found)
    head = f"{done} of {len(found)} task{'' if len(found) == 1 else 's'} done (told by the offline provider)."
    lines = [f"{place}. {_outcome(one)}" for place, one in enumerate(found[:LISTED_MAX], 1)]
    if len(found) > LISTED_MAX:
        lines.append(f"… and {len(found) - LISTED_MAX} more")
    return "\n".join([head, *lines])


def _outcome(one: Finding) -> str:
    status = "" if one.status == "done" else f" — {one.status.replace('_', ' ')}"
    text = quoted(one.text, QUOTE_WORDS, OUTCOME_CHARS)
    return f"{quoted(one.title, 20)}{status}" + (f": {text}" if text else "")


def _summary(messages: Sequence[Message]) -> str:
    """The first sentence of each message, newest kept when they do not all fit."""
    lines = [f"{turn.role}: {quoted(_first_sentence(turn.content), 25)}" for turn in messages if turn.role != "system"]
    kept: list[str] = []
    for line in reversed(lines):
        if sum(map(len, kept)) + len(line) > EXTRACT_CHARS * 2:
            break
        kept.append(line)
    left = len(lines) - len(kept)
    return "\n".join([f"Extract of {len(lines)} messages" + (f", {left} left out:" if left else ":"), *reversed(kept)])


def _extract(material: str) -> str:
    sentences = [part.strip() for part in _SENTENCE_END.split(material[: EXTRACT_CHARS * 4]) if part.strip()]
    return quoted(" ".join(sentences[:3]), QUOTE_WORDS * 2, EXTRACT_CHARS)


def _first_sentence(text: str) -> str:
    parts = _SENTENCE_END.split(text.strip()[: EXTRACT_CHARS * 4], maxsplit=1)
    return parts[0]
