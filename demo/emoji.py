"""Real-world concepts as pictures: Noto Color Emoji glyphs (OFL) on smooth backgrounds.

The concept list is curated from Unicode names: things a person would name the same way on sight.
Faces, symbols, gestures and near-duplicates ("cow" and "cow face") are left out.
"""

from __future__ import annotations

import colorsys
import unicodedata
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from demo.drawing import COLORS, as_meta, background, font, pick, place
from demo.layout_questions import Placed, pointing, relations
from demo.phrasing import article, ask, listing, plural
from demo.sample import Answered, DemoSample, Kind, samples_of
from emt_core.evaluation.recording.tasks import IMAGE_SIZE

EMOJI_FONT = "truetype/noto/NotoColorEmoji.ttf"
_STRIKE = 109
"""The only size this bitmap font has."""

_ANIMALS = (
    "RAT COW TIGER RABBIT CAT CROCODILE WHALE SNAIL SNAKE HORSE GOAT SHEEP MONKEY ROOSTER DOG PIG "
    "ELEPHANT OCTOPUS BUG ANT HONEYBEE|LADY BEETLE|FISH|TROPICAL FISH|TURTLE|BIRD|PENGUIN|KOALA|"
    "POODLE|DOLPHIN|FROG FACE|PANDA FACE|BEAR FACE|WOLF FACE|FOX FACE|LION FACE|CRAB|SCORPION|"
    "TURKEY|EAGLE|DUCK|BAT|SHARK|OWL|BUTTERFLY|DEER|GORILLA|LIZARD|SHRIMP|SQUID|GIRAFFE FACE|ZEBRA "
    "FACE|HEDGEHOG|KANGAROO|PEACOCK|PARROT|LOBSTER|SWAN|FLAMINGO|OTTER|SPIDER|BABY CHICK|UNICORN "
    "FACE|DRAGON"
)
_FOOD = (
    "HOT DOG|TACO|HOT PEPPER|MUSHROOM|TOMATO|AUBERGINE|GRAPES|WATERMELON|TANGERINE|LEMON|BANANA|"
    "PINEAPPLE|RED APPLE|GREEN APPLE|PEAR|PEACH|CHERRIES|STRAWBERRY|HAMBURGER|POULTRY LEG|BREAD|"
    "FRENCH FRIES|DOUGHNUT|COOKIE|CANDY|LOLLIPOP|BIRTHDAY CAKE|WINE GLASS|BEER MUG|BABY BOTTLE|"
    "POPCORN|CROISSANT|AVOCADO|CUCUMBER|BACON|POTATO|CARROT|EGG|KIWIFRUIT|PANCAKES|COCONUT|"
    "BROCCOLI|PRETZEL|SANDWICH|CHEESE WEDGE|CUPCAKE|GARLIC|ONION|WAFFLE|TEAPOT|HONEY POT|CHESTNUT"
)
_PLANTS = (
    "SEEDLING|EVERGREEN TREE|PALM TREE|CACTUS|TULIP|ROSE|SUNFLOWER|MAPLE LEAF|BOUQUET|"
    "POTTED PLANT|SHAMROCK"
)
_OBJECTS = (
    "CLOSED UMBRELLA|THERMOMETER|RIBBON|WRAPPED PRESENT|BALLOON|GRADUATION CAP|SCHOOL SATCHEL|"
    "MICROPHONE|MOVIE CAMERA|HEADPHONE|ARTIST PALETTE|TOP HAT|TICKET|VIDEO GAME|DIRECT HIT|GAME "
    "DIE|BOWLING|SAXOPHONE|GUITAR|TRUMPET|VIOLIN|TROPHY|AMERICAN FOOTBALL|VOLLEYBALL|SOCCER BALL|"
    "BASEBALL|CROWN|EYEGLASSES|NECKTIE|T-SHIRT|JEANS|DRESS|HANDBAG|ATHLETIC SHOE|HIGH-HEELED SHOE|"
    "LIPSTICK|SYRINGE|PILL|RING|GEM STONE|BOMB|MONEY BAG|CREDIT CARD|PERSONAL COMPUTER|BRIEFCASE|"
    "FLOPPY DISK|OPTICAL DISC|FILE FOLDER|CLIPBOARD|PUSHPIN|PAPERCLIP|STRAIGHT RULER|TRIANGULAR "
    "RULER|NOTEBOOK|OPEN BOOK|BOOKS|SCROLL|TELEPHONE RECEIVER|PACKAGE|POSTBOX|NEWSPAPER|MOBILE "
    "PHONE|CAMERA|TELEVISION|RADIO|SPEAKER|BATTERY|ELECTRIC PLUG|KEY|LOCK|BELL|ELECTRIC TORCH|"
    "WRENCH|HAMMER|MICROSCOPE|TELESCOPE|CANDLE|JOYSTICK|SPOON|BOXING GLOVE|SCARF|GLOVES|COAT|SOCKS|"
    "TEST TUBE|COMPASS|FIRE EXTINGUISHER|TOOLBOX|BRICK|MAGNET|TEDDY BEAR|BROOM|BASKET|SPONGE|CHAIR|"
    "RAZOR|AXE|BANJO|ACCORDION|COIN|SCREWDRIVER|LADDER|MIRROR|WINDOW|PLUNGER|BUCKET|TOOTHBRUSH|"
    "FEATHER|JAR|ANCHOR|PENCIL|ENVELOPE|GEAR|DOOR|TOILET|BATHTUB|BED|SHOPPING TROLLEY|KITE|"
    "STETHOSCOPE|UMBRELLA|SCALES"
)
_PLACES_AND_VEHICLES = (
    "RAINBOW|VOLCANO|CRESCENT MOON|GLOWING STAR|FERRIS WHEEL|HOUSE BUILDING|SCHOOL|FACTORY|"
    "EUROPEAN CASTLE|MOUNTAIN|FOUNTAIN|TENT|FUEL PUMP|CLOUD|SNOWMAN|SNOWFLAKE|FIRE|DROPLET|GHOST|"
    "SKULL|ROCKET|HELICOPTER|STEAM LOCOMOTIVE|BUS|AMBULANCE|FIRE ENGINE|POLICE CAR|TAXI|AUTOMOBILE|"
    "DELIVERY TRUCK|TRACTOR|SHIP|SPEEDBOAT|SAILBOAT|BICYCLE|MOTOR SCOOTER|CANOE|SLED|FLYING SAUCER|"
    "SKATEBOARD|AIRPLANE|ROBOT FACE|RINGED PLANET|OCTAGONAL SIGN"
)
_NICER = {
    "automobile": "car",
    "athletic shoe": "sneaker",
    "headphone": "headphones",
    "personal computer": "laptop",
    "mobile phone": "phone",
    "house building": "house",
    "european castle": "castle",
    "octagonal sign": "stop sign",
    "electric torch": "torch",
    "kiwifruit": "kiwi",
    "cheese wedge": "cheese",
    "wrapped present": "present",
    "direct hit": "dartboard",
    "game die": "die",
    "optical disc": "disc",
    "lady beetle": "ladybird",
    "honeybee": "bee",
    "poultry leg": "chicken leg",
    "straight ruler": "ruler",
    "triangular ruler": "set square",
    "telephone receiver": "telephone",
    "school satchel": "school bag",
    "steam locomotive": "locomotive",
    "ringed planet": "planet",
    "glowing star": "star",
    "crescent moon": "moon",
    "video game": "game controller",
    "american football": "football",
}


def _concepts() -> dict[str, str]:
    first, rest = _ANIMALS.split(" HONEYBEE", 1)
    names = first.split() + f"HONEYBEE{rest}".split("|")
    for group in (_FOOD, _PLANTS, _OBJECTS, _PLACES_AND_VEHICLES):
        names += group.split("|")
    table = {}
    for unicode_name in names:
        plain = unicode_name.lower().removesuffix(" face")
        table[_NICER.get(plain, plain)] = unicodedata.lookup(unicode_name)
    return table


CONCEPTS: dict[str, str] = _concepts()
"""concept -> character, in a fixed order."""

_NAMES = tuple(CONCEPTS)


@lru_cache(maxsize=512)
def glyph(name: str) -> Image.Image:
    """The concept's picture, RGBA, cropped to its ink."""
    face = font(EMOJI_FONT, _STRIKE)
    canvas = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((10, 10), CONCEPTS[name], font=face, embedded_color=True)
    return canvas.crop(canvas.getchannel("A").getbbox())


@lru_cache(maxsize=512)
def glyph_color(name: str) -> str | None:
    """The colour that most of the glyph has (at least 60 % of its ink), or None where no colour
    dominates."""
    pixels = np.asarray(glyph(name).resize((40, 40)))
    ink = pixels[pixels[..., 3] > 128][:, :3]
    named = np.stack([np.asarray(v) for v in COLORS.values()])

    # Hue first: nearest in RGB alone calls dark red brown and light blue grey.
    def place_of(rgb: np.ndarray) -> np.ndarray:
        hsv = np.array([colorsys.rgb_to_hsv(*(p / 255.0)) for p in rgb])
        angle = 2 * np.pi * hsv[:, 0]
        chroma = hsv[:, 1] * hsv[:, 2]
        return np.stack(
            [1.6 * chroma * np.cos(angle), 1.6 * chroma * np.sin(angle), hsv[:, 2]], axis=1
        )

    distance = np.linalg.norm(place_of(ink)[:, None] - place_of(named)[None], axis=-1)
    votes = np.bincount(distance.argmin(axis=1), minlength=len(named)) / len(ink)
    best = int(votes.argmax())
    return list(COLORS)[best] if votes[best] >= 0.6 else None


def _paste(
    rng: np.random.Generator, image: Image.Image, name: str, center: tuple[int, int], size: int
) -> Placed:
    """Draw one glyph and return it with a point on its ink (the ink pixel nearest to its centre of
    mass)."""
    picture = glyph(name)
    if rng.random() < 0.3:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.4:
        picture = picture.rotate(
            float(rng.uniform(-20, 20)), expand=True, resample=Image.Resampling.BICUBIC
        )
        picture = picture.crop(picture.getchannel("A").getbbox())
    scale = size / max(picture.size)
    picture = picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))),
        Image.Resampling.BOX,
    )
    left = center[0] - picture.width // 2
    top = center[1] - picture.height // 2
    image.paste(picture, (left, top), picture)
    rows, cols = np.nonzero(np.asarray(picture.getchannel("A")) > 200)
    if len(rows) == 0:
        rows, cols = np.nonzero(np.asarray(picture.getchannel("A")) > 0)
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (cols - cols.mean()) ** 2))
    return Placed(
        name=name,
        x=(left + cols[nearest] + 0.5) / IMAGE_SIZE,
        y=(top + rows[nearest] + 0.5) / IMAGE_SIZE,
    )


def draw_things(rng: np.random.Generator, key: str, split: str = "train") -> list[DemoSample]:
    """All questions about one image of one to five things; `split` changes nothing here (no strings
    are shown)."""
    del split
    image, color = background(rng)
    distinct = int(rng.choice([1, 2, 3, 4, 5], p=[0.12, 0.28, 0.34, 0.18, 0.08]))
    names = [_NAMES[i] for i in rng.choice(len(_NAMES), size=distinct, replace=False)]
    copies = [1] * distinct
    if rng.random() < 0.4:
        copies[0] = int(rng.integers(2, 6 if distinct < 4 else 4))
    drawn: list[str] = [n for n, c in zip(names, copies, strict=True) for _ in range(c)]
    largest = {1: 66, 2: 50, 3: 42, 4: 36, 5: 32, 6: 30}.get(len(drawn), 26)
    while True:
        sizes = [int(rng.integers(max(20, largest - 14), largest + 1)) for _ in drawn]
        centers = place(rng, sizes)
        if centers is not None:
            break
        largest = max(22, largest - 3)
    placed = [_paste(rng, image, n, c, s) for n, c, s in zip(drawn, centers, sizes, strict=True)]
    once = [p for p in placed if drawn.count(p.name) == 1]

    found: Answered = []

    def add(kind: Kind, question: str, answer: str, meta: dict | None = None) -> None:
        found.append((kind, question, answer, meta or {}))

    order = sorted(names, key=lambda n: min(p.x for p in placed if p.name == n))
    counts = dict(zip(names, copies, strict=True))
    phrases = [
        article(n) if counts[n] == 1 else f"{_NUMERALS[counts[n]]} {plural(n)}" for n in order
    ]
    ground = f" on a {color} background" if color else ""
    lead = "A picture of" if color else "A photo of"
    add(
        "caption",
        ask(rng, "caption"),
        f"{lead} {listing(phrases)}{ground}.",
        {"names": sorted(names)},
    )
    for q, a, m in pointing(rng, once, 3):
        add("point", q, a, m)
    if len(once) >= 2:
        for q, a, m in relations(rng, once, 3):
            add("spatial", q, a, m)
    which = names[0] if copies[0] > 1 else pick(rng, names)
    add("count", ask(rng, "count_one", things=plural(which)), str(counts[which]), {"of": which})
    if rng.random() < 0.5:
        add("count", ask(rng, "count_all"), str(len(drawn)), {"of": "all"})
    tinted = [n for n in names if counts[n] == 1 and glyph_color(n)]
    if tinted:
        n = pick(rng, tinted)
        add("colour", ask(rng, "colour_of", thing=n), str(glyph_color(n)), {"of": n})
    if color and rng.random() < 0.6:
        add("colour", ask(rng, "colour_background"), color, {"of": "background"})
    meta = {"family": "things", "marks": as_meta([(p.name, p.x, p.y) for p in placed])}
    return samples_of(image, key, found, style="plain", meta=meta)


_NUMERALS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
