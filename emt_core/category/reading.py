"""Cues for what is read: text in the image and charts. Kept apart from cues.py for length; same form."""

from __future__ import annotations

import re

from emt_core.category.cues import GAP, _cue

_SIGN = (
    r"(?:sign|label|shirt|t-shirt|banner|poster|billboard|screen|display|sticker|note|plate|tag|board|blackboard|whiteboard|chalkboard|menu|caption|headline|logo|cover|page"
    r"|bottle|package|packaging|box|can|ticket|receipt|card|letter|envelope|book|newspaper|magazine|stamp|graffiti|plaque|tombstone|speech bubble|bubble|watermark|subtitle|scoreboard"
    r"|button|badge|cup|mug|hat|cap|jersey|bus|train|van|truck|wall|door|window|clock|watch|text|words?|letters?|writing|handwriting|inscription|message|flyer|leaflet|form|document|memo|map|coin|bill)s?"
)
# Heads that ask of a written thing something that is not reading it: its colour, number of copies, place, reader.
_NOT_READING = (
    r"^(?:what|which) (?:\w+ )?colou?rs?\b|\bcolou?r (?:is|are|was)\b|^(?:about )?how many\b|(?:^|[.,;:] ?)where\b|\bwhat (?:is the )?(?:material|shape|colou?r)\b|\bmade (?:out )?of\b"
    r"|^(?:is|are) (?:the|this|that) (?:man|woman|person|boy|girl|child|people|lady|guy|dog|cat)\b|(?:^|[.,;:] ?)(?:is|are) (?:there|the)\b[^?]{0,60}\b(?:above|below|left|right|behind|between|next to|under|beside)\b"
    r"|^(?:on )?(?:which|what) side\b|\bwhat (?:font|language)\b.{0,10}\bcolou?r|\bclick\b"
)

TEXT = (
    _cue(
        "text_stated",
        "text",
        "state states say says list lists mention mentions claim claims advertise advertises promise promises announce announces warn warns according recommend recommends",
        rf"\b(?:do|does|did)\b{GAP}{{0,40}}\b(?:{_SIGN}|product|instructions?)\b{GAP}{{0,20}}\b(?:state|say|list|mention|claim|advertise|promise|announce|warn|recommend)\b|(?<!that )\b{_SIGN} (?:states|says|lists|mentions|claims|advertises|promises|announces|warns|recommends)\b"
        rf"|\baccording to (?:the |this |its )?(?:\w+ )?(?:{_SIGN}|instructions?|recipe|article|text)\b",
        r"\baccording to (?:the |this )?(?:\w+ )?(?:chart|graph|table|plot|map|weather)",
    ),
    _cue(
        "text_written",
        "text",
        "written write wrote read reads say says said saying printed spelled spell engraved inscribed painted text texts word words writing handwriting letters letter "
        "transcribe ocr decipher legible quote inscription transcription slogan named listed labelled labeled screenshot code stand stands state states displayed lettering",
        rf"\b(?:what|which|who|whose)\b{GAP}{{0,80}}(?<!that )(?<!which )\b(?:written|printed|inscribed|engraved|spelled|spelt|lettered|stenciled|say|says|saying|read|reads|said)\b"
        rf"|\b(?:read|transcribe|ocr|extract|decipher|recogni[sz]e|spell out|spell|copy|type out|type|list|identify|give|quote|write (?:down|out)|tell me|convert|detect|capture|find)\b{GAP}{{0,50}}\b(?:texts?|words?|letters?|writing|handwriting|handwritten|inscription|lettering|says?|said|reads|written|sign|plate|label)\b"
        rf"|\b(?:what|which) (?:word|words|letters?|digits?|phrase|sentence|message)\b|\b(?:named|spray-painted|stenciled|mentioned|listed|labell?ed|advertised|announced) (?:on|in|by|at) (?:the |this |that )?\w{0,12} ?{_SIGN}\b|\bwords? [\"\']|\b{_SIGN} (?:states?|says?|reads?|lists?|mentions?|claims?|advertises?|promises?|announces?)\b(?<!that says)(?<!that reads)|\bwhat(?: is the| are the|'s the)?(?: \w+){{0,2}} (?:text|words?|letters?|message|quote|slogan|inscription|writing|lettering)\b|\bis there (?:any )?(?:text|writing)\b|\b(?:any|all|visible|every) (?:the )?(?:text|words|writing)\b"
        rf"|\bwhat (?:does|do|did)\b{GAP}{{0,60}}\b{_SIGN}\b{GAP}{{0,40}}\b(?:say|read|state|mean|prohibit|warn|advertise|display|show|indicate|promote|announce|tell|forbid|stand for)\b"
        rf"|\b(?:ocr|transcribe|type out)\b|\bwhat (?:is|are|stands)\b{GAP}{{0,12}}\b(?:on|at) the {_SIGN}[?. ]*$",
        _NOT_READING + r"|\btype of\b|\bin other words\b|\bin your own words\b",
    ),
    _cue(
        "text_book",
        "text",
        "book books novel author authors title genre publisher wrote authored published edition cookbook textbook calendar bookcover isbn",
        rf"\bwho (?:is the (?:author|writer|publisher|editor)|wrote|authored|published|edited|are the authors)\b|\b(?:author|writer|publisher|edition|isbn|volume)\b{GAP}{{0,30}}\b(?:book|novel|this|cover|magazine)\b"
        rf"|\b(?:title|name|genre|subject|category|price) of (?:this|the) (?:\w+ )?(?:book|novel|magazine|comic|movie|film|album|song|article|paper|report|document|poster|game|dvd|cd|play|newspaper|painting|presentation)\b"
        rf"|\bwhat (?:type|kind|genre|category|sort|is the genre|is the title|is the name)\b{GAP}{{0,20}}\b(?:book|novel)\b|\bis this (?:book |an? )?{GAP}{{0,50}}\b(?:related|book|novel|textbook|cookbook|publication|literature)\b"
        r"|\bwhat (?:is|are) (?:this|the) book'?s?\b|\bwhat is the title\b|\b(?:is|are) (?:this|these) (?:an? )?[\w &-]{3,40} books?\b|\bwhat (?:is the )?(?:year|edition)\b.{0,40}\b(?:calendar|book|printed)",
        r"\bhow many books\b|\bcolou?r\b|\bread(?:ing|er)\b|\bsuggest (?:a|some)\b|^where\b",
    ),
    _cue(
        "text_name",
        "text",
        "brand brands company name names called airline store shop team logo street station website url manufacturer model hotel restaurant sponsor newspaper channel label labelled labeled "
        "makes maker flight player bank phone email address",
        r"\b(?:brand|manufacturer|sponsor|website|url|web address|phone number|telephone number|e-?mail(?: address)?|model number|serial number)\b|\b(?:what|which|whose)(?: \w+)? logo\b(?! of dog)"
        rf"|\b(?:what|which|whose)\b{GAP}{{0,30}}\b(?:company|airline|bank|team|brewery|newspaper|channel)\b|\b(?:which|what) (?:street|store|shop|hotel|station|model|flight|bus line|exit|highway|route)\b"
        rf"|\bname (?:of|on) (?:the |this |that )?(?:\w+ )?(?:\w+ )?(?:store|shop|restaurant|street|team|company|hotel|newspaper|station|ship|boat|player|bank|business|cafe|bar|pub|bakery|brand|product|drink|beer|wine|magazine|website|app|airline|building|school|church|theater|cinema|market|game|road|stop|train|plane|medicine|candidate|speaker|sender|person on the|tag|badge|label|sign)\b"
        rf"|\bname tag|\b(?:store|shop|restaurant|street|station|team|player|company|hotel|product)(?:'s)? name\b|\bwhat (?:is|are) (?:this|the|that) (?:store|shop|restaurant|street|hotel|cafe|bar|product|game|magazine|newspaper|drink|beer|wine) called\b|\bwho (?:makes|made|manufactures|produces|sells) (?:this|the)\b",
        _NOT_READING + r"|\blogo (?:left|right|above|below)|\b(?:likely|known for|history of)\b",
    ),
    _cue(
        "text_number",
        "text",
        "number numbers price cost costs plate score date time year expire expiration expires speed phone bib jersey digits total amount gate code pin dosage weight temperature calories "
        "ingredients ingredient digital amount percentage deadline much destination limit floor page zip postal license licence page dose denomination heading mileage until departure arrival alcohol",
        rf"\b(?:jersey|bib|license|licence|plate|bus|train|flight|house|room|page|phone|serial|route|tail|player|engine|track|platform|car|boat|gate|floor|shirt|tag|registration|street|invoice|order|account|receipt|ticket|zip|postal|barcode|model|telephone|fax) (?:plate )?(?:numbers?|code)\b|\bwhat (?:is the )?numbers?\b(?! of)"
        rf"|\bwhat two numbers\b|\b(?:number|digits?|date|year|time|price|amount|weight|speed) (?:is |are )?(?:on|printed|written|shown|displayed|listed|given|mentioned|indicated|stamped)\b|\b(?:speed limit|license plate|licence plate|expir\w+|best before|use by|(?:what are the|list the|which|first|main) ingredients?\b(?! (?:can|could|do|would|in this dish))|ingredients? list\w*|dosage|nutrition|calories|denomination|alcohol (?:content|percentage))\b"
        rf"|\bwhat (?:is the )?(?:price|score|date|total|amount|deadline|destination|heading|year|temperature)\b|\bhow much (?:does|do|is|are|will|did|was)\b{GAP}{{0,60}}\b(?:cost|costs|tax|charged?|total|price|the \w+)\b|\bwhat year (?:is|was|does|did)\b"
        rf"|\btime\b{GAP}{{0,40}}\b(?:digital|display|screen|phone|microwave|alarm|flight|train|depart\w*|arriv\w*|oven|watch show)|\b(?:digital|display|screen|microwave|oven)\b{GAP}{{0,40}}\btime\b|\bwhat (?:zip|postal|area|product|error|bar) code\b|\bhow much\b{GAP}{{0,20}}\b(?:alcohol|sugar|fat|sodium|protein|weigh)\b",
        _NOT_READING + r"|\bnumber of (?:people|objects|things|cars|\w+s) (?:are|in|is)\b|\bwhat (?:time of (?:day|year)|year (?:season|might|could|do you think))\b|\bhow much (?:water|food|snow|light|space|room|of)\b|\banalog",
    ),
    _cue(
        "text_document",
        "text",
        "document memo memorandum invoice receipt letter form resume contract email certificate newspaper article headline menu flyer brochure paper report prescription application passport poster "
        "signature signed addressed dated mentioned according page slide agenda fax scanned screenshot notice bill paragraph subject abstract footer header advertisement ad mentioned given",
        rf"\b(?:what|who|whom|which|when|how much|how many|is|are|does|to whom|from which|whose)\b{GAP}{{0,100}}\b(?:document|memo|memorandum|invoice|receipt|letter|(?:tax |application |order |registration )?form|r[ée]sum[ée]|cv|contract|e-?mail|certificate|article|headline|menu|flyer|brochure|report|prescription|application|passport|agenda|fax|notice|leaflet|screenshot|web ?page|slide|paragraph|bill|statement|advertisement|business card|boarding pass|id card)\b"
        r"|\b(?:subject line|letterhead|signatory|signed by|dated|is mentioned|are mentioned|mentioned in|mentioned at|sender|recipient|cc'd|footer|headline|abstract|first paragraph|page number)\b|\bwho (?:signed|issued|sent|is the (?:sender|recipient|signatory))\b|\bwhat is the (?:subject|heading|date)\b",
        _NOT_READING + r"|\bletters? (?:box|[a-z]\b)|\bin the form of\b|\btaxi form|\bform (?:a|of) (?:circle|line|row|shape)|\bbird'?s bill",
    ),
    _cue(
        "text_carrier",
        "text",
        "sign label poster banner billboard note menu ticket receipt card letter newspaper magazine list jersey plate screen display plaque blackboard whiteboard page form document envelope tag sticker package "
        "packaging address calendar schedule timetable board badge balloon screenshot hours message error flyer meter read name names instructions bus train bottle can shirt certificate map box",
        rf"^(?:what|which|who|whom|when|name|tell me|give|list|how much|to (?:what|which|whom)|in (?:what|which) (?:city|state|country|month|year))\b{GAP}{{0,80}}\b(?:on|in|at|from|by) (?:the|this|that|his|her) (?:\w+ ){{0,2}}(?:sign|label|poster|banner|billboard|note|menu|ticket|receipt|card|letter|newspaper|magazine|list|jersey|plaque|blackboard|whiteboard|form|document|envelope|name tag|sticker|packaging|address|calendar|schedule|timetable|badge|screenshot|certificate|business card)\b"
        r"|\b(?:opening hours|error message|(?:first|last|full|family|middle) name|names? (?:on|of) (?:the|this) (?:person|man|woman|player|student|patient|employee) on)\b|\b(?:what|which) (?:is the )?(?:\w+ )?(?:message|instructions?|headline|address)\b|^(?:please )?read\b|\b(?:which|what) (?:city|town|destination|stop|place|station)\b[^?]{0,20}\b(?:bus|train|flight|tram|road|sign)\b|\bwhere (?:is|does) (?:this|the) (?:bus|train|tram|flight) (?:go|going|headed|heading)\b",
        _NOT_READING
        + r"|^(?:what|which) (?:is the )?(?:animal|object|fruit|kind|type|colou?r|shape|symbol|picture|person|figure|character|drawing|material|hand|woman|man|people|food)s?\b|^who is (?:shown|depicted|pictured|standing|sitting|on)\b|\bread(?:ing|er)\b|\b(?:left|right|above|below|behind|under|beneath|beside|next to|in front) (?:of )?(?:the|this)\b[^?]{0,30}$",
    ),
    _cue(
        "text_translate",
        "text",
        "translate translation language",
        rf"\btranslat\w+\b|\b(?:what|which) language (?:is|are) (?:this|the|it|that|these|used)\b|\blanguage of (?:the|this) (?:text|sign|book|document)",
    ),
    _cue(
        "text_formula",
        "text",
        "formula latex equation handwritten",
        rf"\b(?:convert|transcribe|write|give|read|turn|what is)\b{GAP}{{0,40}}\b(?:formula|latex|equation)\b",
    ),
)

CHART_NOUN = re.compile(
    r"\b(?:charts?|bar ?graphs?|line ?graphs?|graphs?|(?:bar|line|scatter|box|violin|pie|area|contour|density)[ -]?(?:charts?|plots?|graphs?)|boxplots?|barplots?|histograms?|infographics?|pictographs?|pictograms?"
    r"|[xy][ -]?axis|axis|axes|legend|heat ?maps?|confusion matrix|candlesticks?|treemaps?|scatter ?plots?|plots?|plotted|curves?|data ?points?|trend ?lines?|(?:dashed|dotted|solid) (?:line|curve)"
    r"|spreadsheet|pie (?:charts?|graphs?|diagrams?)|donut chart|doughnut chart|statistics|visuali[sz]ations?|(?:data|time) series|trends? (?:shown|in|of|for|over|upward|downward)|(?:group|cluster|stack)s? of bars|bars? from the|bar's value|(?:dashed|dotted|solid|colou?red|steepest|highest|lowest|upper|lower|different colou?red) lines?|(?:which|what) lines? (?:cross|is|has|shows?|lies|represents?)\w*|error bars?|how many bars|bars? (?:represent\w*|stand\w*|show\w*|in the)|stacked bars?|(?:tallest|longest|shortest|smallest|largest|biggest|highest|lowest|individual|first|last|second|third|\w+ colou?red|red|blue|green|orange|yellow|gray) bars?|slices?|segments?|wedges?|sankey|gantt|venn|radar chart)\b"
)
CHART_GATE = frozenset(
    "chart charts graph graphs bargraph histogram histograms infographic infographics pictograph pictogram axis axes legend heatmap heatmaps heat confusion candlestick treemap plot plots plotted curve "
    "curves data datapoint datapoints trend trendline boxplot barplot scatter scatterplot spreadsheet pie donut bar bars slice slices segment segments wedge wedges dashed dotted solid venn sankey gantt x y "
    "table tables row rows column columns cell cells statistics bars visualization visualisation series trends line lines".split()
)
# A table of data, not the furniture.
DATA_TABLE = re.compile(
    r"\b(?:rows?|columns?|cells?)\b[^.?!]{0,60}\b(?:table|column|row|matrix|cell|value|entry|entries|total|sum|spreadsheet|header)\b|\btable\b[^.?!]{0,60}\b(?:rows?|columns?|cells?|values?|data|entries|listed|header|total|sum|average|mean|highest|lowest|title|score|percentages?)\b"
    r"|\b(?:according to|based on|from|in|of) (?:the|this) (?:\w+ )?table\b[^.?!]{0,60}\b(?:what|which|who|how|when|highest|lowest|average|total|sum|most|least|values?)\b|^(?:according to|based on) (?:the|this) (?:\w+ )?table\b|\b(?:summari[sz]e|describe|convert|transcribe|explain) (?:this|the) (?:\w+ )?table\b(?! (?:setting|cloth|lamp))|\bdata table\b|\btable (?:show|list|say|report|compare)s?\b"
    r"|\b(?:sum|total|average|mean|maximum|minimum) (?:of|in) (?:the |each |that )?(?:\w+ )?(?:column|row)s?\b|\bvalue\b[^.?!]{0,40}\b(?:row|column|cell)\b|\bwhat is (?:the )?(?:title|caption) of (?:the|this) table\b"
)
FURNITURE = re.compile(r"\b(?:sit|sits|sitting|seated|eat|eating|standing|chairs?|plates?|cloth|lamp|wooden|dining|coffee table|kitchen)\b")
# A chart that is only a thing in a photo.
CHART_AS_THING = re.compile(
    r"\b(?:man|woman|person|presenter|speaker|teacher|lady|guy|boy|girl|student|laptop|wall|whiteboard|poster|hall|desk|monitor|mug|shirt|room)\b"
)
NO_CHART = re.compile(r"\bplot of land|plot (?:of|twist)(?: the)? (?:movie|film|story|book)|\bpie (?:on|crust|dish|with)|\b(?:slices?|pieces?) of (?:pizza|cake|bread|lemon|pie|apple|cheese|orange|toast|lime|tomato|watermelon)|\bcurve (?:of|in) the (?:road|river|street|track)|\b(?:pizza|cake|bread|lemon|orange|worm|wire|road|orbit|chocolate|candy|handle|gold|soap|monkey|tow|crow|granola|snack|iron|metal|steel|roll) (?:slices?|segments?|bars?)\b")

# Data questions that name no chart. They need an image; CLEVR's counts of things are no data.
DATA = (
    _cue(
        "chart_data",
        "chart",
        "sum difference ratio average median mean percentage percent maximum minimum highest lowest total value values trend increase decrease increased decreased peak exceed units sales revenue growth "
        "line lines bars icon icons gdp exports imports profit profits unemployment inflation turnout votes emissions rainfall production expenditure spending enrollment mortality figures entries amounts numbers than area stand exceed more represent roughest smoothest intersect largest smallest greater less most least respondents share declined rose peaked proportion correlation population",
        rf"\b(?:sum|ratio|average|median|mean|difference|total|product|proportion|correlation) (?:of|between|in|across)\b{GAP}{{0,80}}\b(?:values?|bars?|years?|(?:19|20)\d\d|highest|lowest|smallest|largest|number of|percentages?|share|and|sales|units|revenue|countr\w+|months?)\b"
        rf"|\b(?:highest|lowest|maximum|minimum|median|average|total|peak) (?:value|number|percentage|share|rate|revenue|sales|population|point|area under)\b|\bvalue (?:of|for|in)\b"
        rf"|\b(?:what|how much|which)\b{GAP}{{0,20}}\b(?:percent(?:age)?|share|proportion)\b|\bpercent(?:age)? of\b|\b(?:units|sales|revenue|population|respondents|gdp|exports|imports)\b{GAP}{{0,60}}\b(?:19|20)\d\d\b|\bacross all (?:years|\w+s)\b"
        rf"|\b(?:increase|decrease|grow|fall|rise|drop|decline|change)d?\b{GAP}{{0,40}}\b(?:from|between|in|after|over)\b{GAP}{{0,20}}\b(?:19|20)\d\d|\b(?:which|what|in which|in what) (?:year|month|quarter|decade|country|age group)\b{GAP}{{0,60}}\b(?:most|least|highest|lowest|largest|smallest|maximum|minimum|peak\w*|greatest|more|less|fewer|top)\b"
        r"|\b(?:revenue|sales|gdp|exports|imports|profits?|unemployment|inflation|turnout|votes|emissions|rainfall|production|expenditure|spending|enrollment|mortality)\b{GAP}{{0,60}}\b(?:grow|grew|grown|increased?|decreased?|most|least|more|fewer|highest|lowest|higher|lower|peak\w*|fall|fell|rise|rose|from|in (?:19|20)\d\d|get|received?|per|total)\b|\b(?:most|least|fewest|highest|lowest|how much|how many|total)\b{GAP}{{0,20}}\b(?:revenue|sales|gdp|exports|imports|profits?|unemployment|inflation|votes|emissions|rainfall|expenditure|spending)\b|\btrend (?:is |going )?(?:up|down|increas|decreas|ris|fall|flat)\w*|\b(?:figures|values?|entries|numbers|amounts?) (?:in|of) (?:the |each )?(?:\w+ )?(?:column|row)s?\b|^(?:is|does|are) (?:the )?(?:light|dark|medium|pale|deep|hot|navy|royal|web|dim|lawn|sea|forest|olive|sky|rosy|lime|cadet|steel) \w+\b{GAP}{{0,40}}\b(?:than|value|median|maximum|minimum|intersect|smooth\w*|rough\w*|area)\b|\bicons? (?:are |is )?(?:colou?red|colored|shaded|represents?|stands?|filled)\b|\bhow many more\b|\bhow many (?:\w+ ){1,3}(?:exceed|are (?:above|below|over|under|more than|less than|greater than)) \d|\bin how many (?:years|countries|months|quarters|cases|states|categories)\b|\btaken over all\b|\bwhat (?:do|does) (?:the )?(?:\w+ )?(?:lines?|bars?|colou?rs?|shading|dots?|areas?) (?:represent|stand for|indicate|show|denote|mean)|\b(?:line|bar) (?:for|representing) (?:the )?\w+|\bthe (?:roughest|smoothest)\b|\bintersect\b|\b(?:low|high) median\b|\barea under\b|\bunits\b.{0,20}\bsell\b",
        r"\bnumber of (?:\w+ ){0,4}(?:things|objects|cubes|spheres|cylinders|balls|blocks|people|cars|animals|dogs|cats)\b|\bdifference between (?:the two|these two|the) (?:images|pictures|photos|men|women|people|animals|dogs|cats|cars|views|phones)|\bpercent off\b|\bprice\b",
    ),
)
