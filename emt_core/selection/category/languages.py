"""Demands in other languages than English: a few deciding words a category, for the commonest.

Coarser than the English rules, and asked only where those found nothing. Coordinates, choices and a
missing image are judged before, alike in every language.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# In order of precedence. Latin-script words (de, fr, es, it, pt, nl) are whole words; zh, ja, ko,
# ru match anywhere.
_LATIN: Mapping[str, str] = {
    "other": (
        "gedicht|geschichte|märchen|witz|po[èeé]me?|po[eè]s[ií]a|poema|histoire|cuento|storia|barzelletta|chiste|chanson"
        "|canción|piada|hist[óo]ria"
    ),
    "grounding": (
        "markiere|koordinaten|begrenzungsrahmen|coordonnées|pointez|coordenadas|señala|apunta|coordinate"
        "|indica il punto|aponte"
    ),
    "chart": (
        r"diagramm\w*|balken\w*|tabelle|achse|graphique|diagramme|tableau|barres?|courbe|gr[áa]fic[oa]s?|diagrama|tabla"
        "|tabela|barras|tabella|grafiek"
    ),
    "attribute": (
        r"welche[rs]? farbe|wie viele|quelle couleur|combien d\w*|qué color|cuánt[oa]s|che colore|quant[ie]|que cor"
        "|quant[oa]s|welke kleur|hoeveel"
    ),
    "robot": r"robot\w*|greifer\w*|grijper|pinza|pince|bra[sz]o rob\w+|robô",
    "text": (
        "was steht|steht (?:auf|über|unter|neben) (?:dem|der|einem) (?:schild|plakat|etikett|tafel|karte|buch|zettel"
        "|t-shirt|flasche)|geschrieben|lies|lesen"
        "|(?:wer|qui|chi|quién|quem) (?:hat|schrieb|a écrit|ha scritto|escribió|escreveu)"
        "|titel|titre|título|titolo|écrit|lis(?:ez)?|que dit|marque|auteur|escrito|escrita|dice|lee|marca|autore?"
        "|pone en"
        "|scritto|leggi|diz|geschreven|staat er op|preis|prix|precio|prezzo|preço|kostet|cuesta|coûte|costa"
        "|hei(?:ß|ss)t (?:das|der|die|dieses)|s'appelle|se llama|si chiama|se chama"
    ),
    "caption": (
        r"beschreib\w*|bildunterschrift|décri(?:s|vez|re)|légende|describ[ea]\w*|describir|descríb[ea]\w*|pie de foto"
        r"|descrivi\w*|didascalia|descrev[ae]\w*|legenda|beschrijf"
        "|was ist (?:auf|in) (?:dem|diesem) (?:bild|foto) zu sehen|was siehst du|que vois-tu|que voit-on (?:sur|dans)"
        "|qué se ve|cosa vedi|o que você vê"
    ),
    "spatial": (
        "links|rechts|über de[mnr]|unter de[mnr]|hinter|vor de[mnr]|vor oder|zwischen|neben|näher"
        "|weiter (?:weg|entfernt)|wie (?:weit|hoch|groß|gross)|entfernung|abstand|welcher seite|richtung"
        "|gauche|droite|au-dessus|en dessous|sous l[ea]|derrière|devant|entre|à côté|plus (?:proche|près|loin)"
        "|quelle distance|quel côté|quelle direction"
        "|izquierda|derecha|encima|debajo|detrás|delante|al lado|más (?:cerca|lejos)|distancia|qué (?:lado|dirección)"
        r"|sinistra|destra|sopra|sotto|dietro|davanti|tra il|accanto|più vicin\w+|distanza|quale lato"
        "|esquerda|direita|acima|abaixo|atrás|na frente|ao lado|mais perto|distância|que lado"
        "|achter|tussen|naast|onder|boven|dichterbij|welke kant"
    ),
}
_OTHER_SCRIPT: Mapping[str, str] = {
    "other": (
        "写一?[首篇个]|故事|笑话|詩を|物語を|俳句|시를 써|이야기를|стихотворение|сказку|напиши (?:рассказ|историю)"
    ),
    "grounding": "坐标|边界框|座標|指差|좌표|координат",
    "chart": "图表|柱状图|折线图|饼图|表格|グラフ|그래프|차트|표에서|график|диаграмм|таблиц",
    "attribute": "颜色|多少|几[个只辆人]|何色|何人|何個|いくつ|何匹|무슨 색|몇 |какого цвета|сколько",
    "robot": "机器人|机械臂|夹爪|抓手|ロボット|グリッパ|로봇|그리퍼|робот|захват",
    "text": (
        "写着|写的|文字|文本|书名|作者|品牌|价格|叫什么名字|書いて|書かれ|読め|著者|値段|쓰여|적혀|글자|저자"
        "|написано|надпис|автор|прочита|цена"
    ),
    "caption": "描述|描写|说明这张|説明して|描写し|キャプション|설명해|묘사|опиши|что изображено",
    "spatial": (
        "哪一?[边侧]|左|右|上面|下面|后面|前面|之间|旁边|里面|外面|更近|更远|距离|方向"
        "|どちら側|上に|下に|後ろ|前に|間に|隣|近い|遠い|距離"
        "|어느 쪽|왼쪽|오른쪽|위에|아래|뒤에|앞에|사이|옆에|가까|방향"
        "|слева|справа|позади|перед|между|рядом|над |под |ближе|дальше|расстояни|какой стороны|направлени"
    ),
}
_CUES = {name: re.compile(rf"\b(?:{_LATIN[name]})\b|{_OTHER_SCRIPT[name]}") for name in _LATIN}
_WHERE = re.compile(
    r"\b(?:wo (?:ist|sind|steht|liegt|befindet)|où (?:est|sont|se trouve)|d[óo]nde|dove|onde|waar)\b|在哪|どこ|어디|где"
)
_ANSWER_RELATION = re.compile(
    rf"{_CUES['spatial'].pattern}"
    r"|\b(?:auf de[mr]|unter|unterm|sur l[ea]|dans le coin|sous|sobre|sul|em cima|op de|in der ecke|bajo|dentro)\b"
    r"|[上下里中前后後]"
)
_FOREIGN_WORD = re.compile(
    r"\b(?:was|wer|wie|wo|welche[rs]?|ist|sind|der|das|dem|diese[ms]?|eine?|zu|auf|est|les?|la|du|des?|une?|dans|sur|que"
    r"|quel(?:le)?|cu[áa]l|d[óo]nde|hay|los|las|una|en|el|cosa|dove|il|della|nella|che|di|qual|onde|esta|este|desta|uma"
    r"|imagem|imagen|o que|wat|welke|het|een)\b"
)


def foreign(stem: str) -> bool:
    """Probably not English: letters that English has not, or two words common elsewhere."""
    head = stem[:200]
    if not head.isascii() and any(char.isalpha() and char > "\x7f" for char in head):
        return True
    return len(_FOREIGN_WORD.findall(head)) >= 2


def classify(stem: str, answer: str) -> str:
    """A category, or "" without evidence. `stem` and `answer` are normalised (lower case, NFKC)."""
    for name, pattern in _CUES.items():
        if pattern.search(stem):
            return "vqa" if name == "attribute" else name
    if _WHERE.search(stem):
        return "spatial" if _ANSWER_RELATION.search(answer) else "vqa"
    return ""
