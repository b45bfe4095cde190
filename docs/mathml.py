"""Formulas as MathML, which browsers show without a script. latex2mathml does the work; what it and browsers disagree about is here."""
import html
import re
import unicodedata

from latex2mathml.converter import convert

ARGUMENT = r"(?:\{(?:[^{}]|\{[^{}]*\})*\}|\\[A-Za-z]+|[A-Za-z\d])"    # what a subscript may be: braces, a command, a letter, a digit
FUNCTION = r"\\(?:operatorname\*?\{\w+\}|(?:log|ln|exp|cos|sin|tanh|max|min|det)(?![A-Za-z]))"
IN_TEX = [
    (r"\{aligned\}", r"{align*}"),
    (r"\\arg(?![A-Za-z])", r"\\operatorname{arg}"),
    (r"\\[lr]vert(?![A-Za-z])", "|"), (r"\\[lr]Vert(?![A-Za-z])", r"\\|"),
    (r"\\(math\w+|boldsymbol)\s*(\\[A-Za-z]+|(?<=\s)\w)", r"\\\1{\2}"),                 # \mathbb R as \mathbb{R}
    (rf"(\\[A-Za-z]+|[\w)}}\]])\s*(?={FUNCTION})", lambda m: m[1] + ("" if m[1][0] == "\\" else r"\,")),   # a log, as TeX spaces it
    (rf"({FUNCTION}(?:[_^]{ARGUMENT})*)\s*(?=[A-Za-z\d]|\\(?!left|[bB]ig|[,!; ]|q?quad))", r"\1\\,"),              # log a, but log(a)
]
IN_BLOCK = [(rf"\\(?:operatorname\*\{{(\w+)\}}|(max|min))_({ARGUMENT})",                # a domain goes below its operator
             lambda m: rf"\underset{{{m[3]}}}{{\operatorname{{{m[1] or m[2]}}}}}")]
IN_MARKUP = [
    (r"<mo>((?!mod)[A-Za-z]{2,}|&#x0221E;)</mo>", r"<mi>\1</mi>"),                      # no space beside a function's name and infinity
    (r'<mo stretchy="false">&#x0007C;|<mo>&#x0002F;', lambda m: m[0].replace("<mo", '<mo lspace="0" rspace="0"')),          # | and /
    (r"(<mo[^>]*>(?!&#x0(?:0029|005D|007D|007C|2016|0021);|[])}|!])[^<]+</mo>)<mo>&#x02212;", r'\1<mo form="prefix">&#x02212;'),    # = -1
    (r'"(negative)?(thin|medium|thick)mathspace"', lambda m: f'"{"-"*bool(m[1])}{dict(thin=3, medium=4, thick=5)[m[2]]/18:.3f}em"'),
    (r'<(m[in]) mathvariant="(bold|bold-italic|double-struck)">([^<]+)</m[in]>',
     lambda m: f"<{m[1]}>{styled(html.unescape(m[3]), m[2])}</{m[1]}>"),
]


def styled(char, style):
    "A bold or blackboard letter or digit as a character of its own, for browsers know no attribute for it."
    name = re.sub(r"GREEK |LATIN |LETTER ", "", unicodedata.name(char))
    return unicodedata.lookup(f"MATHEMATICAL {style.upper().replace('BOLD-', 'BOLD ')} {name}")


def mathml(tex: str, display: str) -> str:
    "A formula in TeX as MathML, `display` being inline or block; a ValueError names what is not known."
    for pattern, change in IN_TEX + (IN_BLOCK if display == "block" else []): tex = re.sub(pattern, change, tex)
    markup = convert(tex.replace(r"\operatorname*", r"\operatorname"), display=display)
    for pattern, change in IN_MARKUP: markup = re.sub(pattern, change, markup)
    if unknown := re.search(r'>(\\[A-Za-z]*|&)<|mathvariant="(?!normal)[^"]*"', markup):
        raise ValueError(f"{unknown[1] or unknown[0]} in the formula {tex!r} is not known")
    return markup
