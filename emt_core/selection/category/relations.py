"""Does a question ask for a spatial relation, or does it only use one to pick its referent?

"What is left of the truck?" and "Is the car left of the truck?" ask for it; "What colour is the car
left of the truck?", "How many chairs are behind the table?" and "What is the man behind the counter
holding?" do not (GUIDE.md). So the relation word is not enough: it must stand right after the verb,
or be the predicate of a yes/no question.
"""

from __future__ import annotations

import re

from emt_core.selection.category.cue import CLAUSE, Rule, Rules, any_of
from emt_core.selection.category.turn import Exchange

_SIDE = (
    r"(?:(?:to|on|at|toward|towards) )?(?:(?:the|its|his|her|their|your|my) )?(?:(?:immediate|direct|far|near|very) )?"
    r"(?:left|right)(?:[- ]?hand)?(?: (?:side|part|half|corner|edge|end|of))?"
)
RELATION = (
    f"(?:{_SIDE}|above|below|beneath|underneath|under|behind|in front|in between|between|besides?|next to|side by"
    " side|near|nearer|nearest"
    r"|close to|closer|closest|adjacent to|inside|outside|opposite|across from|ahead of|in back of"
    "|(?:on|at|in|near|to|towards?) (?:the )?(?:very )?(?:top|bottom|rear|front|back|middle|center|edge|corner|far"
    " side|other side)"
    "|(?:far|farther|farthest)(?: away)? from|away from|alongside|by the side|within reach|beyond|over the|past the"
    "|surrounding|facing|touching"
    r"|parallel to|perpendicular to|around the)"
)
_RELATION = re.compile(rf"\b{RELATION}\b")
# "right" is also "correct", "left" also "remaining".
_NOT_RELATION = any_of(
    (
        "(?:left|right)[- ]hand(?:ed|er)",
        r"right (?:now|answer|option|choice|one|word|way)|(?:all|that's|is it) right|right\?",
        r"left over|(?:has|have|are) left\b(?! of)|what is left\?",
        "near future|outside of|under construction|over the (?:years?|past)|turn(?:ing)? (?:left|right)",
    )
)

# Relations asked for in so many words, whatever else stands in the question.
MEASURED = Rules(
    Rule(
        "spatial_extent",
        "spatial",
        (
            "how (?:far|tall|wide|deep|high|thick|broad|close|near)(?! (?:does it take|has|have|will|did|might|until"
            "|along|ago|ahead))",
            "how (?:long|big|large) (?:is|are|was|does|do you think) (?:the|this|that|these|it|they)",
            "how much (?:taller|wider|closer|higher|longer|farther|further|bigger|larger|space|room|distance)",
            "how many (?:meters|centimeters|cm|feet|inches|m|yards|steps away)",
            "how many .. meters|centimeters|feet|inches",
        ),
        (
            "how long .. cook|cooked|take|last|valid|boil|boiled|open",
            "how long (?:is|was) the (?:video|movie|trip|flight|ride|wait)",
            "how (?:high|big|large) is the (?:temperature|score|price|chance|risk|group|crowd|family)",
        ),
    ),
    Rule(
        "spatial_metric",
        "spatial",
        (
            "(?:distance|height|width|depth|length|size|dimensions?|extent|elevation|gap|clearance) (?:of|between"
            "|from|to|in (?:meters|cm|feet|centimeters))",
            "how .. apart",
            "(?:horizontal|vertical) (?:distance|extent|gap)",
            "(?:meters|centimeters|cm|feet|inches) (?:separate|apart|away|between|tall|wide|high)",
            "(?:depth|distance|height) (?:order|ordering|ranking)",
            "approximate (?:height|width|distance|depth|length|size)",
            "(?:greater|larger|smaller|lesser|more|less|shortest|smallest|greatest|largest|longest|least) (?:depth"
            "|distance|height)",
        ),
        (
            "^how many",
            "size of (?:the )?(?:[a-z]+ ){0,3}(?:thing|object|cube|sphere|cylinder|ball|block)s?",
        ),
    ),
    Rule(
        "spatial_order",
        "spatial",
        (
            "rank|sort|order|list|arrange|put|name .. nearest|closest|farthest|furthest|tallest|shortest|depth"
            "|distance|height",
            "rank|sort|order|list|arrange|put|name .. left[ -]to[ -]right|right[ -]to[ -]left|front[ -]to[ -]back"
            "|top[ -]to[ -]bottom|near to far|far to near",
            "in what order .. left",
            "from left to right",
        ),
    ),
)
# Relations asked for unless the question's head demands something else (`_referent_only`).
ARRANGED = Rules(
    Rule(
        "spatial_layout",
        "spatial",
        (
            "relative (?:position|location|placement|depth|height|distance)",
            "spatial (?:relations?|relationships?|arrangement|layout|positions?|positioning)|spatially",
            "layout|arranged?|arrangement",
            "positioned relative|in relation to|with respect to|relative to",
            "(?:positions?|placement) of",
            "how (?:is|are|do|does|did) .. positioned|arranged|placed|oriented|located|laid out|relate|situated"
            "|aligned|stacked",
        ),
    ),
    Rule(
        "spatial_direction",
        "spatial",
        (
            "(?:what|which) (?:[a-z]+ )?(?:direction|way|side|corner|quadrant|part of the (?:image|picture|photo)"
            "|half of the|end of)",
            "(?:in|from|on|to|at|toward|towards) (?:what|which) (?:[a-z]+ )?(?:direction|side|corner|part|half"
            "|quadrant|o'clock|end|clock position)",
            "what (?:is the )?(?:orientation|facing|heading|clock position)",
            "(?:facing|looking|pointing|heading|oriented|turned|face|faces|look) (?:(?:to|towards?|away from|at)"
            " )?(?:(?:the|his|her|its|our) )?"
            "(?:us|you|me|left|right|same (?:way|direction)|north|south|east|west|camera|viewer|photographer"
            "|observer|each other|front|back|wall|window|door"
            "|street|sea|outward|inward|up|down)",
            "o'clock|compass|clockwise|upside down",
            "(?:what|which) (?:[a-z]+ )?view",
            "(?:what|which) (?:quarter|half|third|quadrant|section) of (?:the|this) (?:image|picture|photo|frame"
            "|scene)",
            "(?:moved?|rotated?|turn(?:ed)?|shift(?:ed)?|pann?ed) (?:the )?(?:camera|view)",
            "how did the camera .. move|rotate|turn|pan|shift|tilt",
            "camera (?:moves?|moved|rotates?|rotated|turns?|turned|pans?|panned|shifts?|shifted|tilts?|tilted|motion"
            "|movement|position)",
            "(?:towards?|away from) (?:the )?(?:camera|viewer|us|me|you|photographer|observer)",
            "(?:coming|moving|heading|driving|walking) towards?",
            "(?:reach|encounter|pass|meet|hit|come to|get to) (?:first|last)",
            "reach|encounter|pass .. before|after .. walking|going|driving|moving",
        ),
    ),
    Rule(
        "spatial_viewpoint",
        "spatial",
        (
            "from|standing at|imagine .. point of view|perspective|viewpoint|facing|standing|looking",
            "if (?:i|you|we|one) (?:stand|sit|turn|walk|face|look|go|move)",
            "same (?:3d )?(?:point|location|object) in",
            "corresponds? to the (?:same|point)|corresponds? to .. (?:point|pixel|location)",
            "point|location|pixel .. (?:other|second|different|another|wrist) (?:view|image|camera)",
        ),
    ),
)

_COMPARED = (
    "(?:closer|closest|nearer|nearest|farther|farthest|further|furthest|taller|tallest|shorter|shortest|wider|widest"
    "|narrower|deeper|deepest|thicker|longer|longest|bigger|higher|lower|larger|smaller)"
)
_COMPARES = re.compile(
    rf"\b(?:which|who|what|is|are|does|do|was|whose)\b[^?]{{0,160}}\b{_COMPARED}\b"
)
_NO_EXTENT = any_of(
    (
        "(?:larger|smaller|bigger|higher|lower|longer|shorter) (?:number|amount|group|share|quantity|percentage"
        "|value|price|quality|score|temperature|life"
        "|lifespan|hair|sleeves?|part of|city|picture)",
        "(?:no|any) longer|lower body",
    )
)
# "Is the cup closest to the wall red?" picks the cup by a superlative and asks for something else.
_SUPERLATIVE_REFERENT = any_of(
    (
        "(?:closest|nearest|farthest|furthest|tallest|longest|biggest) .. wearing|holding|eating|made of|open"
        "|closed|red|blue|green|white|black|brown|gray|yellow|doing|carrying|called",
    )
)

# The head demands something that is no relation: relation words in the rest only pick the referent.
_OTHER_HEAD = Rules(
    Rule(
        "other_head",
        "",
        (
            "^(?:what|which)(?: is| are)?(?: the)? (?:(?:main|primary|dominant) )?(?:colors?|material|pattern|shape"
            "|texture|brand|gender|age|emotion|expression"
            "|breed|name|sport|job|occupation|purpose|mood|season|weather|(?:kind|type) of (?:food|sport|weather"
            "|material))",
            "^(?:about |approximately |roughly )?how (?:many|old|much|does|do|might|could|would|can)"
            r"(?!.{0,40}\b(?:taller|wider|closer|space|room|arranged|positioned|located|relate)\b)",
            "^why",
            "^what number of",
            "is it (?:safe|dangerous|wise|ok|okay|legal|good|healthy|allowed)",
            "(?:what|which) (?:would|could|might|may|should) (?:happen|be the reason)",
            "what (?:is|are) [^?]{0,80}(?:doing|wearing|holding|eating|drinking|made of|carrying|called|used for"
            "|riding|playing|watching|reading|about to do"
            "|looking at|thinking|feeling|like)$",
            r"what (?:does|do|did) [^?]{0,80}\b(?:wear|hold|eat|do|have|carry|look like|use|ride)",
            "have the same|the same (?:color|shape|size|material|type) as|different (?:color|shape|material)",
        ),
    )
)
_STATEMENT = any_of(
    (
        "statement|claim|assertion|entailed|true or false|right or wrong|is it true|is this (?:true|correct)|verify",
        r"image support|correct\?",
    )
)

_POSITIONED = (
    "(?: (?:that|there|more|visible|seen|located|positioned|placed|situated|standing|sitting|lying|hanging|parked|found"
    "|resting|leaning|shown|present|kept"
    "|stored|hidden|hiding|peeking|flying|floating|sticking|stuck|laid|lined up|perched|growing|mounted|seated"
    "|walking|running|both|directly|immediately"
    "|right|just|exactly|partly|partially|slightly|further|farther|farthest|furthest|closest|the|most|far|all"
    "|currently)){0,4}?"
)
_STANDS = (
    "(?:is|are|was|were|'s|lies?|stands?|sits?|hangs?|appears|can be (?:seen|found)|do (?:you|we|i) see|can (?:you"
    "|we|i) (?:see|find|spot)|is visible"
    r"|is there|are there|rests|comes|would be|will be|would (?:you|i) see|will i see)"
)
_THING = (
    "(?:thing|object|item|animal|person|vehicle|piece of furniture|appliance|building|device|room|place|shop|house"
    "|structure|figure|street|door)s?"
)
# The relation follows the verb at once: "what is | stands | do you see | directly left of ...".
_ASKED_THING = re.compile(
    rf"{CLAUSE}(?:what|who|which|whose)(?:'s)?(?: (?!color|material|shape|is\b|are\b|does\b|time|can\b"
    rf"|do\b)[a-z-]+){{0,5}}? ?{_STANDS}{_POSITIONED} {RELATION}\b"
    rf"|{CLAUSE}what (?:is|are) (?:the|a) (?:\w+ )?{_THING}(?: (?:that|which) (?:is|are|stands|lies|sits"
    rf"|hangs))?{_POSITIONED} {RELATION}\b"
    r"(?![^?]*\b(?:doing|wearing|holding|made of|called|used for|eating|carrying)\b)"
    rf"|^(?:(?:directly|immediately|right|just) )?{RELATION} [^?]{{1,60}}, ?(?:what|who|which)\b"
    r"|\b(?:which|what) [^?,]{1,50}\b(?:is|are)\b[^?]{1,50}\b(?:left of|right of|above|below|behind|in front of"
    "|beneath|under|beside|next to|between)[?. ]*$"
    r"|^what (?:is|are) [^?,]{1,50}\b(?:left of|right of|above|below|behind|in front of|beneath|under|beside|next"
    " to)[?. ]*$"
)
_YES_NO = re.compile(
    rf"{CLAUSE}(?:(?:if|whether) )?(?:is|are|was|were|do|does|did|can|could|would|isn't|aren't|has|have)\b"
)
# Words in -ing before a relation that claim nothing else of the subject: postures, and nouns.
_POSTURE = frozenset(
    "standing sitting lying hanging parked placed located positioned leaning resting situated facing floating flying"
    " walking looking perching being growing "
    "something anything nothing everything building painting ceiling railing clothing wing king ring string thing"
    " evening morning crossing awning swing sling "
    "parking seating dining swimming living washing mixing cutting frying serving wedding spring bearing "
    "pudding running lighting".split()
)
_ATTRIBUTE_TAIL = any_of(
    (
        "(?:red|blue|green|yellow|white|black|brown|gray|purple|pink|orange|dark|bright|striped|large|small|big"
        "|little|tall|short|old|young|new|open|closed"
        "|full|empty|clean|dirty|wet|dry|happy|sad|metallic|metal|wooden|wood|plastic|glass|leather|round"
        "|rectangular|male|female|asleep|awake|alive"
        "|broken|on|off|ripe|tan|beige|silver|gold|sunny|cloudy|thin|thick|long|smooth|shiny|rubber|lit|different"
        "|edible|real|fresh|raw|cooked|sliced|peeled"
        r"|bald|smiling|crowded|moving)(?: (?:or|and) (?:not|\w+))?$",
        "wearing|holding|carrying|eating|drinking|made of|smiling|using|reading|playing|talking|looking|watching"
        "|riding|have|has|wears?"
        "|same (?:color|shape|size|material)",
    )
)
_HAS_SOMETHING = any_of(("(?:have|has) (?:a|an|any|the|two|some)",))
# "... left of the orange?": one word after the article is the noun, whatever else it can be.
_ONE_NOUN = re.compile(r"^(?: of| to)? (?:the|an?|his|her|its|my|your|this|that) [^\s?]+[?. ]*$")
# "left" and "right" before a noun only say which one: "the left shoe", "the car on the left newer
# than ...".
_SIDE_ONLY = re.compile(r"(?:left|right)(?:[- ]?hand)?$")
_NEXT_WORD = re.compile(r" ?[a-z']+")
_AFTER_SIDE = frozenset(
    "of or and side in when from to for part half edge corner with than relative".split()
)

# Cheap look-ups before the patterns that have to be tried on the whole question.
_NAMED = Rules(Rule("relation", "spatial", (RELATION,)))
_COMPARATIVE = Rules(Rule("comparative", "spatial", (_COMPARED,)))


def measured(turn: Exchange) -> str:
    """Name of the rule by which the question demands an extent, a distance or an order, or ""."""
    rule = MEASURED.first(turn)
    return rule.name if rule else ""


def asked(turn: Exchange) -> str:
    """Name of the rule by which the question demands a relation, or ""."""
    if rule := measured(turn):
        return rule
    if _OTHER_HEAD.first(turn) and not _STATEMENT.search(turn.stem):
        return ""
    if _COMPARATIVE.first(turn) and _compares(turn.stem):
        return "spatial_comparison"
    if rule := ARRANGED.first(turn):
        return rule.name
    stem = _NOT_RELATION.sub(" ", turn.stem) if _NAMED.first(turn) else ""
    if _RELATION.search(stem):
        if _ASKED_THING.search(stem):
            return "spatial_thing"
        if _YES_NO.search(stem) and _is_predicate(stem):
            return "spatial_yes_no"
        if _STATEMENT.search(stem):
            return "spatial_statement"
    if sum(bool(_RELATION.match(choice)) for choice in turn.choices) * 2 > max(
        len(turn.choices), 1
    ):
        return "spatial_choices"
    return ""


def _compares(stem: str) -> bool:
    """A comparative is asked for: it is not inside the noun phrase of another predicate."""
    return (
        bool(_COMPARES.search(stem))
        and not _NO_EXTENT.search(stem)
        and not _SUPERLATIVE_REFERENT.search(stem)
    )


def _is_predicate(stem: str) -> bool:
    """In "is the A <relation> the B ...?": nothing else is claimed of A.

    Neither before nor after the relation.
    """
    match = _RELATION.search(stem)
    if match is None:
        return False
    before, after = stem[: match.start()], stem[match.end() :]
    if (
        _SIDE_ONLY.search(match[0])
        and (follows := _NEXT_WORD.match(after))
        and follows[0].strip() not in _AFTER_SIDE
    ):
        return False
    if any(word.endswith("ing") and word not in _POSTURE for word in before.split()[1:]):
        return False
    if _HAS_SOMETHING.search(before):
        return False
    return bool(_ONE_NOUN.match(after)) or not _ATTRIBUTE_TAIL.search(after)


_WHERE = Rules(
    Rule(
        "where",
        "spatial",
        (
            "where",
            "whereabouts",
            "(?:(?:what|which) is|describe|tell me|name|give) (?:the |its |his |her )?(?:[a-z]+ )?(?:location"
            "|position|whereabouts)",
            "on what is",
            "(?:in )?which part of the (?:image|picture|photo)",
        ),
    )
)
_ANSWER_IS_RELATION = any_of(
    (
        "(?:(?:to|on|at) )?(?:(?:the|its|his|her|your|my) )?(?:(?:immediate|far|lower|upper|bottom|top|near)"
        " )?(?:left|right)",
        "above|below|beneath|underneath|under|behind|in front of|between|beside|next to|near|close to|inside|outside"
        "|opposite|across from",
        "(?:on top of|at the (?:top|bottom)|(?:top|bottom|upper|lower)[ -](?:left|right|center|middle))",
        "in the (?:middle|center|foreground|background|corner|bottom|top|upper|lower|drawer|cupboard|sink|bowl|box"
        "|basket)",
        "on the (?:shelf|table|floor|wall|ground|desk|chair|counter|bed|sofa|couch|roof|bench|windowsill|top|edge"
        "|other side|plate|stove|nightstand|bookshelf|rack)",
        "meters? (?:away|from)|against the|leaning|around the corner|over the|attached to the",
    )
)
_SHORT_RELATION = re.compile(r"^\W*(?:the )?(?:top|bottom|center|middle|front|back)\W*$")


def where(turn: Exchange) -> bool:
    """The question asks for a place; whether that is a relation, the answer tells."""
    return _WHERE.first(turn) is not None


def answered(answer: str) -> bool:
    """The answer to "where" is a relation; a kind of place ("on a beach") is general VQA."""
    return bool(_ANSWER_IS_RELATION.search(answer) or _SHORT_RELATION.match(answer))
