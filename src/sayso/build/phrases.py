"""What open slots hold in a build: phrases made of many words, so that the slot is heard and not known by heart.

Few things that are always the same teach a model those things. Here nouns are joined with measures, with words that
describe them and with each other, and spans of everyday talk stand for names, titles and whatever else people say.
Words that no phrase of training holds are kept for judging.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_NOUNS: tuple[str, ...] = tuple(
    noun.strip()
    for noun in """
    almonds|apples|apricots|avocados|bacon|bagels|baking powder|balloons|bananas|bandages|basil|batteries|bay leaves
    beans|beef|beer|beetroot|berries|bin bags|biscuits|bleach|blueberries|bread|broccoli|brushes|bulbs|butter
    cabbage|cake|candles|carrots|cat litter|cauliflower|celery|cereal|charcoal|cheddar|cheese|cherries|chicken
    chickpeas|chillies|chips|chives|chocolate|cider|cinnamon|cleaning spray|cloves|coconut|cod|coffee|cola
    conditioner|cookies|coriander|corn|cotton buds|courgettes|crackers|cranberries|cream|crisps|cucumber|cumin
    curry paste|custard|dates|deodorant|detergent|dill|dishcloths|dog biscuits|dough|drawing pins|dumplings|eggs
    envelopes|fabric softener|figs|filters|fish|flour|flowers|foil|forks|fruit|garlic|gin|ginger|gloves|glue|granola
    grapes|gravy|ham|hand soap|hazelnuts|herbs|honey|hot sauce|hummus|ice|ink|jam|jelly|juice|kale|ketchup
    kidney beans|kitchen roll|lamb|lard|leeks|lemons|lentils|lettuce|lightbulbs|limes|liver|lollipops|lotion
    mackerel|mangoes|maple syrup|margarine|marmalade|matches|mayonnaise|meat|melon|milk|mince|mint|mouthwash|muffins
    mushrooms|mustard|nails|nappies|napkins|needles|noodles|notebooks|nutmeg|nuts|oil|olives|onions|oranges|oregano
    paint|pancakes|paper|paprika|parsley|parsnips|pasta|pastry|peaches|peanuts|pears|peas|pencils|pens|pepper|pesto
    pet food|pickles|pies|pineapple|pistachios|pizza|plasters|plates|plums|popcorn|pork|porridge|potatoes|prawns
    pumpkin|quinoa|radishes|raisins|raspberries|razors|rhubarb|rice|rolls|rope|rosemary|rubber bands|rum|salad
    salmon|salsa|salt|sandpaper|sausages|scissors|screws|seeds|shampoo|shaving foam|shoelaces|shower gel|soap|socks
    soda|soup|spaghetti|spinach|sponges|stamps|starch|steak|stickers|stock cubes|strawberries|string|sugar|sun cream
    sunflower oil|sweets|syrup|tape|tea|thyme|tinfoil|tissues|toast|toffee|tofu|toilet paper|tomatoes|tonic
    toothbrushes|toothpicks|tortillas|treats|trout|tuna|turkey|turmeric|vanilla|vegetables|vinegar|vitamins|waffles
    walnuts|water|watermelon|wax|wine|wipes|wrapping paper|yeast|yoghurt|zucchini
    """.strip()
    .replace("\n", "|")
    .split("|")
)
_DESCRIBED: tuple[str, ...] = tuple(
    """
    baby big black blue brown cheap chopped clear cold cooked crunchy dark dried extra fine fresh frozen fried
    garden green grilled ground heavy homemade hot large light little local long mild mixed new organic peeled pink
    plain purple raw red ripe roasted salted scented sharp short sliced small smoked smooth soft sour spicy strong
    sweet thick thin tinned unsalted vegan warm washable white whole wild yellow
    """.split()  # noqa: SIM905
)
_MEASURES: tuple[str, ...] = (
    "a", "a bag of", "a bottle of", "a bowl of", "a box of", "a bunch of", "a can of", "a couple of", "a dozen",
    "a few", "a jar of", "a kilo of", "a little", "a lot of", "a packet of", "a pair of", "a piece of",
    "a pound of", "a roll of", "a tin of", "another", "eight", "five", "four", "half a pound of", "more", "my",
    "nine", "one", "our", "seven", "six", "some", "ten", "the", "three", "two", "two bags of",
)  # fmt: skip
_HELD_EACH = 8  # every eighth last word of a noun is kept for judging
_SPAN_LETTERS = 4  # a span of talk holds a word that long: no value is made of "the" and "to" alone


def open_phrases(count: int, seed: int, talk: Sequence[str] = (), *, held: bool = False) -> list[str]:
    """``count`` different phrases of one to seven words: nouns alone, described, measured or in pairs, and spans of one
    to three words of the sentences of ``talk``; fewer where there are no more.

    Those with ``held`` end in words that those without never hold.
    """
    rng = np.random.default_rng((seed, 11, int(held)))
    kept = _held()
    nouns = [noun for noun in _NOUNS if (_last(noun) in kept) == held]
    nouns = nouns if held else [noun for noun in nouns if kept.isdisjoint(noun.split())]
    spoken = [words for words in (text.split() for text in talk) if words]
    found: dict[str, None] = {}
    tries = 0
    while len(found) < count and tries < 20 * count:
        tries += 1
        phrase = _phrase(nouns, spoken, rng)
        if phrase and (held or kept.isdisjoint(phrase.split())):
            found[phrase] = None
    return list(found)


def _last(noun: str) -> str:
    return noun.split()[-1]


def _held() -> set[str]:
    return set(sorted({_last(noun) for noun in _NOUNS})[::_HELD_EACH])


def _phrase(nouns: Sequence[str], spoken: Sequence[Sequence[str]], rng: np.random.Generator) -> str:
    """One phrase; empty where chance made nothing that anybody would say."""
    shape = rng.random()
    if spoken and shape < 0.3:
        words = spoken[int(rng.integers(len(spoken)))]
        start = int(rng.integers(len(words)))
        span = words[start : start + int(rng.integers(1, 4))]
        return " ".join(span) if max(map(len, span)) >= _SPAN_LETTERS else ""
    pieces = [nouns[int(rng.integers(len(nouns)))]]
    if 0.45 < shape < 0.6:
        pieces.insert(0, nouns[int(rng.integers(len(nouns)))])
        if pieces[0] == pieces[1]:
            return ""
    if shape > 0.6:
        pieces.insert(0, _DESCRIBED[int(rng.integers(len(_DESCRIBED)))])
    if rng.random() < 0.3:
        pieces.insert(0, _MEASURES[int(rng.integers(len(_MEASURES)))])
    return " ".join(pieces)
