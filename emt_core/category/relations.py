"""Does a question ask for a spatial relation, or does it only use one to pick its referent?

"What is left of the truck?" and "Is the car left of the truck?" ask for it; "What colour is the car left of the truck?",
"How many chairs are behind the table?" and "What is the man behind the counter holding?" do not (GUIDE.md, boundary decisions).
So the relation word is not enough: it must stand right after the verb, or be the predicate of a yes/no question.
"""

from __future__ import annotations

import re

from emt_core.category.turn import Exchange

RELATION = (
    r"(?:(?:to |on |at |toward |towards )?(?:the |its |his |her |their )?(?:immediate |direct |far |near |very )?(?:left|right)(?:[- ]?hand)?(?: side| part| half| corner| edge| end| of)?"
    r"|above|below|beneath|underneath|under|behind|in front|in between|between|beside|besides|next to|side by side|near|nearer|nearest|close to|closer|closest|adjacent to|inside|outside|opposite|across from"
    r"|ahead of|in back of|(?:on|at|in|near|to|towards?) (?:the )?(?:very )?(?:top|bottom|rear|front|back|middle|center|edge|corner|far side|other side)|far(?:ther|thest)?(?: away)? from|away from|alongside|by the side|within reach|beyond|over the|past the|surrounding|facing|touching|parallel to|perpendicular to|around the)"
)
_REL = re.compile(rf"\b{RELATION}\b")
# "right" and "left" are also "correct", "over" and "remaining".
_NOT_RELATION = re.compile(r"\b(?:(?:left|right)[- ]hand(?:ed|er)\b|right now|right\?|all right|that's right|is it right|the right (?:answer|option|choice|one|word|way)|left over|has left|have left|are left\b|what is left\?|near future|outside of|under construction|over the (?:years?|past)|in the background of the story|turn(?:ing)? (?:left|right))")
_GATE = frozenset(
    "left right left-hand right-hand above below beneath underneath under behind front between beside besides next near nearer nearest close closer closest adjacent inside outside opposite across ahead top bottom "
    "rear back middle center edge corner far farther farthest further furthest away alongside side beyond past surrounding facing face faces touching parallel perpendicular around over "
    "lefthand righthand higher lower taller tall wide wider high deep deeper long longer short shorter distance direction tallest shortest widest narrow narrower thick thicker big bigger larger smaller height width "
    "depth length size dimensions where where's position positioned located location placed arranged arrangement layout orientation oriented viewpoint perspective view camera rotate rotated moved relative relation "
    "meters centimeters feet inches meter o'clock clock way heading pointing point towards toward leftmost rightmost fit reach space apart order rank sort statement path route turn 3d elevation vertical horizontal vertically horizontally upside spatial spatially "
    "inches separates separate separating clockwise".split()
)

_HOW_EXTENT = re.compile(
    r"\bhow (?:far|tall|wide|deep|high|thick|broad|close|near|(?:long|big|large)(?= (?:is|are|was|does|do you think) (?:the|this|that|these|it|they)\b)|much (?:taller|wider|closer|higher|longer|farther|further|bigger|larger|space|room|distance|higher))\b(?! (?:does it take|has|have|will|did|might|until|do you|ago|ahead))"
    r"|\bhow many (?:meters|centimeters|cm|feet|inches|m|yards|steps away)\b"
)
_NOT_EXTENT = re.compile(r"\bhow (?:far|close) (?:has|have|did|along|is it until)|\bhow long [^?]{0,40}\b(?:cook\w*|take|last|valid|boil\w*|open)\b|\bhow long (?:is|was) the (?:video|movie|trip|flight|ride|line of|wait)|\bhow (?:high|big|large) is the (?:temperature|score|price|chance|risk|group|crowd|family)")
_COMPARATIVE = re.compile(
    r"\b(?:closer|closest|nearer|nearest|farther|farthest|further (?:away|from|back|to)|furthest|taller|tallest|shorter|wider|widest|narrower|deeper|higher|lower|thicker|longer|longest|bigger|larger|smaller|highest up|lowest down)\b"
)
# "the dog closest to the camera" picks a referent; "which dog is closest to the camera" asks.
_COMPARES = re.compile(
    r"^(?:in |from |of |among |between |out of |considering |given |based )?[^?]{0,160}\b(?:which|who|what|is|are|does|do|was|whose)\b[^?]{0,120}\b(?:closer|closest|nearer|nearest|farther|farthest|further|furthest|taller|tallest|shorter|shortest|wider|widest|narrower|deeper|deepest|thicker|longer|longest|bigger|higher|lower|larger|smaller)\b"
)
_METRIC_NOUN = re.compile(
    r"\b(?:distance|height|width|depth|length|size|dimensions?|extent|elevation|gap|clearance) (?:of|between|from|to|in (?:meters|cm|feet|centimeters))\b|\bhow [^?]{0,20}\bapart\b|\b(?:horizontal|vertical) (?:distance|extent|gap)|\b(?:meters|centimeters|cm|feet|inches) (?:separate|apart|away|between|tall|wide|high)|\b(?:depth|distance|height) (?:order|ranking)|\bapproximate (?:height|width|distance|depth|length|size)"
)
_LAYOUT = re.compile(
    r"\b(?:relative (?:position|location|placement|depth|height|distance)|spatial (?:relation\w*|arrangement|layout|position\w*)|spatially|layout|arrange(?:d|ment)|positioned relative|in relation to|with respect to|relative to|position(?:s)? of|placement of|how (?:is|are|do|does|did)\b[^?]{0,50}\b(?:positioned|arranged|placed|oriented|located|laid out|relate|situated|aligned|stacked))\b"
)
_DIRECTION = re.compile(
    r"\b(?:(?:what|which) (?:\w+ )?(?:direction|way|side|corner|part of the (?:image|picture|photo)|half of the|quadrant|hand|end of)\b|(?:in|from|on|to|at|toward|towards) (?:what|which) (?:\w+ )?(?:direction|side|hand|corner|part|half|quadrant|o'clock|end)"
    r"|what (?:is the )?(?:orientation|facing|heading)|(?:facing|looking|pointing|heading|oriented|turned|face|faces|look) (?:to(?:wards?)? |away from |at )?(?:the |his |her |its |our )?(?:us|you|me|left|right|same (?:way|direction)|north|south|east|west|camera|viewer|photographer|observer|each other|front|back|wall|window|door|street|sea|outward|inward|up|down)\b"
    r"|o'clock|compass|clockwise|upside down|(?:which|what) (?:\w+ )?view\b|(?:moved?|rotated?|turn(?:ed)?|shift(?:ed)?|pann?ed) (?:the )?(?:camera|view)|camera (?:move|rotate|turn|pan|shift|tilt|motion|movement|position)\w*|which side|(?:towards?|away from) (?:the )?(?:camera|viewer|us|me|you|photographer|observer)|(?:coming|moving|heading|driving|walking) towards?|(?:reach|encounter|pass|meet|hit|come to|get to) (?:first|last))\b"
)
_VIEWPOINT = re.compile(
    r"\b(?:(?:from|seen from|standing at|if (?:i|you|we) (?:stand|look|were|am|are|sit|walk|turn|face)|imagine)\b[^?]{0,80}\b(?:point of view|perspective|viewpoint|view|side|facing|standing|look(?:ing)?|turn)\b|if (?:i|you|we|one) (?:stand|sit|turn|walk|face|look)\w*|same (?:3d )?(?:point|location|object) in|corresponds? to the (?:same|point)|(?:point|location|pixel)\b[^?]{0,60}\b(?:other|second|different|another|ext\d?|wrist) (?:view|image|camera))\b"
)
_ORDER = re.compile(r"\b(?:rank|sort|order|list|arrange|put|name)\b[^?]{0,100}\b(?:nearest|closest|farthest|furthest|left[ -]to[ -]right|front[ -]to[ -]back|depth|distance|tallest|shortest|top[ -]to[ -]bottom|near to far|far to near|height|right[ -]to[ -]left)\b|\bin what order\b[^?]{0,60}\bleft\b|\bfrom left to right\b")
_FITS = re.compile(r"\b(?:fit|fits|pass|squeeze|reach|enough (?:space|room))\b[^?]{0,40}\b(?:in|inside|into|between|through|under|on|behind|for|the)\b")
_STATEMENT = re.compile(r"\b(?:statement|claim|assertion|entailed|image support|true or false|is it true|is this (?:true|correct)|correct\?|does the (?:sentence|caption|statement)|verify)\b")
_WHERE = re.compile(r"\bwhere(?:'s| is| are| was| were| does| do| did| can| could| would| should| exactly| in)\b|\b(?:what is the|describe the|tell me the|name the|give the) (?:\w+ )?(?:location|position|whereabouts)\b|\bon what is\b|\bin which part\b|\bwhich part of the (?:image|picture|photo)\b|^where\b|\bwhereabouts\b")

# What a relation must directly follow to be asked for: "what is | stands | do you see | directly left of".
_CLAUSE = r"(?:^|[.,;:!?] ?)(?:and |so |then |now |tell me |can you tell me |could you tell me |do you know |please tell me )?"
_POSITIONED = (
    r"(?: (?:that|there|visible|seen|located|positioned|placed|situated|standing|sitting|lying|hanging|parked|found|resting|leaning|shown|present|kept|stored|hidden|growing|mounted|seated|walking|running|both"
    r"|hiding|peeking|flying|floating|sticking|stuck|laid|lined up|perched|directly|immediately|right|just|exactly|partly|partially|slightly|further|farther|farthest|furthest|closest|the|most|far|all|currently))*?"
)
_STANDS = (
    r"(?:is|are|was|were|'s|lies|stands|sits|hangs|appears|can be (?:seen|found)|do (?:you|we|i) see|can (?:you|we|i) (?:see|find|spot)|is visible|is there|are there|rests|comes|would be|will be|stand|sit|lie|hang|would (?:you|i) see|will i see)"
)
_GENERIC = r"(?:thing|object|item|animal|person|vehicle|piece of furniture|appliance|building|device)s?"
_ASKED_THING = re.compile(
    rf"{_CLAUSE}(?:what|who|which|whose)(?:'s)?(?: (?!color|material|shape|is\b|are\b|does\b|time|can\b|do\b)[a-z-]+){{0,5}}? ?{_STANDS}{_POSITIONED} {RELATION}\b"
    rf"|{_CLAUSE}what (?:is|are) (?:the|a) (?:\w+ )?{_GENERIC}(?: (?:that|which) (?:is|are|stands|lies|sits|hangs))?{_POSITIONED} {RELATION}\b(?![^?]*\b(?:doing|wearing|holding|made of|called|used for|eating|carrying)\b)"
)
_ASKED_THING_INVERTED = re.compile(rf"^(?:directly |immediately |right |just )?{RELATION} [^?]{{1,60}}, ?(?:what|who|which)\b|\b(?:which|what) [^?,]{{1,50}}\b(?:is|are)\b[^?]{{1,50}}\b(?:left of|right of|above|below|behind|in front of|beneath|under|beside|next to|between)[? .]*$")
_YES_NO = re.compile(r"(?:^|[.,;:!?] ?)(?:and |so |now |then |but |tell me (?:if|whether) |if |whether |\W)*(?:is|are|was|were|do|does|did|can|could|would|isn't|aren't|has|have)\b")
_POSTURE = frozenset(
    "standing sitting lying hanging parked placed located positioned leaning resting situated facing floating being growing something anything nothing everything building painting ceiling railing clothing wing king ring string "
    "thing evening morning crossing awning swing sling parking seating walking looking flying dining swimming living washing mixing cutting frying serving sign wedding spring bing bearing pudding running lighting".split()
)
_ATTRIBUTE_TAIL = re.compile(
    r"\b(?:red|blue|green|yellow|white|black|brown|gray|purple|pink|orange|dark|bright|striped|large|small|big|little|tall|short|old|young|new|open|closed|full|empty|clean|dirty|wet|dry|happy|sad|metallic|metal|wooden|wood|plastic|glass|leather|round|square|rectangular|male|female"
    r"|asleep|awake|alive|broken|on|off|ripe|tan|beige|silver|gold|male|sunny|cloudy|thin|thick|long|smooth|shiny|rubber|lit|different|edible|real|fresh|raw|cooked|sliced|peeled|bald|smiling|crowded|moving)(?: (?:or|and) (?:not|\w+))?[?. ]*$"
    r"|\b(?:wearing|holding|carrying|eating|drinking|made of|smiling|using|reading|playing|talking|looking|watching|riding|have|has|wear|wears|same (?:color|shape|size|material))\b"
)


def possible(turn: Exchange) -> bool:
    """Cheap check: could the question be about space at all."""
    return not _GATE.isdisjoint(turn.words)


def asked(turn: Exchange) -> str:
    """Name of the rule by which the question demands a relation, or ""."""
    stem = turn.stem
    if _HOW_EXTENT.search(stem) and not _NOT_EXTENT.search(stem):
        return "spatial_extent"
    if _METRIC_NOUN.search(stem) and not stem.startswith("how many"):
        return "spatial_metric"
    if _ORDER.search(stem):
        return "spatial_order"
    if _referent_only(stem):
        return ""
    if _COMPARES.search(stem) and _comparison(stem):
        return "spatial_comparison"
    if _LAYOUT.search(stem):
        return "spatial_layout"
    if _DIRECTION.search(stem):
        return "spatial_direction"
    if _VIEWPOINT.search(stem):
        return "spatial_viewpoint"
    cleaned = _NOT_RELATION.sub(" ", stem)
    if not (_REL.search(cleaned) or any(_REL.search(choice) for choice in turn.choices)):
        return ""
    if _ASKED_THING.search(cleaned) or _ASKED_THING_INVERTED.search(cleaned):
        return "spatial_thing"
    if _YES_NO.search(cleaned) and _is_predicate(cleaned):
        return "spatial_yes_no"
    if _STATEMENT.search(cleaned) and _REL.search(cleaned):
        return "spatial_statement"
    if len(turn.choices) > 1 and sum(bool(_REL.match(choice)) for choice in turn.choices) * 2 > len(turn.choices):
        return "spatial_choices"
    return ""


_REFERENT_ONLY = re.compile(
    r"(?:^|[.,;:!?] ?)(?:and |so |now )?(?:what|which)(?: is| are)?(?: the)? (?:main |primary |dominant )?(?:colou?rs?|material|pattern|shape|texture|brand|kind of (?:food|sport|weather|material)|gender|age|emotion|expression|breed|name|type of (?:material|food)|sport|job|occupation|purpose|mood|season|weather)\b"
    r"|^(?:and |so |about |approximately |roughly )?how (?:many|old|much|does|do|might|could|would|can)\b(?!.{0,40}\b(?:meters|feet|inches|centimeters|cm|taller|wider|closer|space|room|arranged|positioned|located|relate)\b)|^(?:and )?why\b|\bis it (?:safe|dangerous|wise|ok|okay|legal|good|healthy|allowed)\b|\b(?:what|which) (?:would|could|might|may|should) (?:happen|be the reason)|\bwhat (?:is|are)\b[^?]{0,80}\b(?:doing|wearing|holding|eating|drinking|made of|carrying|called|used for|riding|playing|watching|reading|about to do|looking at|thinking|feeling|like)[?. ]*$"
    r"|\bwhat (?:does|do|did)\b[^?]{0,80}\b(?:wear|hold|eat|do|have|carry|look like|use|ride)\b|\bhave the same\b|\bthe same (?:color|shape|size|material|type) as\b|\bdifferent (?:color|shape|material)\b|\bwhat (?:is )?(?:the )?size of\b.{0,60}\b(?:large|small)\b"
)


def _referent_only(stem: str) -> bool:
    return bool(_REFERENT_ONLY.search(stem)) and not _STATEMENT.search(stem)


_CLASS_SIZE = re.compile(r"\b(?:larger|smaller|bigger|higher|lower|longer|shorter) (?:number|amount|group|share|quantity|percentage|value|price|quality|score|temperature|life|lifespan|hair|sleeves?|part of)\b|\b(?:no longer|lower body|any longer|larger city|longer sleeves|bigger picture)\b")


def _comparison(stem: str) -> bool:
    """A comparative that is asked for: not inside the noun phrase of another predicate."""
    if _CLASS_SIZE.search(stem):
        return False
    if _YES_NO.search(stem):
        return not re.search(r"\b(?:closest|nearest|farthest|furthest|tallest|longest|biggest)\b[^?]*\b(?:wearing|holding|eating|made of|open|closed|red|blue|green|white|black|brown|gray|yellow)\b", stem)
    tail = re.search(r"\b(?:closest|nearest|farthest|furthest)\b[^?]*\b(?:wearing|holding|eating|doing|made of|carrying|called)\b", stem)
    return tail is None


_SIDE_ONLY = re.compile(r"(?:left|right)(?:[- ]?hand)?$")
_NEXT_WORD = re.compile(r" ?[a-z']+")
_AFTER_SIDE = frozenset("of or and side in when from to for part half edge corner with than relative".split())


def _is_predicate(stem: str) -> bool:
    """In "is the A <relation> the B ...?": nothing else is claimed of A, before or after the relation."""
    match = _REL.search(stem)
    if match is None:
        return False
    before, after = stem[: match.start()], stem[match.end() :]
    if _SIDE_ONLY.search(match[0]) and (follows := _NEXT_WORD.match(after)) and follows[0].strip() not in _AFTER_SIDE:
        return False  # "the left shoe", "the car on the left newer ..."
    if any(w.endswith("ing") and w not in _POSTURE for w in before.split()[1:]):
        return False
    if re.search(r"\b(?:have|has) (?:a|an|any|the|two|some)\b", before):
        return False
    return not _ATTRIBUTE_TAIL.search(after)


_ANSWER_RELATION = re.compile(
    r"\b(?:(?:to|on|at) (?:the |its |his |her |your |my )?(?:immediate |far |lower |upper |bottom |top |near )?(?:left|right)|left of|right of|left side|right side|above|below|beneath|underneath|under|behind|in front of|between|beside|next to|side by side|near|close to|inside|outside|opposite|across from|on top of|at the (?:top|bottom)"
    r"|(?:top|bottom|upper|lower)[ -](?:left|right|center|middle)|in the (?:middle|center|foreground|background|corner|bottom|top|upper|lower|left|right)|on the (?:shelf|table|floor|wall|ground|desk|chair|counter|bed|sofa|couch|roof|bench|windowsill|top|edge|other side|plate|stove|nightstand|bookshelf|rack)|meters? (?:away|from)|against the|leaning|ahead of|around the corner|over the|attached to the)\b|^\W*(?:the )?(?:left|right|top|bottom|center|middle|front|back|above|below|behind|under)\W*$"
)


def answered(answer: str) -> bool:
    """The answer is a relation: decides "where" (a kind of place is general VQA)."""
    return bool(_ANSWER_RELATION.search(answer))


def where(turn: Exchange) -> bool:
    return bool(_WHERE.search(turn.stem))
