"""Demands told by their wording alone: pointing, boxes, captions, questions about no picture."""

from __future__ import annotations

from emt_core.selection.category.cue import Rule, Rules, any_of, filed

PICTURE = (
    "(?:images?|pictures?|photos?|photographs?|scenes?|snapshots?|visuals?|paintings?|drawings?|illustrations?"
    "|artworks?"
    "|shots?|frames?|views?|memes?|cartoons?|contents?|videos?|screenshots?|figures?|radiographs?|x-rays?|scans?"
    "|mri|ultrasound)"
)

OTHER = Rules(
    Rule(
        "other_unrelated",
        "other",
        (
            "ignore|forget|disregard|never mind .. image|picture|photo",
            "unrelated to|independent of|regardless of .. image|picture|photo",
            "(?:image|picture|photo) (?:does not matter|is irrelevant|is not important|has nothing to do)",
        ),
    ),
    Rule(
        "other_creative",
        "other",
        (
            "write|compose|invent|create|make(?: up)?|come up with|tell|generate|draft|imagine|produce|give|craft"
            "|turn|continue .. "
            "poems?|haikus?|sonnet|limerick|rap|story|stories|fairy tale|tale|song|lyrics|jokes?|puns?|slogans?"
            "|taglines?|riddle",
            "write|compose|invent|create|make(?: up)?|come up with|generate|draft|produce|craft|turn|continue .. "
            "adverts?|advertisement|ad for|tweet|blog post|instagram|facebook post|dialogue|screenplay|script|essay"
            "|meme|monologue"
            "|short play|diary entry|product description|quiz|crossword|letter to|e-?mail",
            "(?:pretend (?:you are|to be)|act as|role-?play)",
        ),
        ("captions?(?! contest)", "robot|agent"),
    ),
    Rule(
        "other_code",
        "other",
        (
            "write|generate|create|give|implement|build .. python|javascript|html|css|code|sql|svg|website",
        ),
        (
            "(?:qr|bar|zip|area|post(?:al)?) ?code",
            "type out|transcribe|read|chart|graph|plot|table|shown|screenshot",
        ),
    ),
    Rule(
        "other_maths",
        "other",
        (
            "solve for|solve (?:the|this) .. equations?",
            "hypotenuse|parallelogram|trapezoid|rhombus|bisects|tangent to|chord",
            "find|calculate|determine|compute .. measure|area|perimeter|volume|radius|circumference .. of|x|y",
            "area|perimeter|radius|circumference|volume|diameter of .. triangle|circle|rectangle|square|polygon"
            "|prism|cone|cylinder|sector|shape",
            "length of (?:the )?(?:side|line segment|segment|chord) [a-z]{1,2}",
            r"(?:side|segment|chord) (?!of|on|is|by|to|in|at|do|it|or|as|up|we|he|my)[a-z]{2}",
            r"angles? (?!the|was|and|for|are|did|has|you|its|can|how|why|who|may|but|not|all|one|two|a\b"
            r"|i\b)(?:[a-z]{3}|[a-z]|\d)",
            "in triangle [a-z]{3}|triangle (?:abc|abd|acd|bcd|def|pqr|rst|xyz)",
            "value of [b-hj-z]",
            "prove that",
            r"(?:what is|how much is|calculate|compute) \d+ (?:times|plus|minus|divided by|multiplied by|x) \d+",
        ),
        ("chart|graph|plot|table|axis|bars?|curve",),
    ),
)

CAPTION_VERB = (
    "describe|depict|summari[sz]e|narrate|portray|analy[sz]e|characteri[sz]e|illustrate|interpret|examine|explain"
    "|clarify|outline"
    "|elaborate on|recount|walk (?:me )?through|break down|sum up|present|share|render|paint|report|detail"
)
CAPTION_NOUN = (
    "description|depiction|summary|rundown|explanation|analysis|overview|interpretation|account|portrayal|narrative"
    "|representation"
    "|gist|details|elements|paragraph|report"
)
# A caption is what is to be written, whatever the rest forbids or allows ("do not mention text").
CAPTION_ORDERED = Rules(
    Rule(
        "caption_ordered",
        "caption",
        (
            "^(?:write|give|provide|generate|compose|create|add|suggest|produce)(?: me)?(?: (?:a|an|one|the))?"
            "(?: [a-z-]+){0,3} (?:caption|alt[- ]text)",
        ),
        ("funny|joke|humorous|witty|poetic", "chart|graph|plot|table|infographic", "region|box"),
    ),
)
CAPTION = Rules(
    Rule(
        "caption_demand",
        "caption",
        (
            r"captions?(?! (?:say|says|read|reads|below|under|at|on)\b)",
            "alt[- ]text|alternative text|alt attribute|headlines? (?:for|to) (?:this|the) (?:[a-z]+)",
            f"{CAPTION_VERB} .. {PICTURE}",
            f"{CAPTION_NOUN} .. {PICTURE}",
            "detailed|comprehensive|exhaustive|thorough|short|brief .. account|description|summary .. everything"
            "|what is (?:visible|shown|seen|there)",
            "^(?:briefly |in (?:one|a few) (?:words?|sentences?) )?(?:describe|caption|summari[sz]e)(?: (?:this|it"
            "|that|everything|the whole|what is (?:shown|visible|going on|happening|depicted)))?"
            "(?: (?:in|with|for|as|using|briefly|here|accurately|thoroughly)[^?]{0,60})?$",
            f"titles? (?:for|to) .. {PICTURE}",
            "which|what .. sentence|caption|description|text|statement .. describes|fits|matches|summari[sz]es .."
            f" {PICTURE}",
            f"tell me|say something|talk|write .. about (?:this|the|that|my) {PICTURE}",
            "describe (?:what you (?:see|observe|notice)|everything|what (?:the|this|that) (?:[a-z]+ ){0,3}(?:sees"
            "|shows|depicts|camera))",
            f"what (?:this|the|that) (?:[a-z]+ )?{PICTURE} (?:shows|depicts|is about|is showing|represents|contains"
            "|portrays)",
            "(?:tell me|say|explain|list|report|write (?:down )?)(?: in [a-z ]{1,20})? ?what (?:you (?:see|observe"
            "|notice)|is (?:visible|shown|going on|happening))",
            "describe the (?:scenery|surroundings|setting|environment|atmosphere)",
        ),
        (
            rf"(?:describe|description of|explain|about) (?:the |how )(?!(?:[a-z]+ )?{PICTURE}\b|following|given"
            "|provided|whole|entire|main|overall|visual|details|important|key|content)"
            rf"(?:[a-z]+ ){{1,5}}(?:in|of|on|from|at) (?:the |this )(?:[a-z]+ )?{PICTURE}",
            "why|what is (?:funny|unusual|strange)",
            "arrange|arranged|arrangement|layout|relative (?:position|location)",
            "what (?:does|is) the (?:background|caption)",
        ),
    ),
    Rule(
        "caption_open_question",
        "caption",
        (
            "^what(?: do you think)? (?:is|are) (?:happening|going on|shown|depicted|displayed|taking place|being"
            " shown|seen|pictured|visible|the content)"
            f"(?: (?:here|now))?(?: (?:in|on) (?:this|the|that) (?:[a-z]+ )?{PICTURE})?(?: here)?$",
            "^what (?:do|can) you (?:see|observe|make out)(?: happening| here)?(?: (?:in|on) (?:this|the|that)"
            f" (?:[a-z]+ )?{PICTURE})?$",
            f"^what (?:does|do) (?:this|the|that|these) {PICTURE} (?:show|depict|display|contain|illustrate|portray"
            "|represent)$",
            f"^what (?:is|are) (?:this|the|these) {PICTURE} (?:about|of|showing)$",
            f"^what is (?:in|on) (?:this|the) {PICTURE}$",
            f"what is this (?:a |an )?{PICTURE} (?:of|about)",
        ),
    ),
)

_GIVE = (
    "provide|give|output|return|draw|find|detect|report|predict|state|generate|produce|locate|show|list|specify|need"
    "|want|mark|outline|enclose"
)
_FOR_A_PLACE = "on|in|inside|within|of|where|at|to|for|between|that|near|along|under|above|behind|beside|left|right"
# A demand for a place in the image.
POINTING = Rules(
    Rule("ground_tuples", "grounding", ("list of (?:tuples|points|boxes|coordinates)",)),
    Rule(
        "ground_box",
        "grounding",
        (
            f"{_GIVE} .. bounding[- ]box(?:es)?|bbox(?:es)?|coordinates?",
            "what (?:is|are) .. bounding[- ]box(?:es)?|bbox(?:es)?|coordinates?",
            f"(?:{_GIVE}|reply with|answer with|name|choose|pick) (?:me )?(?:the |a |its |all )?(?:right |correct "
            "|matching )?box(?:es)?",
            "(?:with|as|by|in) (?:a |its |their )?(?:tight |bounding )?(?:box(?:es)?|bbox|coordinates?)",
            "bounding box coordinates?",
            "^bbox of",
        ),
        (
            "how many",
            "(?:marked|highlighted|outlined|shown|enclosed|indicated|drawn|inside|within) (?:with|by|in)? ?(?:a "
            "|the )?(?:[a-z]+ )?(?:bounding )?(?:box|bbox|rectangle)",
        ),
    ),
    Rule(
        "ground_point",
        "grounding",
        (
            r"^(?:point(?! out| of| [a-f]\b)|click|tap|pinpoint)",
            "(?:find|give|locate|identify|mark|spot|pinpoint|show|indicate|output|provide|return|pick|name|suggest"
            f"|select|predict|propose) .. points?|pixels?|spots?|positions|locations|places .. {_FOR_A_PLACE}",
            "where (?:should|do|must|can|would|to) ?(?:i|we|you|one|the user)? ?(?:click|tap|press)",
            "(?:click|tap|grasp|contact|target|pixel) (?:positions?|locations?|points?|coordinates?)",
            r"normali[sz]ed (?:image )?(?:coordinates|\(?x)",
            r"(?:answer|reply|respond|output) .. x_?1?, ?y_?1?",
            "(?:vacant|free|empty) (?:space|area|spot)s? .. points?|coordinates?",
        ),
        (
            "(?:point|spot) out (?:the |any |some |what )?(?:mistake|error|difference|problem|wrong)",
            "how many",
            "points? (?:scored|of interest|of view)",
            "spot the difference",
            "(?:main|key|starting|data) points?",
            "point [a-f]",
            r"(?:identify|name) (?:the )?(?:places?|locations?) (?:of|in) th(?:e|is) (?:photo|picture|image)",
        ),
    ),
)

_COLORED = r"(?:red|green|blue|yellow|orange|purple|pink|white|black|cyan|magenta|colou?red)"
_DRAWN = r"(?:dot|circle|box|rectangle|point|marker|bounding box|mask|cross|star|arrow)"
# A region given by a mark that somebody drew into the picture.
_MARK = (
    f"{_COLORED} {_DRAWN}",
    "points? (?:marked |labell?ed )?[a-f1-9]",
    "(?:marked|highlighted|outlined|indicated|labell?ed|enclosed|circled|shaded|boxed) (?:region|area|object"
    "|item|point|part|by|with|in)",
    "(?:region|area|object|item) (?:that is )?(?:marked|highlighted|outlined|enclosed|circled|boxed|inside the"
    " (?:box|rectangle|circle))",
)
MARK = any_of(_MARK)
MARKED = filed(*_MARK)
# The question is the region: what does it hold ...
REGION_ASKED = any_of(
    (
        "(?:short|brief) description (?:for|of) (?:this|the) region",
        "^(?:provide|give|write|generate) .. description|caption|expression|phrase|label|name|class|category",
        "^(?:briefly )?(?:describe|caption|identify|name|classify|explain|label)",
        "^what(?: object| thing| item| is the object| kind of object)? (?:is|are|lies|appears|do you see|can you"
        " see|can be seen|does)(?! (?:the )?(?:color|material|person|man|woman|he|she|they|[a-z]+ doing))",
        "what (?:element|button|icon|component|structure|animal|part|feature) is (?:at|in|inside|within)",
        "(?:objects?|things?|items?) (?:located |found |visible |shown |that is )?(?:at|in|inside|within)",
        "^(?:what|which) (?:objects?|things?|items?)",
        "^(?:i'd like to know|say|describe) what",
        "^who is",
        "what (?:do|can|would) you (?:find|see)",
        "what (?:is|does) .. region|box|rectangle|area|point|dot|circle|location|position",
    )
)
REGION_TAG = ("[refer", "[identify", "[grounding")
# ... and not one of its attributes.
REGION_NOT_ASKED = any_of(
    (
        "color|material|made|doing|wearing|holding|feeling|thinking|happening|going to|intention|why|how many",
        "say|says|written|read|reads|text|word|emotion|pattern|shape|brand|age|purpose|used for|might|likely",
        "distance|far|tall|closer|direction|values?|number",
    )
)
