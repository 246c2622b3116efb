"""What open slots hold in a build: phrases made of many words, so that the slot is heard and not known by heart.

Few things that are always the same teach a model those things. Here nouns are joined with measures, with words that
describe them and with each other, and spans of everyday talk stand for names, titles and whatever else people say.
Nouns that training never uses are kept for judging.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_NOUNS: tuple[str, ...] = tuple(
    """
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
_HELD_EACH = 8  # every eighth noun is kept for judging


def open_phrases(count: int, seed: int, talk: Sequence[str] = (), *, held: bool = False) -> list[str]:
    """``count`` different phrases of one to about five words: nouns alone, described, measured or in pairs, and spans
    of one to three words of the sentences of ``talk``. Those with ``held`` share no noun with those without."""
    rng = np.random.default_rng((seed, 11, int(held)))
    nouns = [noun.strip() for number, noun in enumerate(_NOUNS) if (number % _HELD_EACH == 0) == held]
    spoken = [words for words in (text.split() for text in talk) if words]
    found: dict[str, None] = {}
    tries = 0
    while len(found) < count and tries < 20 * count:
        tries += 1
        found[_phrase(nouns, spoken, rng)] = None
    return list(found)


def _phrase(nouns: Sequence[str], spoken: Sequence[Sequence[str]], rng: np.random.Generator) -> str:
    shape = rng.random()
    if spoken and shape < 0.3:
        words = spoken[int(rng.integers(len(spoken)))]
        start = int(rng.integers(len(words)))
        return " ".join(words[start : start + int(rng.integers(1, 4))])
    pieces = [nouns[int(rng.integers(len(nouns)))]]
    if 0.45 < shape < 0.6:
        pieces.insert(0, nouns[int(rng.integers(len(nouns)))])
    if shape > 0.6:
        pieces.insert(0, _DESCRIBED[int(rng.integers(len(_DESCRIBED)))])
    if rng.random() < 0.3:
        pieces.insert(0, _MEASURES[int(rng.integers(len(_MEASURES)))])
    return " ".join(pieces)
