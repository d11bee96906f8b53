"""Demands answered by reading: signs, names and numbers, books, documents, screens."""

from __future__ import annotations

from emt_core.selection.category.cue import Rule, Rules, any_of

# Things that carry writing.
CARRIER = (
    "(?:signs?|labels?|shirts?|t-shirts?|banners?|posters?|billboards?|screens?|displays?|stickers?|notes?|plates?"
    "|tags?|blackboards?|whiteboards?"
    "|chalkboards?|boards?|menus?|captions?|headlines?|logos?|covers?|pages?|bottles?|packages?|packaging|box|can"
    "|tickets?|receipts?|cards?|letters?"
    "|envelopes?|books?|newspapers?|magazines?|stamps?|graffiti|plaques?|tombstones?|(?:speech )?bubbles?"
    "|watermarks?|subtitles?|scoreboards?|buttons?"
    "|badges?|cups?|mugs?|hats?|caps?|jerseys?|bus|train|van|truck|walls?|doors?|windows?|text|words?|writing"
    "|handwriting|inscriptions?|messages?"
    "|flyers?|leaflets?|forms?|documents?|memos?|maps?|coins?|bills?)"
)
# The subset that is looked at in order to be read.
PRINTED = (
    "(?:sign|label|poster|banner|billboard|note|menu|ticket|receipt|card|letter|newspaper|magazine|list|jersey"
    "|plaque|blackboard|whiteboard|form"
    "|document|envelope|name tag|sticker|packaging|address|calendar|schedule|timetable|badge|screenshot|certificate"
    "|flyer|brochure|website|web page)"
)
DOCUMENT = (
    "(?:documents?|memos?|memorandum|invoices?|receipts?|letter|(?:tax |application |order |registration )?forms?"
    "|r[ée]sum[ée]|cv|contract|e-?mails?"
    "|certificate|articles?|headline|menu|flyer|brochure|report|prescription|application|passport|agenda|fax|notice"
    "|leaflet|screenshot|web ?page|slide"
    "|paragraph|bill|bank statement|advertisement|business card|boarding pass|id card)"
)
PUBLICATION = (
    "(?:book|novel|magazine|comic|movie|film|album|song|article|paper|report|document|poster|game|dvd|cd|play|newspaper"
    "|painting|presentation)"
)
PLACE_OF_TRADE = (
    "(?:store|shop|restaurant|street|hotel|cafe|bar|pub|bakery|market|business|company|bank|airline|station|theater"
    "|cinema|school|church|building)"
)
NUMBERED = (
    "(?:jersey|bib|license|licence|plate|bus|train|flight|house|room|page|phone|telephone|fax|serial|route|tail"
    "|player|engine|track|platform|car|boat"
    "|gate|floor|shirt|tag|registration|invoice|order|account|receipt|ticket|zip|postal|model|street)"
)
WH = "what|which|who|whom|whose|when|how much|how many"

# What asks of a written thing something that is not reading it: colour, number of copies, place,
# its reader.
_NOT_READING = (
    "^(?:what|which) (?:[a-z]+ )?colors?",
    "colors? (?:is|are|was)",
    "^(?:about )?how many",
    "^where",
    "what (?:is the )?(?:material|shape|color)",
    "made (?:out )?of",
    "^(?:is|are) (?:the|this|that) (?:man|woman|person|boy|girl|child|people|lady|guy|dog|cat)",
    "^(?:is|are) (?:there|the) .. above|below|left|right|behind|between|next to|under|beside",
    "^(?:on )?(?:which|what) side",
    "click",
)

TEXT = Rules(
    Rule(
        "text_stated",
        "text",
        (
            f"do|does|did .. {CARRIER}|product|instructions? .. state|say|list|mention|claim|advertise|promise"
            "|announce|warn|recommend",
            f"(?<!that ){CARRIER} (?:states|says|lists|mentions|claims|advertises|promises|announces|warns|recommends)",
            f"according to (?:the |this |its )?(?:[a-z]+ )?(?:{CARRIER}|instructions?|recipe|article|text)",
        ),
        (
            "^(?:what|which) (?:[a-z]+ )?colors?",
            "^where",
            "according to (?:the |this )?(?:[a-z]+ )?(?:chart|graph|table|plot|map|weather)",
            "how many (?:people|men|women|dogs|cats|cars)",
        ),
    ),
    Rule(
        "text_written",
        "text",
        (
            f"{WH} .. (?<!that )(?<!which )(?:written|printed|inscribed|engraved|spelled|spelt|lettered|stenciled"
            "|spray-painted|say|says|saying|read|reads|said)",
            "read|transcribe|ocr|extract|decipher|recogni[sz]e|spell|copy|type|list|identify|give|quote|write"
            " (?:down|out)|tell me|convert|detect|capture|provide|find .. "
            "texts?|words|letters|writing|handwriting|handwritten|inscription|lettering|says?|said|reads|written",
            "read|transcribe|decipher|spell out|quote .. sign|plate|label|note|page|sentence|paragraph|number"
            "|display|meter|word",
            "ocr|transcribe|type out",
            "(?:what|which)(?: is the| are the)?(?: [a-z]+){0,2} (?:text|words?|letters?|digits?|phrase|sentence"
            "|message|quote|slogan|inscription|writing|lettering)",
            "is there (?:any )?(?:text|writing)",
            "(?:any|all|visible|every) (?:the )?(?:visible )?(?:text|words|writing)",
            f"what (?:does|do|did) .. {CARRIER} .. say|read|state|mean|prohibit|warn|advertise|display|show|indicate"
            "|promote|announce|tell|forbid|spell|caution|stand for",
            f"what (?:is|are|stands) .. (?:on|at) the {PRINTED}$",
            "captions? (?:says?|reads?|below|under|above|at|on)",
            "(?:named|spray-painted|stenciled|mentioned|listed|labell?ed|advertised|announced|written|printed)"
            f" (?:on|in|by|at) (?:the |this |that )?(?:[a-z]+ )?{CARRIER}",
            "words? [\"']",
            "does (?:it|this) say",
            "^read",
        ),
        (*_NOT_READING, "type of", "in (?:other|your own) words", "read(?:ing|er)"),
    ),
    Rule(
        "text_book",
        "text",
        (
            "who (?:is the (?:author|writer|publisher|editor)|wrote|authored|published|edited|are the authors)",
            "author|writer|publisher|edition|isbn|volume .. book|novel|this|cover|magazine",
            f"(?:title|name|genre|subject|category|price|author) of (?:this|the) (?:[a-z]+ )?{PUBLICATION}",
            "what (?:type|kind|genre|category|sort|is the genre|is the title|is the name|is the category) .. book"
            "|novel",
            "is this .. related|book|novel|textbook|cookbook|publication|literature",
            r"(?:is|are) (?:this|these) (?:an? )?[\w &-]{3,40} books?",
            "what is the title|(?:which|what) title",
            f"what is (?:this|the|that) (?:[a-z]+ )?{PUBLICATION} called",
            "(?:song|book|movie|film|album|show|magazine|paper|article|game) (?:titles?|names?)",
            "authors?",
            "^is (?:it|this|that) (?:a|an) (?:[a-z]+ )?(?:[a-z]*book|novel|biography|dictionary|encyclopedia|guide)",
            f"name|what is .. (?:the )?{PUBLICATION} (?:on|shown on|advertised) (?:the |this )?(?:poster|cover"
            "|screen|billboard)",
            "(?:year|edition) .. calendar|book|printed",
        ),
        (
            "how many books",
            "color",
            "read(?:ing|er)",
            "suggest (?:a|some)",
            "^where",
            "title of (?:this|the) (?:graph|chart|plot|figure|table)",
        ),
    ),
    Rule(
        "text_name",
        "text",
        (
            "brands?|manufacturer|sponsor|website|url|web address|e-?mail(?: address)?",
            "(?:phone|telephone|model|serial) number",
            "(?:what|which|whose)(?: [a-z]+)? logo",
            "(?:what|which|whose) (?:[a-z]+ )?(?:company|airline|bank|team(?! sport)|brewery|newspaper|channel)",
            f"(?:which|what) (?:(?!bar\\b){PLACE_OF_TRADE}|model|flight|bus line|exit|highway|route)",
            f"name (?:of|on) (?:the |this |that )?(?:[a-z]+ ){{0,2}}(?:{PLACE_OF_TRADE}|team|newspaper|ship|boat"
            "|player|brand|product|drink|beer|wine|magazine|website|app|game|road|stop|train|plane|medicine"
            "|candidate|speaker|sender|tag|badge|label|sign)",
            "name tag|name ?plate",
            "(?:first|last|full|family|middle) name|names? (?:on|of) (?:the|this) (?:person|man|woman|player|student"
            "|patient|employee) on",
            f"{PLACE_OF_TRADE}(?:'s)? name|(?:team|player|product|company)(?:'s)? name",
            f"what is (?:this|the|that) (?:{PLACE_OF_TRADE}|product|game|magazine|newspaper|drink|beer|wine|medicine"
            "|dish on the menu) called",
            "who (?:makes|made|manufactures|produces|sells) (?:this|the)",
        ),
        (
            *_NOT_READING,
            "likely|known for|history of",
            "name of (?:the|this) .. (?:animal|breed|pattern|dish|fruit|bird|plant|flower)",
        ),
    ),
    Rule(
        "text_number",
        "text",
        (
            f"{NUMBERED} (?:plate )?(?:numbers?|code)",
            "what (?:is the )?numbers?(?! of)|what two numbers",
            "(?:numbers?|digits?|date|year|time|price|amount|weight|speed) (?:is |are )?(?:on|printed|written|shown"
            "|displayed|listed|given|mentioned|indicated|stamped)",
            "speed limit|license plate|licence plate|best before|use by|dosage|nutrition|calories|denomination"
            "|alcohol (?:content|percentage)|opening hours|error message",
            "passwords?|usernames?|user name|hashtags?|(?:which|what) version|version number|voltage|wattage|net"
            " weight|barcode",
            "how many .. ounces|grams|milliliters|ml|liters|calories|servings|pages",
            "when|what time .. close|closes|open|opens|leave|leaves|depart|departs|arrive|arrives|start|starts|begin"
            "|begins|expire|expires",
            "amount due|balance due|due date",
            "expir(?:y|ation|es|ed?)",
            "(?:what are the|list the|which|first|main) ingredients?(?! (?:can|could|do|would|in this dish))"
            "|ingredients? (?:list|listed)",
            "what (?:is the )?(?:total(?! number)|sub-?total|price|score|date|amount|deadline|destination|heading|year"
            "|temperature|(?:zip|postal|area|product|error|bar) code)",
            "how much (?:does|do|is|are|will|did|was) .. cost|costs|tax|charged?|total|price",
            "how much (?:is|are) (?:the|a|an|one)",
            "how much .. alcohol|sugar|fat|sodium|protein|weigh",
            "what year (?:is|was|does|did)",
            "time .. digital|display|screen|phone|microwave|alarm|flight|train|departs?|departure|arrives?|arrival"
            "|oven",
            "digital|display|screen|microwave|oven .. time",
        ),
        (
            *_NOT_READING,
            "number of .. are|in|is",
            "time of (?:day|year)|year (?:season|might|could|do you think)",
            "how much (?:water|food|snow|light|space|room|of)",
            "analog",
        ),
    ),
    Rule(
        "text_document",
        "text",
        (
            f"{WH}|is|are|does .. {DOCUMENT}",
            f"extract|parse|digiti[sz]e|transcribe|list .. {DOCUMENT}",
            "subject line|letterhead|signatory|signed by|dated|(?:is|are) mentioned|mentioned (?:in|at)|sender"
            "|recipient|footer|headline|abstract|first paragraph|page number",
            "who (?:signed|issued|sent|is the (?:sender|recipient|signatory|chairman|chairperson|secretary|director))",
            "what is the (?:subject|heading|letter dated|venue)",
        ),
        (
            *_NOT_READING,
            "letters? (?:box|[a-z])",
            "in the form of",
            "taxi form",
            "headline for (?:this|the)",
            "form (?:a|of) (?:circle|line|row|shape)",
            "bird'?s bill",
        ),
    ),
    Rule(
        "text_carrier",
        "text",
        (
            f"^(?:{WH}|name|give|list) .. (?:on|in|at|from|by) (?:the|this|that|his|her) (?:[a-z]+ ){{0,2}}{PRINTED}",
            "(?:to|in|from) (?:what|which|whom) .. (?:on|in|at|from|by) (?:the|this|that|his|her) (?:[a-z]+"
            f" ){{0,2}}{PRINTED}",
            "(?:what|which) (?:is the )?(?:[a-z]+ )?(?:message|instructions?|headline|address)",
            "(?:which|what) (?:city|town|destination|stop|place|station) .. bus|train|flight|tram|road|sign",
            "where (?:is|does) (?:this|the) (?:bus|train|tram|flight) (?:go|going|headed|heading)",
        ),
        (
            *_NOT_READING,
            "^(?:what|which) (?:is the )?(?:animal|object|fruit|kind|type|symbol|picture|person|figure|character"
            "|drawing|hand|woman|man|people|food)s?",
            "^who is (?:shown|depicted|pictured|standing|sitting|on)",
            "read(?:ing|er)",
        ),
    ),
    Rule(
        "text_language",
        "text",
        (
            "translate|translation|translated|translates",
            "(?:what|which) language (?:is|are) (?:this|the|it|that|these|used)",
            "language of (?:the|this) (?:text|sign|book|document)",
            "convert|transcribe|write|give|read|turn|what is .. formula|latex|equation",
        ),
    ),
)

# The answer quotes something or reads a number out, whatever the question was.
ANSWER_READS = any_of(
    (
        r"(?:says?|reads?|written|printed|lists|states|labell?ed|spells?|shows|text)\b.{0,60}[\"«„]\w+",
        r"it (?:says|reads)",
        r"\d{3}-\d{4}",
    )
)
