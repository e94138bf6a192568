"""Make assets/fonts/*.woff2 and assets/00-fonts.css from pinned npm packages. `make fonts` runs it.

Each face is cut to the characters this book uses and to the weights its style sheets use. Source Serif's and Inter's
optical size is fixed at the size of running text. The formula font keeps its OpenType MATH table with every glyph that
the table can call on (tall brackets, big sums, radical pieces), for browsers lay MathML out by that table.

The fonts' licence reserves some of their names for unchanged copies, so each cut face is renamed "Glass Box ...".

The style sheet also declares fallback faces: fonts that readers already have, scaled to the same average width and
given the same line box, so that text does not move when the real font arrives.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from fontTools.ttLib.tables._g_l_y_f import GlyphCoordinates
from fontTools.varLib.instancer import instantiateVariableFont

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "fonts"
FONTS = ROOT / "assets" / "fonts"
STYLE_SHEET = ROOT / "assets" / "00-fonts.css"

PACKAGES = (
    "source-serif@4.5.1",
    "inter-ui@4.1.1",
    "source-code-pro@2.42.0",
    "@fontsource/stix-two-math@5.3.0",
    # Measured only: Gelasio has the widths of Georgia.
    "@fontsource/gelasio@5.3.0",
    "@fontsource/roboto@5.3.0",
)
# Measured only, from Debian's fonts-liberation (the widths of Times New Roman, Arial, Courier New) and fonts-dejavu.
LIBERATION = Path("/usr/share/fonts/truetype/liberation")
DEJAVU = Path("/usr/share/fonts/truetype/dejavu")


def codes(ranges: str) -> set[int]:
    """Code points of "20-7E A0 2190-2199" (hexadecimal, both ends included)."""
    ends = [part.split("-") for part in ranges.split()]
    return {code for pair in ends for code in range(int(pair[0], 16), int(pair[-1], 16) + 1)}


LATIN = codes("20-7E A0-FF 131 152-153 192 2C6 2DA 2DC 300-304 308 2002-200A 2010-2015 2018-201E 2020-2022")
LATIN |= codes("2026 202F-2030 2032-2033 2039-203A 2044 20AC 2116 2122 FFFD")
MATHS = codes("2070-2071 2074-208E 2190-2199 21D0-21D4 2202 2206-2209 220F 2211-2212 2215 2217 2219-221A 221D-221E")
MATHS |= codes("2229-222B 2248 2260-2261 2264-2265 22C5 2308-230B 27E8-27E9 1D40")
GREEK = codes("391-3A1 3A3-3A9 3B1-3C9 3D5 3F5")
SIGNS = codes("2423 23CE 2500-2502 250C 2510 2514 2518 251C 2524 2580-2588 25A0-25A1 25AA-25AB 25B2 25B6 25BC 25C0")
SIGNS |= codes("25CB 25CF 2713 2717")
BASE = LATIN | MATHS | GREEK | SIGNS
EXTENDED = codes("100-17F 18F 1A0-1A1 1AF-1B0 1CD-1DC 1E6-1E7 218-21B 237 259 2BB-2BC 2C7 2D8-2DD 306-307 30A-30C")
EXTENDED |= codes("323 326-328 1E80-1E85 1E9E 1EA0-1EF9 20A9-20AB 20B9-20BA")
EXTENDED -= BASE

FORMULA = codes("20-7E A0 A8 AC AF B0 B1 B4 B7 D7 F7 131 237 2C6 2C7 2D8-2DD 300-304 307-308 30C 332 338 20D7")
FORMULA |= codes("391-3A1 3A3-3A9 3B1-3C9 3D1 3D5-3D6 3F0-3F1 3F5 2013-2014 2016 2018-201D 2020-2022 2026 2032-2034")
FORMULA |= codes("203E 2044 2057 2061-2064 2102 210B 210E-2113 2115 2118-211D 2124 212C 2130-2131 2133 2190-2199 21A6")
FORMULA |= codes("21D0-21D5 2200 2202-2209 220B 220F-2213 2215-221A 221D-221E 2220 2223 2225-222B 2236 223C 2243")
FORMULA |= codes("2245 2248 2254 225C 2260-2261 2264-2265 226A-226B 227A-227B 2282-2283 2286-2287 2295-2299 22A4-22A5")
FORMULA |= codes("22C5-22C6 22EE-22F1 2308-230B 23B4-23B5 23DC-23DF 25A1 25CB 27E8-27E9 27F5-27FA 27FC 2A7D-2A7E")
FORMULA |= codes(
    "1D400-1D4B5 1D538-1D550 1D6A8-1D6C0 1D6C2-1D6DA 1D6E2-1D6FA 1D6FC-1D714 1D716-1D71B 1D7CE-1D7D7 1D7D9"
)
# What running text may borrow from the formula font: signs, no letters or digits.
BORROWED = {code for code in FORMULA if 0x2016 <= code < 0x1D400 and code not in codes("2018-2026 2102-2133")}


@dataclass(frozen=True)
class Face:
    """One face to cut: where it comes from, what of it stays, and how the style sheet names it."""

    source: str
    name: str
    family: str
    keep: frozenset[int]
    axes: tuple[tuple[str, float | tuple[float, float]], ...] = ()
    features: tuple[str, ...] = ("kern", "mark", "mkmk", "ccmp", "locl")
    style: str = "normal"
    weight: str = "400 700"


SERIF = "source-serif/VAR/SourceSerif4Variable-{}.ttf"
INTER = "inter-ui/variable/InterVariable.woff2"
MONO = "source-code-pro/VF/SourceCodeVF-Upright.ttf"
STIX = "@fontsource/stix-two-math/files/stix-two-math-latin-400-normal.woff2"
TEXT = ("kern", "mark", "mkmk", "ccmp", "locl", "liga", "tnum")


def faces() -> list[Face]:
    """Every file of assets/fonts."""
    base, extended = frozenset(BASE), frozenset(EXTENDED)
    text_size = ("opsz", 18.0)
    roman, italic = SERIF.format("Roman"), SERIF.format("Italic")
    upright = (text_size, ("wght", (400.0, 700.0)))
    slanted = (text_size, ("wght", 400.0))
    sans = (("opsz", 14.0), ("wght", (400.0, 700.0)))
    code = (("wght", (400.0, 700.0)),)
    return [
        Face(roman, "serif", "Glass Box Serif", base, upright, TEXT),
        Face(roman, "serif-extended", "Glass Box Serif", extended, upright, TEXT),
        Face(italic, "serif-italic", "Glass Box Serif", frozenset(LATIN | GREEK), slanted, TEXT, "italic", "400"),
        Face(italic, "serif-italic-extended", "Glass Box Serif", extended, slanted, TEXT, "italic", "400"),
        Face(INTER, "sans", "Glass Box Sans", base, sans, (*TEXT, "zero")),
        Face(INTER, "sans-extended", "Glass Box Sans", extended, sans, (*TEXT, "zero")),
        Face(MONO, "mono", "Glass Box Mono", base, code),
        Face(MONO, "mono-extended", "Glass Box Mono", extended, code),
        Face(STIX, "math", "Glass Box Math", frozenset(FORMULA), features=("ccmp",), weight="400"),
    ]


def fetch_packages() -> Path:
    """Install the pinned packages into the cache; return their node_modules."""
    CACHE.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--prefix", str(CACHE), "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return CACHE / "node_modules"


def cut(face: Face, modules: Path) -> TTFont:
    """The face with only its characters, weights and features, under its new name."""
    font = TTFont(modules / face.source, recalcTimestamp=False)
    if "MATH" in font:
        grow_radicals_upwards(font)
    options = Options(
        layout_features=list(face.features),
        hinting=False,
        notdef_outline=True,
        name_IDs=[0, 1, 2, 4, 6, 13, 14],
        drop_tables=[*Options().drop_tables, "BASE", "DSIG", "gasp", "meta", "prep"],
    )
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=face.keep)
    subsetter.subset(font)
    if face.axes:
        font = instantiateVariableFont(font, dict(face.axes))
    if "STAT" in font:
        del font["STAT"]
    rename(font, face.family)
    return font


RADICAL_GROWTH = (300, 600, 950, 1350, 1800, 2400, 3200, 4200)


def grow_radicals_upwards(font: TTFont) -> None:
    """Make the tall root signs from the low one by lifting its bar, so that all are equally wide.

    Chromium keeps room for the widest root sign that the font has. STIX's tall ones are half as wide again as the low
    one, which would leave a hole after each root.
    """
    table, glyphs, widths = font["MATH"].table.MathVariants, font["glyf"], font["hmtx"]
    root = font.getBestCmap()[0x221A]
    construction = table.VertGlyphConstruction[table.VertGlyphCoverage.glyphs.index(root)]
    low = construction.MathGlyphVariantRecord[0]
    points = glyphs[root].coordinates
    bar = max(y for _, y in points) - 2 * font["MATH"].table.MathConstants.RadicalRuleThickness.Value
    records = [low]
    for growth in RADICAL_GROWTH:
        name, glyph, record = f"{root}.up{growth}", deepcopy(glyphs[root]), deepcopy(low)
        glyph.coordinates = GlyphCoordinates([(x, y + growth if y > bar else y) for x, y in points])
        glyphs[name] = glyph
        widths[name] = widths[root]
        record.VariantGlyph, record.AdvanceMeasurement = name, low.AdvanceMeasurement + growth
        records.append(record)
    font.setGlyphOrder(glyphs.glyphOrder)
    construction.MathGlyphVariantRecord = records
    construction.VariantCount = len(records)
    construction.GlyphAssembly = None


def rename(font: TTFont, family: str) -> None:
    """Give the font a name of ours; its licence reserves the original one."""
    for record in font["name"].names:
        new = {1: family, 4: family, 6: family.replace(" ", "")}.get(record.nameID)
        if new:
            record.string = new


def save(font: TTFont, path: Path) -> None:
    """Write the font as WOFF2."""
    font.flavor = "woff2"
    font.save(path)


def unicode_range(characters: Iterable[int]) -> str:
    """CSS's unicode-range for these code points: "U+20-7E, U+A0"."""
    runs: list[list[int]] = []
    for code in sorted(characters):
        if runs and code == runs[-1][1] + 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return ", ".join(f"U+{low:X}" if low == high else f"U+{low:X}-{high:X}" for low, high in runs)


def face_rule(face: Face, font: TTFont) -> str:
    """The @font-face rule of a cut face. unicode-range lists what the file has, so that it is not fetched in vain."""
    covered = set(font.getBestCmap()) & face.keep
    lines = [
        f'font-family: "{face.family}";',
        f"font-style: {face.style};",
        f"font-weight: {face.weight};",
        "font-display: swap;",
        f'src: url("fonts/{face.name}.woff2") format("woff2");',
        f"unicode-range: {unicode_range(covered)};",
    ]
    return rule(lines)


def rule(lines: Iterable[str]) -> str:
    return "@font-face {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


# Letters of English prose per thousand characters (spaces included), to weigh the widths of a font.
PER_THOUSAND = (180, 102, 74, 66, 61, 57, 57, 52, 50, 49, 35, 33, 23, 23, 20, 18, 19, 16, 17, 15, 12, 8, 6, 10, 10)
FREQUENCIES = dict(zip(" etaoinshrdlucmfwygpbvk.,", PER_THOUSAND, strict=True))


def average_width(font: TTFont) -> float:
    """Mean advance of English text, in parts of the font size."""
    names, widths = font.getBestCmap(), font["hmtx"]
    total = sum(widths[names[ord(letter)]][0] * count for letter, count in FREQUENCIES.items())
    return total / sum(FREQUENCIES.values()) / font["head"].unitsPerEm


def line_box(font: TTFont) -> tuple[float, float, float]:
    """Ascent, descent and line gap that browsers use, in parts of the font size."""
    os2, hhea, em = font["OS/2"], font["hhea"], font["head"].unitsPerEm
    if os2.fsSelection & (1 << 7):
        return os2.sTypoAscender / em, -os2.sTypoDescender / em, os2.sTypoLineGap / em
    return hhea.ascent / em, -hhea.descent / em, hhea.lineGap / em


def fallback_rule(name: str, local: Iterable[str], real: TTFont, measured: TTFont) -> str:
    """A face over a font of the reader's, scaled and boxed like the real one."""
    scale = average_width(real) / average_width(measured)
    ascent, descent, gap = (100 * part / scale for part in line_box(real))
    return rule(
        [
            f'font-family: "{name}";',
            "src: " + ", ".join(f'local("{font}")' for font in local) + ";",
            f"size-adjust: {100 * scale:.2f}%;",
            f"ascent-override: {ascent:.2f}%;",
            f"descent-override: {descent:.2f}%;",
            f"line-gap-override: {gap:.2f}%;",
        ]
    )


def fallback_rules(real: dict[str, TTFont], modules: Path) -> dict[str, str]:
    """Rule of each fallback face by its name, in the order in which a style sheet should try them."""
    gelasio = modules / "@fontsource/gelasio/files/gelasio-latin-400-normal.woff2"
    roboto = modules / "@fontsource/roboto/files/roboto-latin-400-normal.woff2"
    arial = ("Arial", "Helvetica Neue", "Helvetica", "Liberation Sans", "Arimo")
    times = ("Times New Roman", "Liberation Serif", "Tinos", "Times")
    courier = ("Courier New", "Liberation Mono", "Cousine")
    rows: list[tuple[str, str, tuple[str, ...], Path]] = [
        ("Glass Box Serif", "as Georgia", ("Georgia", "Gelasio"), gelasio),
        ("Glass Box Serif", "as Times", times, LIBERATION / "LiberationSerif-Regular.ttf"),
        ("Glass Box Serif", "as DejaVu", ("DejaVu Serif",), DEJAVU / "DejaVuSerif.ttf"),
        ("Glass Box Sans", "as Arial", arial, LIBERATION / "LiberationSans-Regular.ttf"),
        ("Glass Box Sans", "as Roboto", ("Roboto",), roboto),
        ("Glass Box Sans", "as DejaVu", ("DejaVu Sans",), DEJAVU / "DejaVuSans.ttf"),
        ("Glass Box Mono", "as Courier", courier, LIBERATION / "LiberationMono-Regular.ttf"),
        ("Glass Box Mono", "as DejaVu", ("DejaVu Sans Mono", "Menlo"), DEJAVU / "DejaVuSansMono.ttf"),
    ]
    return {
        f"{family} {suffix}": fallback_rule(f"{family} {suffix}", local, real[family], TTFont(path))
        for family, suffix, local, path in rows
    }


HEAD = "/* Made by scripts/make_fonts.py (`make fonts`); change it there. Licences: fonts/LICENSES.md. */\n\n"


def stacks(fallbacks: Iterable[str]) -> str:
    """The four font stacks as custom properties, and formulas set in the formula font."""
    names = list(fallbacks)

    def stack(family: str, last: str) -> str:
        mine = [family, "Glass Box Signs", *(name for name in names if name.startswith(family))]
        return ", ".join(f'"{name}"' for name in mine) + f", {last}"

    return (
        ":root {\n"
        f"  --font-serif: {stack('Glass Box Serif', 'serif')};\n"
        f"  --font-sans: {stack('Glass Box Sans', 'system-ui, sans-serif')};\n"
        f"  --font-mono: {stack('Glass Box Mono', 'ui-monospace, monospace')};\n"
        '  --font-math: "Glass Box Math", math, "Cambria Math", "STIX Two Math", serif;\n'
        "}\n\n"
        "math {\n  font-family: var(--font-math);\n}\n"
    )


def main() -> None:
    modules = fetch_packages()
    FONTS.mkdir(parents=True, exist_ok=True)
    real: dict[str, TTFont] = {}
    rules = []
    for face in faces():
        font = cut(face, modules)
        save(font, FONTS / f"{face.name}.woff2")
        rules.append(face_rule(face, font))
        real.setdefault(face.family, font)
        if face.name == "math":
            rules.append(face_rule(replace(face, family="Glass Box Signs", keep=frozenset(BORROWED)), font))
        print(f"{face.name:24}{(FONTS / f'{face.name}.woff2').stat().st_size:8} bytes")
    fallbacks = fallback_rules(real, modules)
    STYLE_SHEET.write_text(HEAD + "\n".join([*rules, *fallbacks.values(), stacks(fallbacks)]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
