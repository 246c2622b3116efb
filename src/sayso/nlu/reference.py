"""The words with which people refer to what was said before, shared by what understands them and what hears them.

English only, like the written rules; a domain in another language is understood without context.
"""

from __future__ import annotations

NEGATIONS = (("no",), ("nope",), ("not",), ("wrong",))
CORRECTIONS = (("i", "meant"), ("i", "mean"), ("i", "said"), ("actually",), ("sorry",), ("rather",), ("make", "that"))
FOLLOWING = (
    *(("and",), ("what", "about"), ("how", "about"), ("also",), ("now",), ("then",), ("but",), ("or",), ("okay",)),
)
AFTERTHOUGHTS = (("too",), ("instead",), ("as", "well"))  # at the end, in place of a marker at the beginning
FILLERS = frozenset(
    {
        *("the", "in", "on", "for", "at", "to", "of", "my", "please", "too", "as"),
        *("well", "instead", "one", "a", "with", "it"),
    }
)
PREPOSITIONS, ARTICLES = ("in", "on", "for", "at", "to", "of", "with"), ("the", "my", "a")
AGREEING = frozenset({"yes", "yeah", "yep", "sure", "correct", "exactly", "right", "okay", "ok"})
YES = AGREEING | {"please", "do", "it", "go", "ahead", "that's"}
CONFIRMING = ("please", "do it", "go ahead", "that's right", "exactly", "correct")  # behind a word that agrees
REFUSALS = (("no",), ("nope",), ("no", "thanks"), ("no", "thank", "you"), ("never", "mind"))
PRONOUNS = frozenset({"it", "there", "that", "them", "this", "those", "its", "him", "her"})
# "will it rain", "is it cold": a subject that stands for nothing
EXPLETIVE = frozenset({"is", "was", "will", "would", "does", "did"})
ORDER = {"first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "last": -1, "latter": -1, "former": 0}
NUMBERS = {"one": 0, "two": 1, "three": 2, "four": 3, "five": 4}
AGAIN = (
    *(("again",), ("once", "more"), ("one", "more", "time"), ("the", "same", "again"), ("same", "again")),
    *(("do", "it", "again"), ("do", "that", "again"), ("repeat", "that")),
)
