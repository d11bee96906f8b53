"""Cues in other languages than English: the demands that separate the categories, for the languages that mixed sets hold most.

Only questions with few English cue words come here. Coordinates, choices and an image's absence are judged the same in
every language, before this.
"""

from __future__ import annotations

import re

# In order of precedence; one alternation a category, languages in the order de, fr, es, it, pt, nl, zh, ja, ko, ru.
_CUES: tuple[tuple[str, str], ...] = (
    (
        "grounding",
        r"\b(?:zeige auf|markiere|koordinaten|begrenzungsrahmen|coordonn[ée]es|pointez|coordenadas|se[ñn]ala|apunta|coordinate|indica il punto|aponte)\b|坐标|边界框|座標|指差|좌표|координат",
    ),
    (
        "chart",
        r"\b(?:diagramm\w*|balken\w*|tabelle|achse|liniendiagramm|kreisdiagramm|graphique|diagramme|tableau|barres?|courbe|gr[áa]fic[oa]s?|diagrama|tabla|tabela|barras|grafico|tabella|grafiek)\b|图表|柱状图|折线图|饼图|表格|グラフ|棒グラフ|円グラフ|표에서|그래프|차트|график|диаграмм|таблиц",
    ),
    (
        "robot",
        r"\b(?:robot\w*|greifer\w*|gr[ij]jper|pinza|pince|bra[sz]o rob\w+|rob[ôo])\b|机器人|机械臂|夹爪|抓手|ロボット|グリッパ|로봇|그리퍼|робот|захват",
    ),
    (
        "text",
        r"\b(?:steht (?:auf|in|[üu]ber|unter|neben|an)\b.{0,60}(?:schild|plakat|etikett|tafel|karte|buch|zettel|t-shirt|flasche)|was steht|geschrieben|schild\w* (?:steht|sagt)|lies|lesen|wer (?:hat|schrieb) .{0,20}buch|titel|[ée]crit|lis(?:ez)?|que dit|marque|auteur|titre|pr[ií]x|escrito|dice|lee|marca|autor|t[íi]tulo|pone en|scritto|leggi|autore|prezzo|titolo|escrita|diz|geschreven|staat er op|preis|kostet|precio|cu[áa]nto cuesta|combien co[uû]te|quanto costa)\b|写着|写的|文字|文本|书名|作者|品牌|价格|書いて|書かれ|読め|著者|値段|쓰여|적혀|글자|저자|написано|надпис|автор|прочита|цена",
    ),
    (
        "caption",
        r"\b(?:beschreib\w*|bildunterschrift|d[ée]cri(?:s|vez|re)|l[ée]gende|describ[ea]\w*|describir|descr[íi]b[ea]\w*|pie de foto|descrivi\w*|didascalia|descrev[ae]\w*|legenda|beschrijf|was ist (?:auf|in) (?:dem|diesem) (?:bild|foto) zu sehen|was siehst du|que vois-tu|que voit-on|qu[ée] (?:se )?ve[s]?|cosa vedi|o que voc[êe] v[êe])\b|描述|描写|说明这张|标题|説明して|描写し|キャプション|설명해|묘사|опиши|описание|что изображено",
    ),
    (
        "vqa",
        r"\b(?:welche farbe|wie viele|welche[sr]? (?:art|tier)|de quelle couleur|quelle couleur|combien d|qu[ée] color|de qu[ée] color|cu[áa]nt[oa]s|di che colore|quant[ie]|que cor|qual [ée] a cor|quant[oa]s|welke kleur|hoeveel)\b|什么颜色|多少|几个|几只|几辆|何色|何人|何個|いくつ|何匹|무슨 색|몇 |какого цвета|сколько",
    ),
    (
        "spatial",
        r"\b(?:welcher seite|welche richtung|richtung|quel c[ôo]t[ée]|quelle direction|qu[ée] lado|qu[ée] direcci[óo]n|quale lato|que lado|welke kant|links|rechts|[üu]ber dem|unter dem|hinter|vor de[mnr]|vor oder|zwischen|neben|n[äa]her|weiter (?:weg|entfernt)|wie weit|wie hoch|wie gro[ßs]+|entfernung|abstand|gauche|droite|au-dessus|en dessous|sous l[ea]|derri[èe]re|devant|entre|à c[ôo]t[ée]|plus proche|quelle distance|plus loin|loin"
        r"|izquierda|derecha|encima|debajo|detr[áa]s|delante|al lado|m[áa]s cerca|m[áa]s lejos|distancia|sinistra|destra|sopra|sotto|dietro|davanti|tra il|accanto|pi[ùu] vicin\w+|distanza|esquerda|direita|acima|abaixo|atr[áa]s|na frente|ao lado|mais perto|dist[âa]ncia|achter|tussen|naast|onder|boven|dichterbij)\b"
        r"|哪一?[边侧]|どちら側|어느 쪽|左|右|上面|下面|后面|前面|之间|旁边|里面|外面|更近|更远|距离|上に|下に|後ろ|前に|間に|隣|近い|遠い|距離|왼쪽|오른쪽|위에|아래|뒤에|앞에|사이|옆에|가까|слева|справа|позади|перед|между|рядом|над |под |ближе|дальше|расстояние|какой стороны|направлени|方向|방향",
    ),
)
_COMPILED = tuple((name, re.compile(pattern)) for name, pattern in _CUES)
_WHERE = re.compile(r"\b(?:wo (?:ist|sind|steht|liegt|befindet)|o[ùu] (?:est|sont|se trouve)|d[óo]nde|dove|onde|waar)\b|在哪|どこ|어디|где")
_RELATION_ANSWER = re.compile(_CUES[-1][1] + r"|\b(?:auf dem|unter|unterm|sur l[ea]|dans le coin|sobre|sul|em cima|op de|in der ecke|bajo|dentro|debaixo)\b|上|下|里|中|前|後|边")
_FOREIGN = re.compile(
    r"[^\x00-\x7f]|\b(?:was|wer|wie|wo|welche[rs]?|ist|sind|der|das|dem|auf|qu'est|quelle?|est-ce|est|les|une|dans|que|qu[ée]|cu[áa]l|d[óo]nde|hay|los|las|una|en la|el|cosa|dove|il|della|nella|che|qual|onde|est[áa]|uma|wat|welke|het|een)\b"
)


def foreign(stem: str) -> bool:
    """Probably not English. Quick and generous: English cues are asked first."""
    head = stem[:200]
    if not head.isascii() and any(ord(c) > 0xBF for c in head):
        return True
    return len(_FOREIGN.findall(head)) >= 2


def classify(stem: str, answer: str) -> str:
    """A category, or "" without evidence. `stem` and `answer` are normalised (lower case, NFKC)."""
    for name, pattern in _COMPILED:
        if pattern.search(stem):
            return name
    if _WHERE.search(stem):
        return "spatial" if _RELATION_ANSWER.search(answer) else "vqa"
    return ""
