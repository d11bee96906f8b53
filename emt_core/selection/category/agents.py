"""Demands about an embodied agent acting: its state, its next action, its success.

A robot in view changes nothing by itself: its colour is general VQA, the thing left of it is
spatial.
"""

from __future__ import annotations

from emt_core.selection.category.cue import Rule, Rules, any_of, filed

_R = r"(?:robot(?:'s|ic)?(?: arm)?|gripper(?:'s)?|end[- ]effector|manipulator|arm)"
_DO = "do|move|open|close|grasp|lift|release|push|pull|rotate|go|reach|act|pick|place|drop|turn"
_ATTRIBUTE = (
    "^(?:what|which) (?:is the |are the )?(?:color|material|shape|pattern|brand|kind|type)",
    "made (?:out )?of",
    "^how many",
    "what color",
)
_PERSON = (
    "man|woman|person|people|boy|girl|child|cook|chef|player|he|she|they|lady|guy|kid|baby|ego-centric person",
)

AGENT = Rules(
    Rule(
        "robot_chooses",
        "robot",
        (
            "(?:you are|as|imagine being) (?:a|an|the) (?:[a-z]+ ){0,2}(?:agent|robot)",
            "choose|select|pick|predict|output|what is|which .. (?:actions?|action:)",
            "move_?(?:forward|ahead)",
            "(?:available|possible|legal) actions",
            "(?:you (?:control|fly|pilot|drive|are controlling|steer|operate)|as the (?:[a-z]+ ){0,2}(?:pilot"
            "|controller|policy"
            "|planner|operator))",
            "velocity commands?",
            "low[- ]level (?:motion|action|command|control|skill)",
            r"\d-?dof|action (?:vectors?|tokens?|chunks?|sequences?|plans?|phases?)",
            "(?:joint|end[- ]effector) (?:angles?|positions?|displacement|pose|trajectory|delta)",
        ),
        ("man|woman|person|people|player|what action is .. taking",),
    ),
    Rule(
        "robot_next",
        "robot",
        (
            "(?:next|following|immediate) (?:[a-z]+[- ]){0,2}(?:motions?|skills?|commands?|primitives?|sub-?tasks?"
            "|sub-?goals?|actions?|waypoints?)",
            "skills?|primitives?|commands?|sub-?tasks? .. next|execute|executed|run|called",
            "sub-?(?:tasks?|goals?)",
            "given the (?:goal|task|instruction)",
            "(?:next|last) \\d+ steps?",
            "current goal is",
            "^(?:the |current |your )?(?:task|goal|instruction|command)(?: is| was|:) ?(?:to |['\"])?(?!describe"
            "|caption|write|answer|find|read)[a-z]+",
            "(?:actions?|tasks?|grasps?|manipulation) (?:phases?|stages?)",
            "phases? of .. action|grasp|task|motion",
            "(?:was|is) it (?:done|satisfied|possible)",
            "satisfied|possible right now",
        ),
        _PERSON,
    ),
    Rule(
        "robot_action",
        "robot",
        (
            f"what (?:[a-z]+ )?(?:actions?|motions?|commands?) (?:should|must|will|would|does|did|is) (?:the |a )?{_R}",
            f"what (?:the |this )?{_R} (?:did|does|is doing|will do|has done)",
            f"(?:which|what) (?:[a-z]+ )?(?:motions?|movements?) .. {_R}",
            f"{_R} .. (?:next|first) (?:[a-z]+ )?(?:action|step|sub-?task|move|phase|motion|skill|primitive)",
            f"next (?:[a-z]+ )?(?:action|step|sub-?task|move|phase|motion|skill) .. {_R}",
            f"{_R} .. supposed to|going to|about to|needs? to|has to|have to|should|must|will .. {_DO}|first|next"
            "|before|after",
            f"(?:should|must|will|does|did|would|can|could|is) (?:the |this )?{_R} .. {_DO}",
            f"{_R} .. trajectory|waypoints?|delta|plan|phase|stage",
            f"trajectory|waypoints?|path|plan|phase|stage .. {_R}",
            f"instructions?|commands?|tasks?|skills? .. trajectory|{_R}|demonstration|episode",
            f"{_R} .. instruction|command|performing|executing|carrying out",
        ),
        _ATTRIBUTE,
    ),
    Rule(
        "robot_state",
        "robot",
        (
            f"{_R} (?:fingers? )?(?:(?:is|are|currently|now|already|fully|still|completely) ){{0,3}}"
            "(?:open|opened|closed?|closing|opening|empty|holding|grasping|gripping|touching|moving|approaching"
            "|retreating|carrying|lifting|idle|stuck|aligned)",
            f"{_R} .. (?:is it|has it|does it) .. touching|contact|holding|hold|grasp|reach|reached|release",
            f"approaching|retreating .. {_R}",
            f"{_R} .. approaching|retreating",
            "grasp|grip .. stable|secure|firm|success|successful|fail|fails|failed|slipping|good|loose|state|quality",
            "(?:stable|secure|firm|successful|good) (?:grasp|grip)",
            "(?:held|grasped|gripped|carried|grabbed|holding|inside) (?:by |in )?(?:the |its )?(?:robot(?:'s|ic)?"
            " )?(?:gripper|end[- ]effector|robot|manipulator)",
            f"(?:is|has|does) (?:the )?{_R} .. contact|holding|hold|grasped|grasping|dropped|released|picked|lifted"
            "|finished|done",
            "(?:state|status|opening|aperture) of (?:the )?(?:robot(?:'s|ic)? )?(?:gripper|arm|end[- ]effector)",
            "(?:is|was|will|can|could|would|did|has) the (?:grasp|pick|pick-up|placement|insertion|pick and place)",
        ),
        _ATTRIBUTE,
    ),
    Rule(
        "robot_success",
        "robot",
        (
            "tasks?|goal|episode|instruction|attempt|rollout .. success|successful|successfully|succeed|succeeded"
            "|complete|completed|completion|finish|finished|fail|failed|failure|done|accomplished|achieved|satisfied"
            "|progress",
            "success|successful|successfully|completed?|completion|finish|finished|failed|accomplished|achieved"
            "|progress of .. task|goal|episode|instruction|attempt",
        ),
        _PERSON,
    ),
    Rule(
        "robot_obstacle",
        "robot",
        (
            f"{_R} .. obstacles?|obstruct|obstructed|collide|collision|unreachable|reachable|in the way|blocked"
            "|blocking|clearance",
            f"obstacles?|obstructs?|obstructing|collide|collision|blocked|blocking|blocks? (?:the|its|his) .. {_R}",
            f"{_R} .. (?:stop|stops|prevent|prevents|hinder|hinders|keep|keeps) (?:it|the [a-z]+) from",
        ),
        _ATTRIBUTE,
    ),
)

AGENT_NAMED = filed(
    "robot[a-z']*|grippers?|end[- ]effector|manipulator|humanoid|quadruped|quadrotor|drone|uav|agent"
    "|tele-?operated|bimanual|dual-arm|franka|ego[- ]vehicle",
    "autonomous|self-driving|wrist camera|shoulder camera|mobile base|(?:the|which|left|right) arm|the wrist"
    " (?:be|should|must|has)|the policy",
)
# An agent is named and it acts: asked only after every other demand has been ruled out.
AGENT_ACTS = any_of(
    (
        "has|have|had|should|will|can|could|would|must|next|tasks?|plans?|planning|steps?|actions?|commands?|skills?"
        "|motions?|moved?|moves|moving",
        "progress[a-z]*|reach[a-z]*|grasp[a-z]*|pick[a-z]*|place|placed|places|placing|insert[a-z]*|succe[a-z]+"
        "|fail[a-z]*|complet[a-z]+|instruct[a-z]+|approach[a-z]*|retreat[a-z]*",
        "contact|colli[a-z]+|ready|safe|stuck|hold[a-z]*|held|releas[a-z]+|open[a-z]*|close|closed|closing"
        "|execut[a-z]+|policy|trying|accomplish[a-z]*|doing|did|wrong|control",
        "slip[a-z]*|drop[a-z]*|push[a-z]*|pull[a-z]*|lift[a-z]*|grip[a-z]*|carry[a-z]*|turned|rotat[a-z]*|replan"
        "|attempt|phase|stage|goal",
    )
)
NOT_ACTING = any_of(
    (
        *_ATTRIBUTE,
        "^(?:is|are) there",
        "^does (?:this|the) (?:image|picture|photo)",
        "^(?:what|which) (?:objects?|items?|things?|tools?|fruits?|kinds?|types?|vehicles?|animals?|food|brand"
        "|number|text)",
        "^who",
        "toy|cartoon|costume|movie|statue|comic|drawing|lego|vacuum|dressed|film|mascot|painted",
    )
)
# The agent is only named by "it" once a conversation is about one.
OF_IT = any_of(("it|its",))

ARM = any_of(
    ("robot|robotic|gripper|end[- ]effector|manipulator|arm|action|actions|waypoints?|trajectory",)
)
MOTION = any_of(("trajectory|path|waypoints?|motion|action|actions|delta|move|next pose|joint",))
ABOUT_DATA = any_of(("(?:bar|line|pie|this|the) (?:chart|graph|table)|infographic",))
