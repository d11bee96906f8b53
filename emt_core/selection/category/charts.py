"""Demands on data: charts, plots, tables; by the noun, or by questions only data answers."""

from __future__ import annotations

from emt_core.selection.category.cue import Rule, Rules, any_of

_BAR_WHICH = (
    "tallest|longest|shortest|smallest|largest|biggest|highest|lowest|individual|first|last|second|third|red|blue|green"
    "|orange|yellow|purple|pink|brown|black|white|gray|light|dark"
)
_ECONOMY = (
    "(?:revenues?|sales|gdp|exports|imports|profits?|unemployment|inflation|turnout|votes|emissions|rainfall"
    "|production|expenditure|spending|enrollment"
    "|mortality|respondents|units|population)"
)
_EXTREME = "most|least|highest|lowest|largest|smallest|maximum|minimum|greatest|more|less|fewer|fewest|top|peak|peaked"

NOUN = Rules(
    Rule(
        "chart_noun",
        "chart",
        (
            "charts?|bar ?graphs?|line ?graphs?|graphs?|barplots?|boxplots?|histograms?|infographics?|pictographs?"
            "|pictograms?",
            "plots?|plotted|scatter ?plots?|[xy][ -]?axis|axis|axes|legend|heat ?maps?|confusion matrix"
            "|candlesticks?|treemaps?",
            "curves?|data ?points?|trend ?lines?|(?:dashed|dotted|solid|steepest|different colored) (?:lines?|curves?)",
            "(?:which|what) lines? (?:cross|crosses|is|has|shows?|lies|represents?)",
            "lines? .. cross|crosses|intersects?|rise|rises|fall|falls|increase|increases|decrease|decreases|peak"
            "|peaks",
            "(?:kind|type|sort) of (?:diagram|chart|graph|plot)",
            "spreadsheet|error bars?|sankey|gantt|venn|pie (?:charts?|graphs?|diagrams?)|statistics"
            "|visuali[sz]ations?|(?:data|time) series",
            "trends? (?:shown|in|of|for|over|upward|downward)|trend (?:is |going )?(?:upward|downward|up|down"
            "|increasing|decreasing|rising|falling|flat)",
            "how many bars|(?:which|what) bars? (?:is|has|represents|shows)|stacked bars?|bars? (?:represents?"
            "|stands?|shows?|in the)|bars? from the|bar's value|(?:groups?|clusters?|stacks?) of bars",
            f"(?:{_BAR_WHICH}) bars?",
            "slices?|segments?|wedges?",
            "(?:red|blue|green|orange|yellow|purple|gray|black|pink|brown|dashed|dotted|solid|light blue|dark blue)"
            " (?:line|curve|series|area)",
            "(?:series|dataset|data set|p-value|dashboard (?:shows?|data))",
            "diagram .. trends?|data|values?|series|percentages?",
        ),
        (
            # A chart that is only a thing in a photo ...
            "man|woman|person|presenter|speaker|teacher|lady|guy|boy|girl|student|laptop|wall|whiteboard|poster|hall"
            "|desk|monitor|mug|shirt|room",
            # ... or another sense of the word.
            "(?:tennis|court|road|metro|subway|train|tram|bus|finish|foul|fault|parking) .. lines?|(?:wearing|shirt"
            "|dress|striped)",
            "plot of land|plot (?:of|twist)(?: the)? (?:movie|film|story|book)|curves? (?:of|in) the (?:road|river"
            "|street|track)",
            "(?:slices?|pieces?) of (?:pizza|cake|bread|lemon|pie|apple|cheese|orange|toast|lime|tomato|watermelon)",
            "(?:pizza|cake|bread|lemon|worm|wire|road|orbit|chocolate|candy|handle|gold|soap|monkey|tow|crow"
            "|granola|snack|iron|metal|steel|roll) (?:slices?|segments?|bars?)",
        ),
    ),
    Rule(
        "data_table",
        "chart",
        (
            "rows?|columns?|cells? .. table|column|row|matrix|cell|value|entry|entries|total|sum|spreadsheet|header",
            "table .. rows?|columns?|cells?|values?|data|entries|listed|header|total|sum|average|mean|maximum"
            "|minimum|highest|lowest"
            "|title|score|percentages?",
            "(?:according to|based on|from|in|of) (?:the|this) (?:[a-z]+ )?table .. what|which|who|how|when|average"
            f"|total|sum|values?|{_EXTREME}",
            "^(?:according to|based on) (?:the|this) (?:[a-z]+ )?table",
            f"{_EXTREME} .. (?:in|of) the table",
            "(?:summari[sz]e|describe|convert|transcribe|explain) (?:this|the) (?:[a-z]+ )?table(?! (?:setting|cloth"
            "|lamp))",
            "data table|tables? (?:shows?|lists?|says?|reports?|compares?)",
            "(?:sum|total|average|mean|maximum|minimum) (?:of|in) (?:the |each |that )?(?:[a-z]+ )?(?:column|row)s?",
            "(?:figures|values?|entries|numbers|amounts?) (?:in|of) (?:the |each )?(?:[a-z]+ )?(?:column|row)s?",
            "value .. row|column|cell",
        ),
        (
            "sit|sits|sitting|seated|eat|eating|standing|chairs?|plates?|cloth|lamp|wooden|dining|coffee table|kitchen",
        ),
    ),
)

# Questions that name no chart but that only data can answer. CLEVR's counts of things are none of
# these.
DATA = Rules(
    Rule(
        "chart_data",
        "chart",
        (
            "(?:sum|ratio|average|median|mean|difference|total|product|proportion|correlation) (?:of|between|in"
            "|across) .. "
            "values?|bars?|years?|(?:19|20)\\d\\d|number of|percentages?|share|and|countr(?:y|ies)|months?"
            f"|{_ECONOMY}|{_EXTREME}",
            "(?:first|last|greatest|smallest|largest|biggest|highest|lowest|maximum|minimum|median|average|total"
            "|peak) (?:value|number|percentage|share|rate"
            "|point|area under)",
            "values? (?:of|for|in)",
            "what|how much|which .. percent|percentage|share|proportion",
            "percent(?:age)? of",
            "(?:give|state|name|read|tell me) the (?:number|value|figure) (?:for|of)",
            "(?:number|value|figure) for (?:bar|point|the bar|the point|category|group)",
            "(?:have|has|had|with) (?:a |the )?values? (?:above|below|over|under|of|greater|less)",
            "(?:mean|average|median|sum) of",
            "quartiles?|interquartile|outliers?|standard deviation|(?:closing|opening|stock|share) price",
            "by how much .. exceed|more|higher|lower|larger|greater|grow|increase|decrease|fall|rise",
            "(?:second|third|fourth|fifth) (?:largest|highest|smallest|lowest|most|least|biggest) (?:[a-z]+)",
            "(?:what|which) color (?:stands for|represents|denotes|indicates|shows)",
            "number|value|rate|share .. (?:go|went|going) (?:up|down)",
            f"{_ECONOMY} .. (?:19|20)\\d\\d|from|in|than|per|get|receive|{_EXTREME}",
            f"{_EXTREME}|how much|how many|total .. {_ECONOMY}",
            f"{_ECONOMY} .. increased?|decreased?|grow|grew|grown|fall|fell|rise|rose|drop|dropped|higher|lower|peak"
            "|peaked",
            f"how (?:much|many) .. {_ECONOMY} .. grow|increase|decrease|fall|rise|drop|change",
            "(?:increased?|decreased?|grow|grew|fall|fell|rise|rose|drop|dropped|declined?|changed?) .. (?:from"
            "|between|in|after|over) .. (?:19|20)\\d\\d",
            f"(?:which|what) (?:year|month|quarter|decade|country|age group|category|group) .. {_EXTREME}|exceed",
            "across all (?:years|[a-z]+s)|taken over all",
            "in how many (?:years|countries|months|quarters|cases|states|categories)",
            "how many more .. than|did",
            "how many (?:[a-z]+ ){1,3}(?:exceed|are (?:above|below|over|under|more than|less than|greater than)) \\d+",
            "what (?:do|does) (?:the )?(?:[a-z]+ )?(?:lines?|bars?|colors?|shading|dots?|areas?) (?:represent|stand"
            " for|indicate|show|denote|mean)",
            "(?:line|bar) (?:for|representing) (?:the )?[a-z]+",
            "icons? (?:are |is )?(?:colored|shaded|represents?|stands?|filled)",
            "the (?:roughest|smoothest)|intersect|(?:low|high) median|area under",
            "^(?:is|does|are) (?:the )?(?:light|dark|medium|pale|deep|hot|navy|royal|web|dim|lawn|sea|forest|olive"
            "|sky|rosy|lime|cadet|steel) [a-z]+ .. than|value|median|maximum|minimum|intersect|smooth|rough"
            "|smoothest|roughest|area",
        ),
        (
            "(?:largest|biggest|smallest|lowest|highest) (?:animal|object|thing|building|dog|cat|person|cube|sphere"
            "|cylinder|car|city|tree|mountain|planet)|tennis|court|metro|train|subway|road|finish",
            "number of (?:[a-z]+ ){0,4}(?:things|objects|cubes|spheres|cylinders|balls|blocks|people|cars|animals"
            "|dogs|cats)",
            "difference between (?:the two|these two|the) (?:images|pictures|photos|men|women|people|animals|dogs"
            "|cats|cars|views|phones)",
            "percent off|(?<!closing )(?<!opening )(?<!stock )(?<!share )price|subject line|first line|line of",
            "how many more (?:people|chairs|cups|plates|things|objects|cubes|spheres)",
        ),
    ),
)
# What an answer says that makes later turns of the conversation about data.
IN_ANSWER = any_of(("(?:pie|bar|line) (?:chart|graph)|graph|histogram|infographic",))
