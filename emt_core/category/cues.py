"""The cues of English questions, as data: a word that must be there, then the phrase that decides.

A cue is tried only when one of its gate words stands in the question: set look-ups are what makes 20,000 conversations
a second possible where trying every phrase on every question is not. Gaps in phrases are bounded, so matching stays linear.
The order of the lists is the order of precedence; each list is read from the top and the first hit names the rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from emt_core.category.turn import Exchange

GAP = r"[^?!\n]"


@dataclass(frozen=True, slots=True)
class Cue:
    """rule: its name in the artifact. gate: words, one of which must occur ("" = none needed). unless: a veto."""

    rule: str
    category: str
    gate: frozenset[str]
    phrase: re.Pattern[str]
    unless: re.Pattern[str] | None = None

    def matches(self, turn: Exchange) -> bool:
        if self.gate and self.gate.isdisjoint(turn.words):
            return False
        return bool(self.phrase.search(turn.stem)) and not (self.unless and self.unless.search(turn.stem))


def _cue(rule: str, category: str, gate: str, phrase: str, unless: str = "") -> Cue:
    return Cue(
        rule, category, frozenset(gate.split()), re.compile(phrase), re.compile(unless) if unless else None
    )


def first(cues: tuple[Cue, ...], turn: Exchange) -> Cue | None:
    return next((cue for cue in cues if cue.matches(turn)), None)


# ---------------------------------------------------------------------------------------------- other
OTHER = (
    _cue(
        "other_unrelated",
        "other",
        "ignore regardless unrelated forget irrelevant",
        rf"\b(?:ignore|forget|disregard|never mind)\b{GAP}{{0,20}}\b(?:image|picture|photo)"
        r"|\b(?:unrelated to|independent of|regardless of) (?:the|this) (?:image|picture|photo)",
    ),
    _cue(
        "other_creative",
        "other",
        "write continue compose invent create make come tell generate draft imagine produce give craft turn",
        rf"\b(?:write|continue|compose|invent|create|make(?: up)?|come up with|tell|generate|draft|imagine|produce|give|craft|turn)\b{GAP}{{0,60}}"
        r"\b(?:poems?|haikus?|story|stories|tale|song|lyrics|joke|pun|slogan|tagline|advert\w*|ad for|tweet|blog post|instagram"
        r"|facebook post|dialogue|screenplay|script|limerick|rap|essay|riddle|sonnet|meme|bedtime|monologue|short play|product description|quiz|crossword|recipe|diary entry)\b",
    ),
    _cue(
        "other_code",
        "other",
        "python javascript html css code latex function sql svg",
        rf"\b(?:write|generate|create|give|convert|turn|implement|build)\b{GAP}{{0,60}}\b(?:python|javascript|html|css|code|sql|svg|website)\b",
        r"\b(?:qr|bar|zip|area|post) ?code|\b(?:type out|transcribe|read|chart|graph|plot|table|shown|screenshot)\b",
    ),
    _cue(
        "other_maths",
        "other",
        "angle triangle perimeter radius diameter hypotenuse parallelogram length side solve circle equation area rectangle trapezoid "
        "polygon rhombus sin cos tan tangent chord square prism cone cylinder proof prove bisects parallel",
        r"∠|△|\bsolve for\b|\bfind (?:the )?(?:measure|value|area|perimeter|length|volume|radius|m)\b|\bvalue of [a-z]\b|\bhypotenuse\b|\bside [a-z]{2}\b"
        r"|\b(?:measure|size|degrees?) of (?:the )?angle|\b(?:area|perimeter|radius|circumference|volume) of (?:the )?(?:\w+ )?"
        r"(?:triangle|circle|rectangle|square|parallelogram|trapezoid|polygon|rhombus|prism|cone|cylinder|figure|shape|sector)"
        r"|\bangle (?:[a-z]{3}|\d)\b|=\s?\d+\s?(?:°|degrees)|\b(?:triangle|circle) [a-z]{1,3}\b.{0,120}\b(?:find|what|how|calculate)|\bsolve (?:the|this)\b.{0,20}equation|\bprove that\b",
    ),
)

# ---------------------------------------------------------------------------------------------- robot
_R = r"(?:robot(?:'s|ic)?(?: arm)?|gripper(?:'s)?|end[- ]effector|manipulator|arm)"
_ATTRIBUTE_HEAD = (
    r"^(?:what|which) (?:is the |are the )?(?:colou?r|material|shape|pattern|brand|kind|type)\b|\bmade (?:out )?of\b|^how many\b"
    r"|\bwhat colou?r\b"
)
_PERSON = r"\b(?:man|woman|person|people|boy|girl|child|cook|chef|player|he|she|they|lady|guy|kid|baby)\b"
ROBOT = (
    _cue(
        "robot_next",
        "robot",
        "next executed execute skill phase phases sub subtask subtasks subgoal given dof sequence grasp grasped pick placement insertion velocity low-level low control policy pilot controller planner",
        rf"\b(?:next|following|immediate) (?:\w+[- ]){{0,2}}(?:motion|skill|command|primitive|sub-?task|sub-?goal|action|waypoint)s?\b"
        rf"|\b(?:skill|primitive|command|sub-?task|policy)s?\b{GAP}{{0,30}}\b(?:next|execute|executed|run|call|called)\b|\baction (?:phases?|sequences?|plans?)\b|\bsub-?(?:task|goal)s\b|\bgiven the (?:goal|task|instruction)\b|\b\d-?dof\b|\b(?:is|was|will|can|could|would|did|has) the (?:grasp|pick|pick-up|placement|insertion|pick and place)\b|\bvelocity commands?\b|\blow[- ]level (?:motion|action|command|control|skill)"
        rf"|\b(?:you (?:control|are controlling|steer|operate)|as the (?:\w+ ){{0,2}}(?:pilot|controller|policy|planner|operator))\b",
        _PERSON,
    ),
    _cue(
        "robot_motion_choice",
        "robot",
        "motion movement motions movements",
        rf"\b(?:which|what) (?:\w+ )?(?:motions?|movements?)\b{GAP}{{0,60}}\b{_R}",
    ),
    _cue(
        "robot_agent",
        "robot",
        "agent action actions move_forward turn_left moveahead forward embodied",
        rf"\byou are (?:a|an|the) (?:\w+ ){{0,2}}(?:agent|robot)\b|\b(?:choose|select|pick|predict|output|what is|which)\b{GAP}{{0,40}}\baction\b{GAP}{{0,20}}:"
        r"|\bmove_?(?:forward|ahead)\b|\b(?:available|possible|legal) actions\b|\b(?:output|predict|give) the (?:next )?action\b",
    ),
    _cue(
        "robot_action",
        "robot",
        "robot robot's gripper effector manipulator arm robotic",
        rf"\bwhat (?:\w+ )?(?:action|motion|command)s? (?:should|must|will|would|does|did|is) (?:the |a )?{_R}"
        rf"|\bnext (?:\w+ )?(?:action|step|sub-?task|move|phase|motion|skill|primitive)|\b(?:action|motion) (?:phase|stage)|\bphase of\b{GAP}{{0,30}}\b(?:action|grasp|task|motion)"
        rf"|\b(?:which|what) (?:phase|stage)\b|\b(?:sub-?task|sub-?goal)s?\b|\bplan\b{GAP}{{0,40}}\b(?:task|steps?)\b|\bsteps? (?:should|must|does|will)\b"
        rf"|\bpath of (?:the )?(?:robot|gripper|end[- ]effector|arm)|\b(?:trajectory|waypoints?|delta|action (?:vector|token|chunk)s?|joint)\b"
        rf"|\b{_R}\b{GAP}{{0,30}}\b(?:supposed to|going to|about to|need to|needs to|has to|have to|should|must|will)\b{GAP}{{0,40}}\b(?:do|move|open|close|grasp|lift|release|push|pull|rotate|go|reach|act|first|next|before|after)\b"
        rf"|\b(?:should|must|will|does|did|would|can|could|is)\b (?:the |this )?{_R}\b{GAP}{{0,40}}\b(?:move|open|close|do|grasp|lift|release|push|pull|rotate|reach|pick|place|drop)\b",
        _ATTRIBUTE_HEAD,
    ),
    _cue(
        "robot_state",
        "robot",
        "gripper effector robot robot's arm manipulator grasp robotic",
        rf"\b{_R} (?:fingers? )?(?:is |are |currently |now |already |fully |still |completely ){{0,3}}(?:open|opened|closed?|closing|opening|empty|holding|grasping|gripping|touching|moving|approaching|retreating|carrying|lifting|idle|stuck|aligned)\b"
        rf"|\b(?:grasp|grip)\b{GAP}{{0,30}}\b(?:stable|secure|firm|success\w*|fail\w*|slipp\w*|good|loose|state|quality|type)|\b(?:stable|secure|firm|successful|good) (?:grasp|grip)\b"
        rf"|\b(?:held|grasped|gripped|carried|grabbed|holding|inside)\b (?:by |in )?(?:the |its )?(?:robot(?:'s|ic)? )?(?:gripper|end[- ]effector|robot|manipulator)\b"
        rf"|\b(?:is|has|does) (?:the )?{_R}\b{GAP}{{0,30}}\b(?:contact|holding|hold|grasped|grasping|dropped|released|picked|lifted|finished|done)\b"
        rf"|\b(?:state|status|opening|aperture) of (?:the )?(?:robot(?:'s|ic)? )?(?:gripper|arm|end[- ]effector)",
        _ATTRIBUTE_HEAD,
    ),
    _cue(
        "robot_success",
        "robot",
        "task episode goal robot instruction trajectory rollout demonstration q gripper subtask possible satisfied done",
        rf"\b(?:task|goal|episode|instruction|attempt|rollout|sub-?task)\b{GAP}{{0,60}}\b(?:success\w*|complet\w*|finish\w*|fail\w*|done|accomplish\w*|achiev\w*|satisf\w*|progress)"
        rf"|\b(?:success\w*|complet\w*|finish\w*|fail\w*|accomplish\w*|achiev\w*|progress of)\b{GAP}{{0,30}}\b(?:task|goal|episode|instruction|attempt|sub-?task)"
        r"|\b(?:was|is) it (?:done|satisfied|possible)\b|\b(?:satisfied|possible right now|possible\?)|\bcurrent goal is\b|\bimmediate next step\b|\blast \d+ steps?\b|\bnext \d+ steps?\b",
    ),
    _cue(
        "robot_obstacle",
        "robot",
        "robot robot's gripper arm effector manipulator robotic",
        rf"\b(?:obstacles?|obstruct\w*|(?:is|are|being|get) block(?:ed|ing)|blocked by|blocking the|blocks? (?:the|its) |(?:stop|stops|prevent|prevents|hinder|hinders|keep|keeps) (?:it|the \w+) from|collid\w*|collision|unreachable|reachab\w*|in the way)\b|\b{_R}\b{GAP}{{0,30}}\breach(?:es)?\b",
        _ATTRIBUTE_HEAD,
    ),
    _cue(
        "robot_instruction",
        "robot",
        "robot robot's trajectory demonstration episode gripper arm robotic manipulation",
        rf"\b(?:instruction|command|task|skill)\b{GAP}{{0,60}}\b(?:trajectory|robot|demonstration|episode|arm)\b|\b(?:robot|arm)\b{GAP}{{0,40}}\b(?:instruction|command|performing|executing|carrying out)\b",
        _ATTRIBUTE_HEAD,
    ),
)

# ---------------------------------------------------------------------------------------------- grounding
# A demand for a place. The strong phrases need no look at the answer; the weak ones ("find", "where") do.
POINTING = (
    _cue("ground_tuples", "grounding", "list", r"\blist of (?:tuples|points|boxes|coordinates)\b"),
    _cue(
        "ground_box_demand",
        "grounding",
        "bounding box boxes bbox coordinates coordinate",
        rf"\b(?:provide|give|output|return|draw|find|detect|report|predict|state|generate|produce|locate|show|list|specify|need|want|what (?:is|are)|mark)\b{GAP}{{0,80}}\b(?:bounding[- ]box(?:es)?|bbox(?:es)?|coordinates?)\b"
        rf"|\b(?:provide|give|output|return|draw|report|predict) (?:me )?(?:the |a |its |all )?box(?:es)?\b|\b(?:with|as|by|in) (?:a |its |their )?(?:bounding )?(?:box(?:es)?|bbox|coordinates?)\b"
        r"|\bbounding box coordinates? of\b|^bbox of\b",
        r"\bhow many\b|\b(?:marked|highlighted|outlined|shown|enclosed|indicated|drawn) (?:with|by|in) (?:a |the )?(?:\w+ )?(?:bounding )?(?:box|bbox|rectangle)|\bbox coordinates given",
    ),
    _cue(
        "ground_point_demand",
        "grounding",
        "point pinpoint points click tap spot spots locations positions vacant pixel normalized",
        r"^(?:can you |could you |would you |please )*(?:point(?! out)|click|tap|pinpoint)\b(?! of view)"
        rf"|\b(?:find|give|locate|identify|mark|spot|pinpoint|show|indicate|output|provide|return|pick|name|suggest|select|predict)\b{GAP}{{0,40}}\b(?:points?|pixels?|spots?|positions|locations|places)\b{GAP}{{0,20}}\b(?:on|in|inside|within|of|where|at|to|for|between|that|near|along|under|above|behind|beside|left|right)\b"
        r"|\bwhere (?:should|do|must|can|would|to) ?(?:i|we|you|one|the user)? ?(?:click|tap|press)\b|\b(?:click|tap) (?:position|location|point|coordinate)|\bnormali[sz]ed \(?x|\bx_?1?, ?y_?1?\b|\bnormali[sz]ed (?:image )?coordinates?"
        rf"|\b(?:vacant|free|empty) (?:space|area|spot)s?\b{GAP}{{0,80}}\b(?:point|coordinate)",
        rf"\b(?:point|spot) out (?:the |any |some |what )?(?:mistake|error|difference|problem|wrong)|\bhow many\b|\bpoints? (?:scored|of interest\?)|\bspot the difference"
        r"|\bmain points?\b|\bkey points?\b|\bstarting point|\bpoint [a-f]\b|\b(?:identify|name) (?:the )?(?:places?|location)s? (?:of|in) th(?:e|is) (?:photo|picture|image)",
    ),
)

# A region given in words: a mark that somebody drew into the picture.
MARK = re.compile(
    r"\b(?:(?:red|green|blue|yellow|orange|purple|pink|white|black|cyan|magenta|colou?red) (?:dot|circle|box|rectangle|point|marker|bounding box|mask|cross|star|arrow)"
    r"|point(?:s)? (?:marked|labell?ed)? ?[a-f1-9]\b|(?:marked|highlighted|outlined|indicated|labell?ed|enclosed|circled|shaded|boxed) (?:region|area|object|item|point|part|by|with|in)"
    r"|(?:region|area|object|item) (?:that is )?(?:marked|highlighted|outlined|enclosed|circled|boxed|inside the (?:box|rectangle|circle)))"
)
# The question *is* the region: what does it hold.
REGION_ASKED = re.compile(
    r"\b(?:short|brief) description (?:for|of) (?:this|the) region|^(?:please )?(?:provide|give|write|generate)\b[^?]{0,30}\b(?:description|caption|expression|phrase|label|name|class|category)\b"
    r"|^(?:please )?(?:describe|caption|identify|name|classify|explain|label)\b|^what(?: object| thing| item| is the object| kind of object)? (?:is|are|lies|appears|do you see|can you see|can be seen|does|'s)\b(?! (?:the )?(?:color|material|person|man|woman|he|she|they|\w+ doing))"
    r"|^what(?: object| thing)? (?:is|are) (?:there )?(?:at|in|inside|within|located)|^which object|^(?:tell me|say|i'd like to know|can you (?:tell|describe)) what|^what (?:object|thing|item)s?\b|\b(?:object|thing|item)s? (?:located |found |visible |shown |that is )?(?:at|in|inside|within)\b|^who is\b|^refer|^\[identify\]|^\[grounding\]"
    r"|\bwhat (?:is|does)\b[^?]{0,40}\b(?:region|box|rectangle|area|point|dot|circle|location|position)\b"
)
REGION_NOT_ASKED = re.compile(
    r"\b(?:color|material|made of|doing|wearing|holding|feeling|thinking|happening|going to|intention|why|how many|say|says|written|read|reads|text|word|made|emotion|pattern|shape|brand|age|purpose|used for|might|likely|distance|far|tall|closer|direction)\b"
)

# ---------------------------------------------------------------------------------------------- caption
_PICTURE = (
    r"(?:image|picture|photo|photograph|scene|snapshot|visual|painting|drawing|illustration|artwork|shot|frame|view|meme|cartoon"
    r"|contents?|video|screenshot|figure)s?"
)
# An agent is named and it acts: asked after every other demand has been ruled out.
AGENT_ACTS = _cue(
    "robot_acts",
    "robot",
    "robot robots robot's robotic gripper gripper's effector manipulator humanoid quadruped quadrotor drone uav agent teleoperation teleoperated bimanual dual-arm franka ego autonomous self-driving wrist shoulder base arm arms policy grasp",
    r"\b(?:has|have|had|should|will|can|could|would|must|next|tasks?|progress\w*|plans?|planning|steps?|actions?|commands?|skills?|motions?|move[sd]?|moving|reach\w*|grasp\w*|pick\w*|plac(?:e[sd]?|ing)|insert\w*|succe\w+|fail\w*|complet\w+|instruct\w+"
    r"|approach\w*|retreat\w*|contact|colli\w+|ready|safe|stuck|h[eo]ld\w*|releas\w+|open\w*|clos(?:e|ed|ing)|execut\w+|policy|trying|accomplish\w*|doing|wrong|control|slip\w*|drop\w*|push\w*|pull\w*|lift\w*|grip\w*|carry\w*|turned|rotat\w*|did|replan|attempt\w*|phase|stage|goal)\b",
    _ATTRIBUTE_HEAD
    + r"|^(?:is|are) there\b|^does (?:this|the) (?:image|picture|photo)|^(?:what|which) (?:object|item|thing|tool|fruit|kind|type|color|vehicle|animal)s?\b|^who\b|\b(?:toy|cartoon|costume|movie|statue|comic|drawing|lego|vacuum|dressed|film|mascot|painted)\b",
)
AGENT_NAMED = re.compile(r"\b(?:robot\w*|grippers?|end[- ]effector|manipulator|humanoid|quadruped|quadrotor|drone|uav|agent|tele-?operat\w+|bimanual|dual-arm|franka|ego[- ]vehicle|autonomous|self-driving|wrist camera|shoulder camera|mobile base|(?:the|which|left|right) arm|the wrist (?:be|should|must|has|camera)|the policy)\b")

CAPTION = (
    _cue(
        "caption_ocr_tokens",
        "caption",
        "caption describe summarize description",
        r"\b(?:one-sentence caption|caption for the provided|short (?:description|caption))\b",
    ),
    _cue(
        "caption_demand",
        "caption",
        "caption captions captioned alt title headline describe description depict depiction summary summarize summarise rundown portray narrate narrative "
        "explanation explain analysis analyze analyse overview illustrate characterize clarify interpretation interpret break walk examine present "
        "sum outline elaborate report paint account portrayal recount write details detail share describing paragraph gist render representation describes tell say shown",
        r"\b(?:caption|alt[- ]text|alternative text)\b(?!ed)"
        rf"|\b(?:describe|depict|summari[sz]e|narrate|portray|analy[sz]e|characteri[sz]e|illustrate|interpret|examine|explain|clarify|outline|elaborate on|recount|walk (?:me )?through|break down|sum up|present|share|render|paint|report|detail)\b{GAP}{{0,60}}\b{_PICTURE}\b"
        rf"|\b(?:description|depiction|summary|rundown|explanation|analysis|overview|interpretation|account|portrayal|narrative|representation|gist|details?|elements|paragraph|report)\b{GAP}{{0,50}}\b{_PICTURE}\b"
        rf"|^(?:can you |could you |please |would you |now )*(?:describe|caption|summari[sz]e)(?: (?:this|it|that|what you (?:see|observe)|everything|what is (?:shown|visible|in view|going on|happening)|the whole))?(?: (?:in|with|for|as|using|please|briefly|here)\b{GAP}{{0,60}})?[.!?]*$"
        rf"|\btitle (?:for|to) (?:this|the) {_PICTURE}|\b(?:which|what) (?:sentence|caption|description|text|statement) (?:best )?(?:describes|fits|matches|summari[sz]es)\b{GAP}{{0,30}}\b{_PICTURE}"
        rf"|\b(?:tell me|say something|talk|write)\b{GAP}{{0,30}}\babout (?:this|the|that|my) {_PICTURE}|\bwhat you (?:see|observe|notice) in (?:this|the) {_PICTURE}"
        r"|\bwhat is this (?:a |an )?(?:photo|picture|image|painting|drawing|photograph) (?:of|about)|\b(?:tell me|say|explain|list|report) what (?:you (?:see|observe|notice)|is (?:visible|shown|going on|happening))\b(?! (?:on|under|behind|left|at|near|next))|^(?:can you |could you |please )*describe the (?:scenery|surroundings|setting|environment|atmosphere)|\bdescribe (?:what you (?:see|observe)|everything|what (?:the|this|that) (?:\w+ ){0,3}(?:sees|shows|depicts|camera))|\bwhat (?:this|the|that) (?:\w+ )?(?:image|picture|photo|photograph|painting|drawing) (?:shows|depicts|is about|is showing|represents|contains|portrays)",
        rf"\b(?:describe|description of|explain|about) (?:the |how )(?!(?:\w+ )?{_PICTURE}\b|following|given|provided|whole|entire|main|overall|visual|details|important|key|content)(?:\w+ ){{1,5}}(?:in|of|on|from|at) (?:the |this )(?:\w+ )?{_PICTURE}"
        r"|\b(?:why|what is (?:funny|unusual|strange))\b|\barrange(?:d|ment)\b|\blayout\b|\brelative (?:position|location)|\bwhat (?:does|is) the (?:background|caption)\b|\bcaption (?:say|says|read|reads|below|under|at)\b",
    ),
    _cue(
        "caption_open_question",
        "caption",
        "what what's can tell",
        rf"^(?:so |and |now |can you tell me |tell me |please tell me )*what(?: do you think)? (?:is|are|'s) (?:happening|going on|shown|depicted|displayed|taking place|being shown|seen|pictured|visible|the content)(?: (?:here|now))?(?: (?:in|on) (?:this|the|that) (?:\w+ )?{_PICTURE})?(?: here)?[?.! ]*$"
        rf"|^what (?:do|can) you (?:see|observe|make out)(?: happening| here)?(?: (?:in|on) (?:this|the|that) (?:\w+ )?{_PICTURE})?[?.! ]*$"
        rf"|^what (?:does|do) (?:this|the|that|these) {_PICTURE} (?:show|depict|display|contain|illustrate|portray|represent)s?[?.! ]*$|^what (?:is|are) (?:this|the|these) {_PICTURE} (?:about|of|showing)[?.! ]*$"
        rf"|^what is (?:in|on) (?:this|the) {_PICTURE}[?.! ]*$",
    ),
)
